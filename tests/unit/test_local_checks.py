"""The checks of `dropline up` before the first service starts."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.exit_codes import ExitCode
from cli.main import app
from dropline.errors import LocalStackError, SettingsError
from local_emulators import checks
from local_emulators.checks import check_model, check_postgres, check_redis
from local_emulators.directory import StackDirectory
from local_emulators.errors import MissingBinaryError
from local_emulators.options import StackOptions


@pytest.mark.parametrize("model", ["demo", "base", "stub", "florence-community/Florence-2-base-ft"])
def test_models_that_need_no_directory_pass(model: str) -> None:
    """`demo`, `stub` and hub names pass; the worker looks up a hub name."""
    check_model(model)


@pytest.mark.parametrize("model", ["nosuch", "./no/such", "/no/such", "a/b/c", ""])
def test_a_model_that_is_nowhere_is_named_with_its_option(model: str) -> None:
    """A model is refused if the text is neither a directory nor a hub name."""
    with pytest.raises(LocalStackError, match=r"^--model: "):
        check_model(model)


def test_a_directory_needs_weights(tmp_path: Path) -> None:
    """An empty directory and a file are refused; a directory with weights passes."""
    with pytest.raises(LocalStackError, match=r"^--model: .* holds no \*\.safetensors"):
        check_model(str(tmp_path))
    weights = tmp_path / "model.safetensors"
    weights.touch()
    check_model(str(tmp_path))
    with pytest.raises(LocalStackError, match=r"^--model: .* is a file"):
        check_model(str(weights))


def test_a_wrong_url_is_reported_with_the_option() -> None:
    """The error shows the expected form of the URL."""
    with pytest.raises(SettingsError, match=r"^--database-url must look like"):
        check_postgres("foo")
    with pytest.raises(SettingsError, match=r"^--database-url has the parameter schema, .*remove it"):
        check_postgres("postgresql://127.0.0.1:1/d?schema=public")
    with pytest.raises(LocalStackError, match=r"--database-url .*invalid port number"):
        check_postgres("postgresql://127.0.0.1:99999/d")
    with pytest.raises(SettingsError, match=r"^--redis-url must look like"):
        check_redis("foo")
    with pytest.raises(SettingsError, match=r"^--redis-url must end in the number"):
        check_redis("redis://127.0.0.1:1/notanumber")


def test_a_directory_error_names_the_option(tmp_path: Path) -> None:
    """A file, a path below a file, and a directory in place of the `env` file each give a single sentence."""
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "project" / "env").mkdir(parents=True)
    for path, reason in (
        (file, "it is not a directory"),
        (file / "below", "Not a directory"),
        (tmp_path / "project", "env"),
    ):
        directory = StackDirectory(path)
        with pytest.raises(LocalStackError, match=rf"{path} cannot be .*{reason}.* --dir"):
            directory.acquire()
        directory.release()


def test_a_misspelt_setting_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` prints a single line, returns the exit code of wrong settings, and creates no directory."""
    monkeypatch.setenv("DROPLINE_WORKER__CONCURENCY", "2")
    result = CliRunner().invoke(app, ["up", "--dir", str(tmp_path / "stack"), "--port-base", "18400"])
    assert result.exit_code == ExitCode.SETTINGS
    assert "did you mean DROPLINE_WORKER__CONCURRENCY?" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "stack").exists()


def test_a_missing_flower_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--flower` without the extra names the extra, before any service starts."""
    monkeypatch.setattr(checks, "find_spec", lambda _name: None)
    with pytest.raises(MissingBinaryError, match=r"dropline\[flower\]") as caught:
        checks.check(StackOptions(flower=True))
    assert "\n" not in str(caught.value)


def test_a_directory_of_a_failed_start_is_removed(tmp_path: Path) -> None:
    """If the start has created it, and no service has written to it."""
    for name, is_there_before, has_logs in (("new", False, False), ("old", True, False), ("logs", False, True)):
        path = tmp_path / name
        if is_there_before:
            path.mkdir()
        directory = StackDirectory(path)
        directory.acquire()
        if has_logs:
            directory.logs.mkdir()
        directory.remove_if_unused()
        directory.release()
        assert path.exists() is (is_there_before or has_logs), name


def test_without_a_stack_there_is_nothing_to_stop(tmp_path: Path) -> None:
    """A directory that is not there, and one whose stack has stopped or crashed; no process is signalled."""
    path = tmp_path / "stack"
    for _ in range(2):
        result = CliRunner().invoke(app, ["down", "--dir", str(path)])
        assert (result.exit_code, result.stdout) == (ExitCode.OK, "")
        assert result.stderr == f"no local stack runs in {path}\n"
        directory = StackDirectory(path)
        directory.acquire()
        directory.release()


@pytest.mark.parametrize("holder", ["", "4194304999", "no number"])
def test_a_stack_that_cannot_be_signalled_is_told(tmp_path: Path, holder: str) -> None:
    """As that of another container, whose process has no number here."""
    directory = StackDirectory(tmp_path / "stack")
    directory.acquire()
    (tmp_path / "stack" / "lock").write_text(holder)
    result = CliRunner().invoke(app, ["down", "--dir", str(tmp_path / "stack")])
    assert result.exit_code == ExitCode.FAILED
    assert "cannot be stopped from here" in result.stderr
    directory.release()

"""The next commands printed by `dropline up` and `dropline demo` work in the user's shell."""

import sys
from pathlib import Path

import pytest

from cli.up import drop_lines, shell_word


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a virtual environment in `.venv`, which is not on PATH."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "gsutil", "dropline"):
        (programs / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    return programs


@pytest.mark.usefixtures("environment")
def test_programs_that_are_not_on_path_are_named_with_their_place() -> None:
    """Neither `gsutil` nor `dropline` of a checkout is on PATH."""
    assert drop_lines(Path.cwd() / ".local" / "env") == [
        "source .local/env",
        ".venv/bin/gsutil cp photo.jpg gs://$DROPLINE_BUCKET/",
        ".venv/bin/dropline drop photo.jpg --wait",
    ]


def test_programs_on_path_are_named_alone(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the virtual environment activated, the bare name is enough."""
    monkeypatch.setenv("PATH", str(environment))
    assert shell_word("gsutil") == "gsutil"


def test_a_missing_program_keeps_its_name(environment: Path) -> None:
    """Without gsutil the bare name is printed, as the program to install."""
    (environment / "gsutil").unlink()
    assert shell_word("gsutil") == "gsutil"


@pytest.mark.usefixtures("environment")
def test_places_elsewhere_are_whole_and_quoted() -> None:
    """A directory with a space survives the shell."""
    assert drop_lines(Path("/var/a b/env"))[0] == "source '/var/a b/env'"

"""The command line: help, usage errors, exit codes, and the sections of docs/cli.md."""

import ast
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.core import TyperOption
from typer.testing import CliRunner

from cli.exit_codes import ExitCode, code_of
from cli.main import COMMANDS, app, load_command
from dropline.contract import parse_uri
from dropline.errors import (
    AccessDenied,
    ClientError,
    DatabaseUnavailable,
    ForeignBucket,
    InvalidTask,
    LocalStackError,
    ObjectFiltered,
    SettingsError,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the developer's shell."""
    for name in (
        *("DATABASE_URL", "DROPLINE_DATABASE__URL", "DROPLINE_BROKER__URL"),
        *("DROPLINE_BUCKET", "STORAGE_EMULATOR_HOST"),
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), ExitCode.SETTINGS),
        (ClientError("x"), ExitCode.USAGE),
        (InvalidTask("x"), ExitCode.USAGE),
        (ForeignBucket("x"), ExitCode.USAGE),
        (ObjectFiltered("x"), ExitCode.FILTERED),
        (DatabaseUnavailable("x"), ExitCode.UNAVAILABLE),
        (AccessDenied("x"), ExitCode.FAILED),
        (LocalStackError("x"), ExitCode.FAILED),
    ],
)
def test_an_error_becomes_one_line_and_a_code(error: Exception, code: ExitCode) -> None:
    """Each kind of error has an exit code."""
    assert code_of(error) is code  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["sql", "SELECT 1"], ExitCode.SETTINGS, "DROPLINE_DATABASE__URL is not set"),
        (["status"], ExitCode.SETTINGS, "DROPLINE_DATABASE__URL is not set"),
        (["status"], ExitCode.SETTINGS, "`source .local/env`"),
        (["drop", "x.jpg"], ExitCode.SETTINGS, "DROPLINE_BUCKET is not set"),
        (["drop", "no-such.jpg", "--bucket", "b"], ExitCode.USAGE, "no-such.jpg is not there"),
        (["drop", "x.jpg", "--bucket", "b", "--task", "<NOPE>"], ExitCode.USAGE, "not a task of Florence-2"),
        (["wait", "b/n"], ExitCode.SETTINGS, "DROPLINE_DATABASE__URL is not set"),
        (["wait", "gs://b/n"], ExitCode.SETTINGS, "DROPLINE_DATABASE__URL is not set"),
        (["drop", "x.jpg", "--bucket", "b", "--wait"], ExitCode.SETTINGS, "DROPLINE_DATABASE__URL is not set"),
        (["sql", "SELECT 1", "--json", "--csv"], ExitCode.USAGE, "exclude each other"),
        (["redrive", "--all"], ExitCode.SETTINGS, "DROPLINE_DATABASE__URL is not set"),
        (["redrive"], ExitCode.USAGE, "which rows?"),
        (["redrive", "--limit", "3", "--dry-run"], ExitCode.USAGE, "which rows?"),
        (["redrive", "--all", "--bucket", "b"], ExitCode.USAGE, "exclude each other"),
        (["redrive", "b/n"], ExitCode.USAGE, "not the URI of an object"),
        (["redrive", "--since", "yesterday"], ExitCode.USAGE, "write 90m, 2h, 7d"),
        (["redrive", "--error-code", "invalid_task"], ExitCode.USAGE, "caption-task"),
        (["drop"], ExitCode.USAGE, "Missing argument"),
        (["frobnicate"], ExitCode.USAGE, "No such command"),
        (["status", "--frobnicate"], ExitCode.USAGE, "No such option"),
    ],
)
def test_mistakes_are_told_without_a_traceback(arguments: list[str], code: ExitCode, told: str) -> None:
    """Standard error names the mistake, and standard output stays empty."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code
    assert told in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_a_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable stops every command with exit code 3 and a single line."""
    monkeypatch.setenv("DROPLINE_BUKET", "x")
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == ExitCode.SETTINGS
    assert result.stderr == "error: DROPLINE_BUKET is not a setting of Dropline; did you mean DROPLINE_BUCKET?\n"


@pytest.mark.parametrize("variable", ["DATABASE_URL", "DROPLINE_DATABASE__URL"])
@pytest.mark.parametrize("url", ["foo", "postgresql://u:hunter2@h:port/x"])
@pytest.mark.parametrize("command", [["sql", "SELECT 1"], ["status"]])
def test_a_wrong_url_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str, command: list[str]
) -> None:
    """The error names the variable, and not the value, which may contain a password."""
    monkeypatch.setenv(variable, url)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == ExitCode.SETTINGS
    assert result.stderr.startswith(f"error: {variable} must look like postgresql://user:password@host:port/name")
    assert result.stderr.count("\n") == 1
    assert "hunter2" not in result.stderr


def test_a_redrive_without_redis_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis a redrive ends before the first statement, with the name of the setting."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", "postgresql://u@127.0.0.1:1/x")
    result = CliRunner().invoke(app, ["redrive", "--all"])
    assert result.exit_code == ExitCode.SETTINGS
    assert "DROPLINE_BROKER__URL is not set" in result.stderr


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with 130, the exit code of shells."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.status.load_settings", interrupted)
    assert CliRunner().invoke(app, ["status"]).exit_code == ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("gs://b/n", ("b", "n", None)),
        ("gs://b/n#12", ("b", "n", 12)),
        ("gs://b/a #1/ü?%2F.jpg#7", ("b", "a #1/ü?%2F.jpg", 7)),
        ("gs://b//n", ("b", "/n", None)),
        ("gs://b/n#x", ("b", "n#x", None)),
        ("gs://b/n#1#2", ("b", "n#1", 2)),
    ],
)
def test_uris_are_read_as_gsutil_writes_them(uri: str, parts: tuple[str, str, int | None]) -> None:
    """Only digits after the last `#` are a generation."""
    assert parse_uri(uri) == parts


@pytest.mark.parametrize("uri", ["", "b/n", "gs://b", "gs://b/", "gs:///n", "s3://b/n"])
def test_a_wrong_uri_is_refused(uri: str) -> None:
    """The error shows the form of a URI."""
    with pytest.raises(ClientError, match="gs://BUCKET/NAME"):
        parse_uri(uri)


def test_help_starts_without_the_heavy_libraries() -> None:
    """`dropline --help` imports no command, no database, no cloud library and no model."""
    source = (
        "import sys; from cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'sqlalchemy', 'psycopg', 'google.cloud.storage', 'torch', 'celery', 'redis', 'pydantic'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_of_commands_has_the_first_line_of_each_help(name: str) -> None:
    """`dropline --help` and `dropline COMMAND --help` agree."""
    command = load_command(name)
    assert command.name == name
    assert (command.help or "").partition("\n\n")[0] == COMMANDS[name]


def test_command_modules_import_at_their_top() -> None:
    """The call of a command imports its module, so `dropline --help` does not pay for these imports."""
    inside = [
        f"{path.name}:{node.lineno}"
        for path in sorted((ROOT / "cli").glob("*.py"))
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) and path.name != "main.py"
    ]
    assert inside == []


def test_help_lists_the_commands_in_order() -> None:
    """The help has each command with the first words of the summary."""
    shown = CliRunner().invoke(app, ["--help"]).stdout
    width = max(map(len, COMMANDS)) + 2
    places = [shown.index(f"{name:<{width}}{summary[:15]}") for name, summary in COMMANDS.items()]
    assert places == sorted(places)


def test_a_misspelt_command_is_corrected() -> None:
    """The error suggests the nearest name."""
    result = CliRunner().invoke(app, ["stats"])
    assert result.exit_code == ExitCode.USAGE
    assert "Did you mean 'status'?" in result.stderr


def test_the_version_is_that_of_the_distribution() -> None:
    """`dropline --version` prints the version of the distribution, without a command."""
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (ExitCode.OK, f"dropline {metadata.version('dropline')}\n")


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("dropline s", {"search", "search-language", "status", "sql"}),
        ("dropline redrive --dry", {"--dry-run"}),
        ("dropline up --pubsub ", {"own", "google"}),
    ],
)
def test_the_shell_completes_commands_and_their_options(words: str, completions: set[str]) -> None:
    """The completion answers Bash's requests, in the form of the completion script."""
    question = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_DROPLINE_COMPLETE": "complete_bash"}
    result = CliRunner().invoke(app, prog_name="dropline", env=question)
    assert set(result.stdout.split()) == completions


def test_the_completion_script_is_shown_and_installed(tmp_path: Path) -> None:
    """`--show-completion` prints Bash's script; `--install-completion` writes the script to the home directory."""
    # An option without a value would look for the shell among the parent processes.
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown, _ = (
        subprocess.run(
            [sys.executable, "-c", "from cli.main import app; app(prog_name='dropline')", option, "bash"],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for option in ("--show-completion", "--install-completion")
    )
    assert "_DROPLINE_COMPLETE=complete_bash" in shown
    (script,) = tmp_path.glob(".bash_completions/*")
    assert script.read_text().strip() == shown.strip()


def test_every_command_has_help_and_is_documented() -> None:
    """docs/cli.md has a section per command with each option of the command."""
    page = (ROOT / "docs" / "cli.md").read_text()
    for name in COMMANDS:
        command = load_command(name)
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section, name
        for parameter in command.params:
            if isinstance(parameter, TyperOption):
                assert f"`{parameter.opts[0]}" in section, (name, parameter.opts)
                assert parameter.help, (name, parameter.opts)


def test_every_exit_code_is_documented() -> None:
    """docs/cli.md has a line per exit code."""
    page = (ROOT / "docs" / "cli.md").read_text()
    assert all(f"| {code.value} |" in page for code in ExitCode)

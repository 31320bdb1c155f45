"""Errors of commands with real services: one line, an exit code, no traceback."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis

from cli.exit_codes import ExitCode
from tests.support import foreign_errors
from tests.support.shell import BUCKET, Finished, run


def raising(error: Exception) -> Callable[..., NoReturn]:
    """A function that raises."""

    def raise_it(*_: Any, **__: Any) -> NoReturn:
        raise error

    return raise_it


def up(directory: Path, *options: str, command: str = "up") -> Finished:
    """Start a stack that cannot start."""
    return run(command, "--dir", directory, "--port-base", "0", *options)


@pytest.mark.parametrize(
    ("option", "errors"),
    [
        ("--database-url=postgresql://u:hunter2@127.0.0.1:1/x", foreign_errors.of_postgres),
        ("--redis-url=redis://:hunter2@127.0.0.1:1", foreign_errors.of_redis),
    ],
)
def test_every_error_of_a_server_of_ones_own(
    option: str, errors: Callable[[], list[Exception]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`up` with a Postgres or a Redis of one's own."""
    for error in errors():
        with monkeypatch.context() as patch:
            patch.setattr("psycopg.connect", raising(error))
            patch.setattr(redis.ConnectionPool, "get_connection", raising(error))
            result = up(tmp_path / "s", "--model", "stub", option)
        assert result.stderr.startswith("error: "), error
        assert result.stderr.count("\n") == 1, result.stderr
        assert "unexpected" not in result.stderr, result.stderr
        assert "hunter2" not in result.output
        assert result.exit_code in (ExitCode.FAILED, ExitCode.SETTINGS)


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_directory_that_cannot_be_written(command: str, tmp_path: Path) -> None:
    """The directory of the stack is below a file."""
    path = tmp_path / "file"
    path.touch()
    result = up(path / "below", command=command)
    assert (result.exit_code, result.stderr.count("\n")) == (ExitCode.FAILED, 1)
    assert str(path) in result.stderr
    assert "unexpected" not in result.stderr


@pytest.mark.parametrize(
    "command",
    [("wait", "gs://b/\udcff#1"), ("sql", "SELECT '\udcff'"), ("redrive", "--bucket", "\udcff", "--dry-run")],
)
def test_an_argument_that_is_not_utf8(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of a shell with another encoding are a mistake of the command line."""
    monkeypatch.setenv("DROPLINE_BROKER__URL", "redis://127.0.0.1:1/0")
    result = run(*command)
    assert (result.exit_code, result.stderr.count("\n")) == (ExitCode.USAGE, 1)
    assert "UTF-8" in result.stderr


@pytest.mark.parametrize("options", [(), ("--json",), ("--csv",)])
def test_a_reader_that_ends_first(options: tuple[str, ...]) -> None:
    """`dropline sql … | head` ends with 141 and prints no error."""
    command = [
        sys.executable,
        "-m",
        "cli",
        "sql",
        "SELECT 1",
        *options,
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", ExitCode.CLOSED_PIPE)


@pytest.mark.parametrize(
    ("command", "method"), [(["drop", __file__], "upload"), (["wait", f"gs://{BUCKET}/a.png"], "live_version")]
)
def test_ctrl_c_ends_a_command_whatever_waits(command: list[str], method: str) -> None:
    """A thread that never ends, and a library that waits on after Ctrl-C: exit code 130, and one line."""
    code = f"""
import contextlib, threading
from cli.main import app
from dropline.storage.bucket import Storage

def wait_for_ever(*_):
    print("waiting", flush=True)
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()

Storage.{method} = wait_for_ever
app({command})
"""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[3], **pipes
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, errors) == (ExitCode.INTERRUPTED, "interrupted\n")

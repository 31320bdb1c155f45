"""Each error class of each library, raised where a command meets it: one line, an exit code, no traceback."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis
from google.auth.transport.requests import AuthorizedSession
from typer.testing import CliRunner, Result

from cli.exit_codes import ExitCode
from cli.main import app
from dropline.broker.queue import CaptionQueue
from dropline.errors import BrokerUnavailable
from dropline.settings import BrokerSettings
from tests.support import foreign_errors

ROOT = Path(__file__).resolve().parents[2]
_READ_POSTGRES = (
    ("sql", "SELECT 1"),
    ("status",),
    ("watch",),
    ("wait", "gs://b/n.jpg#1"),
    ("redrive", "--all", "--dry-run"),
    ("redrive", "--all"),
    ("drop", "{image}", "--wait"),
)
_EXIT_CODES = {ExitCode.FAILED, ExitCode.USAGE, ExitCode.SETTINGS, ExitCode.UNAVAILABLE}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a stack whose services are not there."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", "postgresql://u:hunter2@127.0.0.1:1/x")
    monkeypatch.setenv("DROPLINE_BROKER__URL", "redis://:hunter2@127.0.0.1:1/0")
    monkeypatch.setenv("DROPLINE_BUCKET", "b")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("DROPLINE_LOG__LEVEL", raising=False)


@pytest.fixture
def image(tmp_path: Path) -> str:
    """The path of a file."""
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG")
    return str(path)


def raising(error: Exception) -> Callable[..., NoReturn]:
    """A function that raises."""

    def raise_it(*_: Any, **__: Any) -> NoReturn:
        raise error

    return raise_it


def run(command: tuple[str, ...], image: str = "") -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [each.format(image=image) for each in command])


def assert_one_line(result: Result, error: Exception) -> None:
    """One line for people: no traceback, no escape sequence, no password, and a documented exit code."""
    assert result.exit_code in _EXIT_CODES, (error, result.output, result.exception)
    assert result.stderr.startswith("error: "), error
    assert result.stderr.count("\n") == 1, result.stderr
    assert "\x1b" not in result.output
    assert "Traceback" not in result.output
    assert "unexpected" not in result.output, result.output
    assert "hunter2" not in result.output


@pytest.mark.parametrize("command", _READ_POSTGRES, ids=" ".join)
def test_every_error_of_postgres(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, image: str) -> None:
    """Each class of psycopg, raised by the connection."""
    for error in foreign_errors.of_postgres():
        monkeypatch.setattr("psycopg.connect", raising(error))
        assert_one_line(run(command, image), error)


def test_every_error_of_redis_in_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` prints the rows, and one line about Redis."""
    counts: dict[str, Any] = {"rows": {}, "newest_worker": None, "open_breakers": []}
    for error in [*foreign_errors.of_redis(), *foreign_errors.of_system()]:
        monkeypatch.setattr("cli.status._read_database", lambda _: dict(counts))
        monkeypatch.setattr(redis.ConnectionPool, "get_connection", raising(error))
        result = run(("status", "--json"))
        assert_one_line(result, error)
        assert result.exit_code == ExitCode.UNAVAILABLE


def test_every_error_of_redis_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """`redrive`, the function and the worker send by `CaptionQueue`: one line, with what to do."""
    queue = CaptionQueue.connect(BrokerSettings.model_validate({"url": "redis://127.0.0.1:1/0"}))
    for error in [*foreign_errors.of_redis(), *foreign_errors.of_system(), KeyError("x"), ValueError("x")]:
        monkeypatch.setattr(redis.ConnectionPool, "get_connection", raising(error))
        with pytest.raises(BrokerUnavailable) as caught:
            queue.wake(7)
        assert "\n" not in str(caught.value), error
        assert "; " in str(caught.value), error


@pytest.mark.parametrize("command", [("drop", "{image}"), ("wait", "gs://b/n.jpg")], ids=" ".join)
def test_every_error_of_cloud_storage(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    """Each class of the Cloud Storage libraries, raised by the session."""
    monkeypatch.setattr("dropline.storage.bucket._RETRY_WITH_EMULATOR_S", 0.0)
    for error in [*foreign_errors.of_storage(), *foreign_errors.of_system()]:
        monkeypatch.setattr(AuthorizedSession, "request", raising(error))
        assert_one_line(run(command, image), error)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (MemoryError(), ExitCode.FAILED, "memory"),
        (RecursionError(), ExitCode.FAILED, "nested"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x/y"),
            ExitCode.FAILED,
            "/x/y cannot be used: Permission",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), ExitCode.FAILED, "No space left"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "x"), ExitCode.USAGE, "not UTF-8"),
        (RuntimeError("a\nb"), ExitCode.FAILED, "unexpected RuntimeError: a b"),
    ],
)
def test_an_unknown_error_is_one_line_too(
    error: Exception, code: ExitCode, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last resort prints one line; the traceback comes with DROPLINE_LOG__LEVEL=DEBUG."""
    monkeypatch.setattr("cli.status.load_settings", raising(error))
    result = run(("status",))
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1)
    assert told in result.stderr
    monkeypatch.setenv("DROPLINE_LOG__LEVEL", "DEBUG")
    assert "Traceback" in run(("status",)).stderr


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `dropline` in a shell; `$D` is the command."""
    return subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "D": f"{sys.executable} -m cli", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("script", "code", "stderr"),
    [
        ("$D --help | true; exit ${PIPESTATUS[0]}", ExitCode.FAILED, ""),
        ("$D --version >&-", ExitCode.OK, ""),
        ("$D --version 2>&- >/dev/null", ExitCode.OK, ""),
        ("$D --version >/dev/full", ExitCode.FAILED, "error: the system refused: No space left on device"),
        ("PYTHONIOENCODING=ascii $D wait ü", ExitCode.USAGE, "error: '\\xfc' is not the URI"),
        ("$D drop $'\\xff.jpg'", ExitCode.USAGE, "error: "),
    ],
)
def test_streams_that_cannot_be_used(script: str, code: ExitCode, stderr: str) -> None:
    """A closed pipe, closed streams, a full disk and other encodings: no traceback."""
    done = shell(script)
    assert (done.returncode, done.stderr[: len(stderr)]) == (code, stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr

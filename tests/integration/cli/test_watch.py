"""`dropline watch` as a process, with a real Postgres."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from cli.exit_codes import ExitCode
from db.session import Database
from dropline.contract import FilterReason, ObjectVersion
from tests.support.rows import caption_object, drop, filter_object, finish_write_back
from tests.support.shell import BUCKET, G1, HOSTILE, SHOWN


@pytest.fixture
def watching() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts `dropline watch` as a process, and returns once it listens."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "cli", "watch", *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=Path(__file__).resolve().parents[3], **pipes))
        assert error_line(started[-1]) == "listening\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def error_line(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def test_watch_shows_every_change(watching: Callable[..., "subprocess.Popen[str]"], database: Database) -> None:
    """Queued, captioned and metadata written are a line each, with escaped control characters."""
    process = watching("--limit", "3")
    row_id = caption_object(database, G1, HOSTILE)
    with database.transaction() as connection:
        finish_write_back(connection, row_id, written=True)
    lines = process.communicate(timeout=120)[0].splitlines()
    assert [line.split()[1] for line in lines] == ["queued", "captioned", "metadata"]
    assert all(G1.uri in line for line in lines)
    assert lines[1].endswith(SHOWN)
    assert process.returncode == ExitCode.OK


def test_watch_shows_filtered_objects(
    watching: Callable[..., "subprocess.Popen[str]"], database: Database
) -> None:
    """A filtered object is a line with the rule and the setting, and a document of its own."""
    lines, documents = watching("--limit", "2"), watching("--limit", "1", "--json", "--bucket", BUCKET)
    filter_object(database, ObjectVersion("other", "\x1b[2J.html", 7), FilterReason.CONTENT_TYPE)
    filter_object(database, G1, FilterReason.FOLDER_PLACEHOLDER)
    first, second = lines.communicate(timeout=120)[0].splitlines()
    assert first.endswith(
        r"filtered    gs://other/\x1b[2J.html#7  "
        "content_type: the content type matches no glob of DROPLINE_EVENTS__CONTENT_TYPES"
    )
    assert second.endswith("folder_placeholder: an empty object that stands for a folder, by a fixed rule")
    document = json.loads(documents.communicate(timeout=120)[0])
    assert (document["uri"], document["status"]) == (G1.uri, "filtered")


def test_watch_for_programs_is_one_document_per_line(
    watching: Callable[..., "subprocess.Popen[str]"], database: Database
) -> None:
    """JSON lines of the changes of one bucket, with unescaped values."""
    process = watching("--json", "--limit", "2", "--bucket", BUCKET)
    caption_object(database, ObjectVersion("another-bucket", "x", 1))
    caption_object(database, G1, HOSTILE)
    documents = [json.loads(line) for line in process.communicate(timeout=120)[0].splitlines()]
    assert [each["status"] for each in documents] == ["queued", "captioned"]
    assert {each["bucket"] for each in documents} == {BUCKET}
    assert documents[1]["caption"] == HOSTILE


def test_watch_catches_up_after_a_lost_connection(
    watching: Callable[..., "subprocess.Popen[str]"], database: Database
) -> None:
    """Changes without a connection are printed after the reconnection."""
    process = watching("--json", "--limit", "2")
    with database.transaction() as connection:
        drop(connection, G1)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["status"] == "queued"
    with database.transaction() as connection:
        # Committed after the loss of the connection: without a notification.
        drop(connection, ObjectVersion(BUCKET, "missed.jpg", 1))
        hang_up_watch(database)
        assert "trying again" in error_line(process)
    rest = process.communicate(timeout=120)[0].splitlines()
    assert [json.loads(line)["object_name"] for line in rest] == ["missed.jpg"]


def hang_up_watch(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dropline-watch'"
            )
        )


def test_watch_ends_on_ctrl_c(watching: Callable[..., "subprocess.Popen[str]"]) -> None:
    """Ctrl-C ends the command with exit code 130, one line and no traceback."""
    process = watching()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (ExitCode.INTERRUPTED, "interrupted\n")

"""`dropline recaption` in the test's process, with a real Postgres and Redis."""

import json
import threading
from collections.abc import Iterator

import pytest
import redis
from sqlalchemy import Connection, text

from cli.exit_codes import ExitCode
from db import attempts
from db.session import Database
from operations.pacing import Pacer
from tests.support.engines import wait_until
from tests.support.recaptions import insert_captioned, start_worker, to_redo
from tests.support.redrives import enqueued
from tests.support.rows import record, take
from tests.support.shell import run

pytestmark = pytest.mark.usefixtures("as_the_function")


@pytest.fixture
def queue(redis_url: str) -> Iterator["redis.Redis"]:
    """A client of the test's Redis."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield client


def test_the_command_prints_its_plan_and_what_it_did(connection: Connection, queue: "redis.Redis") -> None:
    """A dry run changes nothing; the second run takes no row, and wakes the workers for the due ones."""
    start_worker(connection)
    insert_captioned(connection, 1, 3)
    insert_captioned(connection, 4, 4, "new", "r2")
    planned = run("recaption", "--dry-run")
    assert planned.exit_code == ExitCode.OK, planned.output
    assert "would get a new caption" in planned.stdout
    assert "except those of new, revision r2" in planned.stderr
    assert to_redo(connection) == enqueued(queue) == []
    done = run("recaption", "--json")
    assert json.loads(done.stdout) == {
        "dry_run": False,
        "taken": 3,
        "left": {"current": 1},
        "target": {"model": "new", "model_revision": "r2"},
        "to_task": None,
        "ended": {},
    }
    assert to_redo(connection) == [1, 2, 3]
    assert enqueued(queue) == [1]
    again = json.loads(run("recaption", "--json").stdout)
    assert (again["taken"], again["left"]) == (0, {"current": 1, "pending": 3})


def test_filters_and_limits_of_the_command(connection: Connection) -> None:
    """Each option reaches the pass."""
    start_worker(connection)
    insert_captioned(connection, 1, 20)
    for arguments, rows in (
        (("gs://drops/0000002.png", "gs://drops/0000003.png#1", "gs://drops/0000004.png#9"), 2),
        (("--bucket", "drops", "--prefix", "000001"), 10),
        (("--prefix", "0000009"), 1),
        (("--model", "old", "--revision", "r1", "--max", "4"), 4),
        (("--revision", "r7"), 0),
        (("--task", "caption"), 20),
        (("--task", "<OD>"), 0),
        (("--older-than", "29d"), 20),
        (("--older-than", "31d"), 0),
        (("--status", "captioned"), 20),
        (("--target-model", "old"), 0),
        (("--target-model", "old", "--target-revision", "r9"), 20),
        (("--force", "--prefix", "00"), 20),
    ):
        result = run("recaption", *arguments, "--dry-run", "--json")
        assert result.exit_code == ExitCode.OK, result.output
        assert json.loads(result.stdout)["would_be_taken"] == rows, arguments
    assert run("recaption", "--max", "2", "--rate", "1000").exit_code == ExitCode.OK
    assert to_redo(connection) == [1, 2]


def test_a_further_task_by_the_command(connection: Connection) -> None:
    """The plan and the result name the task."""
    insert_captioned(connection, 1, 2)
    result = run("recaption", "--to-task", "<OD>", "--json")
    assert (json.loads(result.stdout)["taken"], json.loads(result.stdout)["to_task"]) == (2, "<OD>")
    rows = connection.execute(text("SELECT priority, write_back FROM captions WHERE task = '<OD>'")).all()
    assert [tuple(row) for row in rows] == [(1, False), (1, False)]
    assert json.loads(run("recaption", "--to-task", "<OD>", "--json").stdout)["taken"] == 0


def test_the_command_waits_for_the_new_captions(connection: Connection, database: Database) -> None:
    """A redo that fails is exit code 1; its old caption stays. Without an end in time: 124."""
    start_worker(connection)
    insert_captioned(connection, 1, 3)
    assert run("recaption", "--prefix", "0000001", "--wait", "--timeout", "0").exit_code == ExitCode.TIMED_OUT

    def work() -> None:
        with database.statement() as worker:
            wait_until(lambda: len(to_redo(worker)) == 3)
            for row_id in (1, 2, 3):
                claim = take(worker, row_id)
                assert record(worker, claim) if row_id < 3 else attempts.fail(worker, claim, "bad", "words").held

    thread = threading.Thread(target=work)
    thread.start()
    waited = run("recaption", "--wait", "--json")
    thread.join()
    assert waited.exit_code == ExitCode.FAILED
    assert json.loads(waited.stdout)["ended"] == {"captioned": 1, "bad": 1}


def test_a_filter_that_no_row_passes_is_said(connection: Connection) -> None:
    """A wrong name is no silent success."""
    start_worker(connection)
    insert_captioned(connection, 1, 2)
    for arguments in (("gs://drops/not-there.png",), ("--bucket", "dorps"), ("--prefix", "x", "--dry-run")):
        assert "no row passes the filter" in run("recaption", *arguments).stderr
    assert "no row passes" not in run("recaption").stderr


def test_ctrl_c_leaves_a_note_of_what_is_due(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the committed batches, and how the others are taken."""
    start_worker(connection)
    insert_captioned(connection, 1, 2)

    def interrupt(_pacer: Pacer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Pacer, "wait", interrupt)
    for arguments, words in (((), "takes the others\n"), (("--force", "--prefix", "0"), "and with --older-than")):
        stopped = run("recaption", *arguments)
        assert stopped.exit_code == ExitCode.INTERRUPTED
        assert "0 rows are due, and workers caption them" in stopped.stderr
        assert words in stopped.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--status", "failed"), "dropline redrive"),
        (("--status", "queued"), "are not captioned again"),
        (("--status", "done"), "is no status"),
        (("--force",), "without a filter"),
        (("--bucket", "gs://drops"), "without gs://"),
        (("--task", "cartoon"), "cartoon"),
        (("--to-task", "cartoon"), "cartoon"),
        (("--older-than", "yesterday"), "--older-than 'yesterday' is not a time"),
        (("drops/a.png",), "not the URI of an object"),
        (("gs://drops",), "for a whole bucket or a prefix: --bucket, --prefix"),
        (("--target-revision", "r1"), "name the target's model"),
        (("--prefix", "a\0"), "correct the filter"),
        ((), "no worker has started"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments: tuple[str, ...], words: str) -> None:
    """Exit code 2, before any row changes."""
    result = run("recaption", *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert words in result.stderr

"""`dropline redrive` with a real Postgres and Redis: the selected rows and their changes."""

import json
from dataclasses import replace

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import Connection, text

from cli.exit_codes import ExitCode
from db import attempts, object_rows
from db.redrivable import FAILED_ROWS
from db.session import Database
from dropline.broker.queue import CaptionQueue
from dropline.contract import CAPTION_QUEUE, Claim, ObjectFacts, ObjectVersion
from dropline.deadline import Deadline
from dropline.settings import BrokerSettings
from tests.support.redrives import ALL, enqueued, fail_many, named, redrive, statuses, table
from tests.support.rows import (
    OTHER_TASK,
    caption_object,
    drop,
    end_waits,
    fail_object,
    record,
    row_of,
    take,
)
from tests.support.shell import run

pytestmark = pytest.mark.usefixtures("as_the_function")


def test_failed_rows_wait_again_with_all_their_attempts(
    database: Database, connection: Connection, queue: "redis.Redis"
) -> None:
    """The row is queued now and has no error; the number of attempts goes on."""
    with database.transaction() as inside:
        row_id = drop(inside, named(1))
        for _ in range(2):
            take(inside, row_id)
            end_waits(inside)
        claim = take(inside, row_id)
        assert claim.lost_attempts == 2
        assert attempts.fail(inside, claim, "worker_lost", "crashes").held
    before = row_of(connection, row_id)
    assert redrive("--all") == {
        "dry_run": False,
        "redriven": 1,
        "error_codes": [{"error_code": "worker_lost", "failed_before": 1, "redriven": 1, "failed_after": 0}],
    }
    row = row_of(connection, row_id)
    assert (row["status"], row["error_code"], row["error"], row["lease_until"]) == ("queued", None, None, None)
    assert (row["attempts"], row["lost_attempts"]) == (3, 0)
    assert row["queued_at"] > before["queued_at"]
    assert enqueued(queue) == [row_id]


def test_the_message_is_the_one_that_the_function_sends(
    database: Database, queue: "redis.Redis", redis_url: str
) -> None:
    """Both have the same task, arguments and headers but their ids, and no retries."""
    row_id = fail_object(database, named(1), "worker_lost", "crashes")
    redrive("--all")
    caption_queue = CaptionQueue.connect(BrokerSettings(url=SecretStr(redis_url)))
    caption_queue.enqueue(row_id, Deadline.after(60))
    caption_queue.close()
    ours, theirs = (json.loads(each) for each in queue.lrange(CAPTION_QUEUE, 0, -1))
    assert ours["body"] == theirs["body"]
    ids = ("id", "root_id")
    assert all(ours["headers"].pop(name) != theirs["headers"].pop(name) for name in ids)
    assert ours["headers"] == theirs["headers"]
    assert ours["headers"]["retries"] == 0


def requeue(connection: Connection, claim: Claim, delay_s: float = 0.0) -> bool:
    """End the attempt with a transient error."""
    ended = attempts.requeue(connection, claim, "storage_unavailable", "503", lost=False, delay_s=delay_s)
    return ended.held


def test_retries_are_counted_anew(database: Database, connection: Connection) -> None:
    """A row without retries left has all retries again, and the attempts are not lowered."""
    with database.transaction() as inside:
        row_id = drop(inside, named(1))
        for _ in range(5):
            assert requeue(inside, take(inside, row_id))
        claim = take(inside, row_id)
        assert claim.retries == 5
        assert attempts.fail(inside, claim, "storage_unavailable", "503").held
    redrive("--all")
    first = take(connection, row_id)
    assert (first.attempt, first.retries, first.lost_attempts) == (7, 0, 0)
    assert (first.failing_s, row_of(connection, row_id)["not_before"]) == (0, None)
    assert requeue(connection, first)
    assert take(connection, row_id).retries == 1


def test_a_late_result_of_an_earlier_life_is_refused(database: Database, connection: Connection) -> None:
    """The result of an attempt from before the redrive is refused, before and after the next claim."""
    with database.transaction() as inside:
        row_id = drop(inside, named(1))
        late = take(inside, row_id)
        assert attempts.fail(inside, late, "inference_timeout", "too slow").held
    redrive("--all")
    assert not record(connection, late, "late")
    new = take(connection, row_id)
    assert not record(connection, late, "late")
    assert not attempts.fail(connection, late, "late", "late").held
    assert record(connection, new, "in time")
    assert row_of(connection, row_id)["caption"] == "in time"


@pytest.mark.parametrize(
    ("arguments", "redriven"),
    [
        (["--error-code", "engine_lost"], ["a/1", "a_1"]),
        (["--error-code", "engine_lost", "--error-code", "access_denied"], ["a/1", "a_1", "b/1"]),
        (["--error-code", "no_such_code"], []),
        (["--bucket", "other"], ["x"]),
        (["--prefix", "a_"], ["a_1"]),
        (["--prefix", "a%"], []),
        (["--prefix", "a/", "--error-code", "access_denied"], []),
        (["--since", "90m"], ["a_1", "b/1", "x"]),
        (["--since", "2020-01-01"], ["a/1", "a_1", "b/1", "x"]),
        (["gs://drops/b/1", "gs://drops/a/1"], ["a/1", "b/1"]),
        (["gs://drops/b/1#7"], []),
        (["gs://drops/b/1#1"], ["b/1"]),
        (["gs://other/x", "--bucket", "drops"], []),
        (["--all", "--limit", "3"], ["a/1", "a_1", "b/1"]),
        (["--bucket", "drops", "--limit", "1"], ["a/1"]),
        (["--all"], ["a/1", "a_1", "b/1", "x"]),
    ],
)
def test_filters(
    database: Database, connection: Connection, queue: "redis.Redis", arguments: list[str], redriven: list[str]
) -> None:
    """Rows that pass every filter are redriven and counted by error code; other rows are unchanged."""
    codes = {"a/1": "engine_lost", "a_1": "engine_lost", "b/1": "access_denied", "x": "worker_lost"}
    ids = {
        name: fail_object(database, ObjectVersion("other" if name == "x" else "drops", name, 1), code, "words")
        for name, code in codes.items()
    }
    connection.execute(
        text("UPDATE captions SET updated_at = now() - interval '2h' WHERE id = :id"), {"id": ids["a/1"]}
    )
    others = {name: row_of(connection, row_id) for name, row_id in ids.items() if name not in redriven}
    assert redrive(*arguments)["redriven"] == len(redriven)
    assert enqueued(queue) == [ids[name] for name in redriven[:1]]
    assert statuses(connection, [ids[name] for name in redriven]) <= {"queued"}
    assert all(row_of(connection, ids[name]) == row for name, row in others.items())


def test_a_dry_run_counts_and_changes_nothing(
    database: Database, connection: Connection, queue: "redis.Redis"
) -> None:
    """The count respects the limit; rows and queue are unchanged."""
    fail_many(database, 3)
    fail_object(database, named(9), "access_denied", "words")
    before = table(connection)
    assert redrive("--all", "--limit", 2, "--dry-run") == {
        "dry_run": True,
        "would_be_redriven": 2,
        "error_codes": [
            {"error_code": "worker_lost", "failed_before": 3, "would_be_redriven": 2},
            {"error_code": "access_denied", "failed_before": 1, "would_be_redriven": 0},
        ],
    }
    assert table(connection) == before
    assert enqueued(queue) == []


@pytest.mark.usefixtures("queue")
def test_a_limited_number_of_rows_is_counted_and_every_row_redriven(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note says so; with fewer rows there is no note."""
    for module in ("db.redrivable", "cli.redrive"):
        monkeypatch.setattr(f"{module}.MOST_COUNTED", 3)
    ids = fail_many(database, 5)
    told = run("redrive", "--all", "--dry-run", "--json")
    assert json.loads(told.stdout)["would_be_redriven"] == 3
    assert "3 failed rows or more match" in told.stderr
    assert redrive("--all")["redriven"] == 5
    assert statuses(connection, ids) == {"queued"}
    fail_object(database, named(9), "access_denied", "words")
    assert "or more match" not in run("redrive", "--all", "--dry-run").stderr


def test_only_failed_rows_are_touched(database: Database, connection: Connection, queue: "redis.Redis") -> None:
    """Queued, running, captioned, superseded and deleted rows are unchanged; the due one gets a message."""
    caption_object(database, named(1))
    with database.transaction() as inside:
        requeue(inside, take(inside, drop(inside, named(2))), delay_s=600)
        take(inside, drop(inside, named(3)))
        drop(inside, named(4))
        due = drop(inside, replace(named(4), generation=2))
    fail_object(database, named(5), "worker_lost", "words")
    with database.transaction() as inside:
        object_rows.tombstone(inside, named(5))
    before = table(connection)
    assert {row.status for row in before} == {"captioned", "queued", "running", "superseded", "deleted"}
    assert redrive("--all") == {"dry_run": False, "redriven": 0, "error_codes": []}
    assert table(connection) == before
    assert enqueued(queue) == [due]


def test_a_wish_that_cannot_be_met_is_not_replaced(database: Database, connection: Connection) -> None:
    """A row with an invalid task stays failed, and the reason is shown."""
    with database.transaction() as inside:
        refused = object_rows.register_failed(
            inside, named(1), ObjectFacts(), str(OTHER_TASK), "invalid_task", "<POEM>"
        )
    fail_object(database, named(2), "worker_lost", "words")
    result = run("redrive", "--all", "--json")
    assert json.loads(result.stdout)["redriven"] == 1
    assert row_of(connection, refused.row_id)["status"] == "failed"
    assert "1 of them stay failed, with invalid_task" in result.stderr
    named_outright = run("redrive", "--error-code", "invalid_task")
    assert named_outright.exit_code == ExitCode.USAGE
    assert "caption-task and upload it again" in named_outright.stderr


def test_for_people(database: Database) -> None:
    """A table with a line per error code, or a sentence if no row passes."""
    fail_many(database, 2)
    shown = run("redrive", "--all").stdout
    assert [word for word in ("failed before", "redriven", "failed after", "worker_lost") if word in shown] == [
        "failed before",
        "redriven",
        "failed after",
        "worker_lost",
    ]
    assert run("redrive", "--all").stdout == "no failed row matches\n"


@pytest.mark.parametrize("extra", [(), ("--dry-run",)])
def test_a_filter_that_lets_nothing_pass_says_what_there_is(database: Database, extra: tuple[str, ...]) -> None:
    """A misspelt code must not look like success."""
    fail_many(database, 2)
    found = run("redrive", "--error-code", "worker_losst", *extra)
    assert (found.exit_code, found.stdout) == (0, "no failed row matches\n")
    assert "existing failed rows: 2 worker_lost" in found.stderr


def test_a_row_whose_object_has_a_newer_generation_stays(database: Database, connection: Connection) -> None:
    """The older generation of a versioned bucket stays failed, unless the newer generation is deleted."""
    fail_object(database, ObjectVersion("drops", "new.jpg", 1), "worker_lost", "x")
    gone = fail_object(database, ObjectVersion("drops", "gone.jpg", 1), "worker_lost", "x")
    drop(connection, ObjectVersion("drops", "new.jpg", 2))
    object_rows.tombstone(connection, ObjectVersion("drops", "gone.jpg", 2), insert=True)
    with database.transaction() as inside:
        assert [row.row_id for row in FAILED_ROWS.redrive(inside, ALL, 0, 500)] == [gone]

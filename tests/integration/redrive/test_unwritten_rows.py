"""`dropline redrive --metadata` with a real Postgres and Redis: the selected rows and their changes."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis
from sqlalchemy import Connection, text

from cli.exit_codes import ExitCode
from db import attempts, claims, object_rows
from db.session import Database
from dropline.contract import ObjectVersion, WriteBack
from dropline.settings import Settings
from local_emulators.ports import free_ports
from operations.redrive import UNWRITTEN, Redriver, open_redriver
from tests.support.redrives import (
    enqueued,
    ignore,
    leave_many_unwritten,
    leave_unwritten,
    named,
    redrive,
    table,
)
from tests.support.rows import (
    CHILD,
    LEASE_S,
    OTHER_TASK,
    TASK,
    caption_object,
    drop,
    fail_object,
    finish_write_back,
    record,
    redo,
    row_of,
    take,
)
from tests.support.shell import run

pytestmark = pytest.mark.usefixtures("as_the_function")

#: Columns of a row with a failed write-back, and of a row with a pending write-back.
STATE = ("status", "error_code", "error", "metadata_written_at", "lease_until", "attempts", "caption")


@pytest.fixture
def redriver(settings: Settings) -> Iterator[Redriver]:
    """A redriver of unwritten rows, opened like that of the command."""
    with open_redriver(settings, UNWRITTEN, ignore, ignore) as found:
        yield found


def states(connection: Connection, ids: list[int]) -> list[list[object]]:
    return [[row_of(connection, row_id)[column] for column in STATE] for row_id in ids]


def write_back(connection: Connection, row_id: int) -> None:
    """Claim the row for a write-back, like a worker."""
    assert isinstance(claims.claim(connection, row_id, LEASE_S, CHILD).work, WriteBack)


def test_a_caption_waits_for_its_copy_alone(
    database: Database, connection: Connection, queue: "redis.Redis"
) -> None:
    """The row stays captioned and keeps the error code; the worker that claims the row only writes back."""
    (row_id,) = leave_many_unwritten(database, 1)
    before = row_of(connection, row_id)
    assert redrive("--metadata", "--all") == {
        "dry_run": False,
        "redriven": 1,
        "error_codes": [
            {"error_code": "access_denied", "unwritten_before": 1, "redriven": 1, "unwritten_after": 0}
        ],
    }
    after = row_of(connection, row_id)
    assert {column for column in before if before[column] != after[column]} == {"lease_until", "updated_at"}
    assert enqueued(queue) == [row_id]
    work = claims.claim(connection, row_id, LEASE_S, CHILD).work
    assert work == WriteBack(row_id, named(0), str(TASK), "a red circle", "demo", CHILD)


def test_redriven_twice_it_is_sent_once(database: Database, connection: Connection, queue: "redis.Redis") -> None:
    """A row with a pending or running write-back is not unwritten; each run sends one message for the due row."""
    waiting, held = leave_many_unwritten(database, 2)
    assert redrive("--metadata", "--all")["redriven"] == 2
    write_back(connection, held)
    before = table(connection)
    assert redrive("--metadata", "--all") == {"dry_run": False, "redriven": 0, "error_codes": []}
    assert table(connection) == before
    assert enqueued(queue) == [waiting, waiting]


@pytest.mark.parametrize(
    ("arguments", "redriven"),
    [
        (["--error-code", "access_denied"], ["a/1", "a/2"]),
        (["--error-code", "metadata_kept", "--error-code", "metadata_left_out"], ["b/1", "x"]),
        (["--error-code", "worker_lost"], []),
        (["--bucket", "other"], ["x"]),
        (["--prefix", "a/"], ["a/1", "a/2"]),
        (["--since", "90m"], ["a/2", "b/1", "x"]),
        (["gs://drops/b/1", "gs://drops/a/1#1"], ["a/1", "b/1"]),
        (["--all", "--limit", "3"], ["a/1", "a/2", "b/1"]),
        (["--all"], ["a/1", "a/2", "b/1", "x"]),
    ],
)
def test_filters(
    database: Database, connection: Connection, queue: "redis.Redis", arguments: list[str], redriven: list[str]
) -> None:
    """The filters of failed rows; `--since` compares the time of the failed write-back, not of the caption."""
    codes = {"a/1": "access_denied", "a/2": "access_denied", "b/1": "metadata_kept", "x": "metadata_left_out"}
    ids = {
        name: leave_unwritten(database, ObjectVersion("other" if name == "x" else "drops", name, 1), code, "words")
        for name, code in codes.items()
    }
    connection.execute(text("UPDATE captions SET captioned_at = now() - interval '1d'"))
    connection.execute(
        text("UPDATE captions SET updated_at = now() - interval '2h' WHERE id = :id"), {"id": ids["a/1"]}
    )
    others = {name: row_of(connection, row_id) for name, row_id in ids.items() if name not in redriven}
    assert redrive("--metadata", *arguments)["redriven"] == len(redriven)
    assert enqueued(queue) == [ids[name] for name in redriven[:1]]
    assert all(row_of(connection, ids[name])["lease_until"] for name in redriven)
    assert all(row_of(connection, ids[name]) == row for name, row in others.items())


def test_a_dry_run_counts_and_changes_nothing(
    database: Database, connection: Connection, queue: "redis.Redis"
) -> None:
    """The count respects the limit; rows and queue are unchanged."""
    leave_many_unwritten(database, 3)
    leave_unwritten(database, named(9), "metadata_kept", "words")
    before = table(connection)
    assert redrive("--metadata", "--all", "--limit", 2, "--dry-run") == {
        "dry_run": True,
        "would_be_redriven": 2,
        "error_codes": [
            {"error_code": "access_denied", "unwritten_before": 3, "would_be_redriven": 2},
            {"error_code": "metadata_kept", "unwritten_before": 1, "would_be_redriven": 0},
        ],
    }
    assert table(connection) == before
    assert enqueued(queue) == []


def written(database: Database, version: ObjectVersion, code: str | None) -> None:
    """Make a captioned row with the whole or a shortened caption on the object."""
    with database.transaction() as inside:
        row_id = drop(inside, version)
        assert record(inside, take(inside, row_id), write_back=True)
        assert finish_write_back(inside, row_id, written=True, code=code)


def test_only_unwritten_rows_are_touched(database: Database, connection: Connection, queue: "redis.Redis") -> None:
    """Rows with a whole, shortened, disabled or pending write-back, and rows without a caption, are unchanged."""
    written(database, named(1), None)
    written(database, named(2), "metadata_shortened")
    caption_object(database, named(3))
    with database.transaction() as inside:
        assert record(inside, take(inside, drop(inside, named(4))), write_back=True)
        attempts.requeue(
            inside, take(inside, drop(inside, named(5))), "storage_unavailable", "503", lost=True, delay_s=600
        )
        take(inside, drop(inside, named(6)))
        drop(inside, named(7))
        due = drop(inside, replace(named(7), generation=2))
    fail_object(database, named(8), "access_denied", "words")
    leave_unwritten(database, named(9), "access_denied", "words")
    object_rows.tombstone(connection, named(9))
    before = table(connection)
    assert {row.status for row in before} == {
        *("captioned", "queued", "running", "superseded", "failed", "deleted")
    }
    assert redrive("--metadata", "--all") == {"dry_run": False, "redriven": 0, "error_codes": []}
    assert table(connection) == before
    assert enqueued(queue) == [due]


def test_without_the_option_captions_are_left_alone(
    database: Database, connection: Connection, queue: "redis.Redis"
) -> None:
    """A redrive without the option takes only the failed row."""
    leave_unwritten(database, named(1), "access_denied", "words")
    failed = fail_object(database, named(2), "access_denied", "words")
    before = table(connection)[0]
    assert redrive("--all")["redriven"] == 1
    assert table(connection)[0] == before
    assert enqueued(queue) == [failed]


def test_a_row_whose_object_has_a_newer_generation_stays(
    database: Database, connection: Connection, queue: "redis.Redis"
) -> None:
    """The older generation stays unwritten, unless the newer generation is deleted."""
    old, gone = (ObjectVersion("drops", name, 1) for name in ("new.jpg", "gone.jpg"))
    left = leave_unwritten(database, old, "access_denied", "x")
    taken = leave_unwritten(database, gone, "access_denied", "x")
    drop(connection, replace(old, generation=2))
    object_rows.tombstone(connection, replace(gone, generation=2))
    before = row_of(connection, left)
    assert redrive("--metadata", "--all")["error_codes"] == [
        {"error_code": "access_denied", "unwritten_before": 2, "redriven": 1, "unwritten_after": 1}
    ]
    assert row_of(connection, left) == before
    assert enqueued(queue) == [taken]


def test_an_earlier_caption_does_not_take_the_place_of_a_later_one(
    database: Database, connection: Connection, queue: "redis.Redis"
) -> None:
    """Of rows from before revision 0004, the last finished task is redriven: the metadata has a single caption."""
    version = ObjectVersion("drops", "two.jpg", 1)
    earlier = leave_unwritten(database, version, "access_denied", "x")
    later = drop(connection, version, OTHER_TASK)
    connection.execute(text("UPDATE captions SET write_back = true"))
    assert redrive("--metadata", "--all", "--dry-run")["would_be_redriven"] == 1
    assert record(connection, take(connection, later), write_back=True)
    assert finish_write_back(connection, later, written=False, code="access_denied", note="x")
    assert redrive("--metadata", "--all")["redriven"] == 1
    assert enqueued(queue) == [later]
    assert row_of(connection, earlier)["lease_until"] is None


def test_a_further_task_does_not_keep_the_caption_from_the_metadata(
    database: Database, connection: Connection, queue: "redis.Redis"
) -> None:
    """A later caption that is in Postgres alone hinders no write-back, and is not redriven."""
    version = ObjectVersion("drops", "two.jpg", 1)
    own = leave_unwritten(database, version, "access_denied", "x")
    further = drop(connection, version, OTHER_TASK)
    assert record(connection, take(connection, further), write_back=True)
    assert row_of(connection, further)["lease_until"] is None
    assert redrive("--metadata", "--all")["redriven"] == 1
    assert enqueued(queue) == [own]


def test_a_caption_of_a_version_that_is_gone_is_not_sent(database: Database, connection: Connection) -> None:
    """The row of a missing object version is not redriven, and the reason is shown."""
    gone = leave_unwritten(database, named(1), "object_gone", "words")
    leave_unwritten(database, named(2), "access_denied", "words")
    before = row_of(connection, gone)
    result = run("redrive", "--metadata", "--all", "--json")
    assert json.loads(result.stdout)["redriven"] == 1
    assert row_of(connection, gone) == before
    assert "1 of them stay unwritten, with object_gone" in result.stderr
    named_outright = run("redrive", "--metadata", "--error-code", "object_gone")
    assert named_outright.exit_code == ExitCode.USAGE
    assert "the row has the caption" in named_outright.stderr


def test_for_people(database: Database) -> None:
    """A table with a line per error code, or a sentence and the existing codes if no row passes."""
    leave_many_unwritten(database, 2)
    other = run("redrive", "--metadata", "--error-code", "access_denid")
    assert (other.exit_code, other.stdout) == (0, "no unwritten row matches\n")
    assert "existing unwritten rows: 2 access_denied" in other.stderr
    shown = run("redrive", "--metadata", "--all").stdout
    for word in ("unwritten before", "redriven", "unwritten after", "access_denied"):
        assert word in shown


def test_without_redis_the_write_backs_are_due(
    database: Database,
    connection: Connection,
    queue: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
) -> None:
    """Exit code 4 and an error with the remedy; a second run sends the message."""
    ids = leave_many_unwritten(database, 2)
    monkeypatch.setenv("DROPLINE_BROKER__URL", f"redis://127.0.0.1:{free_ports(1)[0]}/0")
    result = run("redrive", "--metadata", "--all", "--json")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "2 rows are queued, and a worker takes them when it starts or reconnects" in result.stderr
    assert json.loads(result.stdout)["error_codes"] == [
        {"error_code": "access_denied", "unwritten_before": 2, "redriven": 2, "unwritten_after": 0}
    ]
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    assert redrive("--metadata", "--since", "90m")["redriven"] == 0
    assert len(enqueued(queue)) == 1
    assert set(enqueued(queue)) <= set(ids)
    for row_id in ids:
        write_back(connection, row_id)


def test_a_row_that_is_to_be_redone_is_not_unwritten(database: Database, connection: Connection) -> None:
    """The write-back follows the new caption."""
    redone, unwritten = leave_many_unwritten(database, 2)
    redo(connection, redone)
    assert redrive("--metadata", "--all")["redriven"] == 1
    assert row_of(connection, redone)["lease_until"] is None
    assert row_of(connection, unwritten)["lease_until"] is not None

"""Bulk rows: the rules of an event for each, priority 2, one statement."""

from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from db import backfills, bulk_rows, claims, object_rows
from db.bulk_rows import BulkRow, Registered
from db.caption_filter import CaptionFilter
from db.recaptions import AddTask
from dropline.contract import Claim, ObjectFacts, ObjectVersion, SeenMetadata, TaskRequest
from dropline.errors import BackfillTakenOver
from tests.support.recaptions import insert_captioned
from tests.support.rows import CHILD, G1, G2, TASK, drop, row_of

FACTS = ObjectFacts("image/jpeg", 10, "md5", "crc", None, SeenMetadata(3, 17))


def named(name: str, generation: int = 1, task: str = str(TASK)) -> BulkRow:
    return BulkRow(ObjectVersion("drops", name, generation), FACTS, task)


def rows(connection: Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(text("SELECT * FROM captions ORDER BY id")).mappings()]


def test_missing_rows_are_inserted_behind_fresh_drops_and_existing_ones_stay(connection: Connection) -> None:
    """A fresh row, dropped after the bulk rows, is claimed first."""
    existing = drop(connection, ObjectVersion("drops", "b.jpg", 1))
    before = row_of(connection, existing)
    found = bulk_rows.register(connection, "drops", [named("c.jpg"), named("a.jpg"), named("b.jpg")])
    assert (found.queued, found.failed, found.ended, found.queued_bytes) == (2, 0, 0, 20)
    inserted = [row for row in rows(connection) if row["id"] != existing]
    assert [(row["object_name"], row["priority"]) for row in inserted] == [("a.jpg", 2), ("c.jpg", 2)]
    assert (found.first_id, found.last_id) == (inserted[0]["id"], inserted[1]["id"])
    assert [inserted[0][key] for key in ("metageneration", "metadata_bytes", "md5_hash")] == [3, 17, "md5"]
    assert row_of(connection, existing) == before
    fresh = drop(connection, ObjectVersion("drops", "fresh.jpg", 1))
    assert row_of(connection, fresh)["priority"] == 0
    order = [claims.claim(connection, 0, 600, CHILD).work for _ in range(4)]
    names = [work.version.name for work in order if isinstance(work, Claim)]
    assert names == ["b.jpg", "fresh.jpg", "a.jpg", "c.jpg"]


def test_a_second_statement_inserts_nothing(connection: Connection) -> None:
    """The same objects again: no row, no change of a row."""
    objects = [named(f"{number}.jpg") for number in range(20)]
    assert bulk_rows.missing(connection, "drops", objects) == objects
    assert bulk_rows.register(connection, "drops", objects).queued == 20
    before = rows(connection)
    assert bulk_rows.missing(connection, "drops", objects) == []
    assert bulk_rows.register(connection, "drops", objects) == Registered()
    assert rows(connection) == before


def test_deleted_and_overwritten_generations_get_no_work(connection: Connection) -> None:
    """A tombstone that arrived before; a generation that is no longer the newest; unfinished older rows."""
    object_rows.tombstone(connection, G1)
    drop(connection, ObjectVersion("drops", "new.jpg", 2))
    older = drop(connection, ObjectVersion("drops", "old.jpg", 1))
    found = bulk_rows.register(connection, "drops", [named("a.jpg"), named("new.jpg"), named("old.jpg", 2)])
    assert (found.queued, found.ended) == (1, 2)
    assert bulk_rows.missing(connection, "drops", [named("a.jpg")]) == []
    assert row_of(connection, older)["status"] == "superseded"
    assert {row["object_name"] for row in rows(connection) if row["status"] == "queued"} == {"new.jpg", "old.jpg"}


def test_a_refused_object_has_its_reason_and_a_further_task_is_not_written_back(connection: Connection) -> None:
    """A row that starts as failed; a second task of one generation."""
    refused = BulkRow(G1, FACTS, str(TASK), "empty_object", "no bytes")
    further = BulkRow(G2, FACTS, "<OD>", own_task=False)
    found = bulk_rows.register(connection, "drops", [refused, further])
    assert (found.queued, found.failed, found.first_queued_id) == (1, 1, found.last_id)
    first, second = rows(connection)
    assert (first["status"], first["error_code"], first["error"]) == ("failed", "empty_object", "no bytes")
    assert (second["task"], second["write_back"]) == ("<OD>", False)


def test_a_batch_and_its_cursor_are_committed_together_and_a_second_process_takes_over(
    connection: Connection,
) -> None:
    """Counts add up; the first process learns of the second one before it writes."""
    options = {"task": None}
    first = backfills.start(connection, "gs://drops", options, None, "one")
    cursor = {"ranges": [["a", None, "b", False]]}
    record, _ = backfills.advance(
        connection, first.id, "one", "drops", [named("a"), named("b")], cursor, {"x": 2}, listed=4
    )
    record, _ = backfills.advance(
        connection, first.id, "one", "drops", [named("b"), named("c")], cursor, {"x": 1}, listed=3
    )
    assert (record.listed, record.existing, record.queued, record.queued_bytes) == (7, 1, 3, 30)
    assert (record.left_out, record.cursor) == ({"x": 3}, cursor)
    second = backfills.start(connection, "gs://drops", options, None, "two")
    assert (second.id, second.queued, second.cursor) == (first.id, 3, cursor)
    with pytest.raises(BackfillTakenOver):
        backfills.advance(connection, first.id, "one", "drops", [named("d")], cursor, {}, listed=1)
    assert len(rows(connection)) == 3
    done = backfills.finish(connection, first.id, "two")
    assert done.finished_at is not None
    assert backfills.find(connection, first.id) == done
    with pytest.raises(BackfillTakenOver):
        backfills.finish(connection, first.id, "two")
    assert backfills.start(connection, "gs://drops", options, None, "three").id != first.id


def test_a_table_that_was_analyzed_while_empty_is_read_by_its_indexes(connection: Connection) -> None:
    """The plans of a connection stay as the table grows: a plan for no rows would read all rows each time."""
    connection.execute(text("ANALYZE captions"))
    before = scanned_rows(connection)
    for batch in range(20):
        assert bulk_rows.register(connection, "drops", [named(f"{batch}/{n}.jpg") for n in range(20)]).queued == 20
        drop(connection, ObjectVersion("drops", f"{batch}/fresh.jpg", 1))
    assert scanned_rows(connection) == before


def scanned_rows(connection: Connection) -> int:
    """Rows of `captions` read by sequential scans of any connection so far."""
    connection.execute(text("SELECT pg_stat_force_next_flush()"))
    statement = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'captions'"
    return int(connection.execute(text(statement)).scalar_one())


def test_bulk_rows_and_single_tasks_have_the_rules_of_events(connection: Connection) -> None:
    """`register_tasks` alone has the rules: without the function, no other one inserts a row."""
    insert_captioned(connection, 1, 1)
    connection.execute(
        text("""
            DO $$ BEGIN EXECUTE (SELECT 'DROP FUNCTION ' || oid::regprocedure FROM pg_proc
                                 WHERE proname = 'register_tasks'); END $$
        """)
    )
    with pytest.raises(ProgrammingError, match="register_tasks"):
        bulk_rows.register(connection, "drops", [named("a.jpg")])
    with pytest.raises(ProgrammingError, match="register_tasks"):
        AddTask(CaptionFilter(), TaskRequest.parse("<OD>")).take(connection, 0, 1, 1)

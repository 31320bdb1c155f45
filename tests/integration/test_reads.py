"""Reads of recovery and of scale to zero, and the rows of an object."""

import pytest
from sqlalchemy import Connection, text

from db import claims, reads
from dropline.contract import ObjectVersion
from tests.support.rows import G1, G2, drop, record, take

OTHER = ObjectVersion("drops", "other.jpg", 1)


def forgotten(connection: Connection, resting_s: float) -> list[int]:
    """Ids of queued rows without a message on an empty queue, without rows at rest."""
    batches = reads.rows_without_message(connection, [], whole_queue=True, batch=10, resting_s=resting_s)
    return [row_id for batch in batches for row_id in batch]


def fail_once(connection: Connection, row_id: int) -> None:
    """Let an attempt end with a transient error."""
    assert claims.requeue(connection, take(connection, row_id), "storage_unavailable", "503", lost=False)


def test_a_row_at_rest_is_left_to_the_worker_that_holds_its_message(connection: Connection) -> None:
    """A row at rest is not forgotten, since a message would end the back-off; a row without an attempt is."""
    tried, fresh = drop(connection, G1), drop(connection, OTHER)
    fail_once(connection, tried)
    assert forgotten(connection, resting_s=300) == [fresh]
    assert forgotten(connection, resting_s=0) == [tried, fresh]


def test_a_row_that_rested_too_long_has_no_message(connection: Connection) -> None:
    """A row that has rested longer than `resting_s` is forgotten: the message must have been lost."""
    row_id = drop(connection, G1)
    fail_once(connection, row_id)
    connection.execute(text("UPDATE captions SET updated_at = updated_at - interval '301 s'"))
    assert forgotten(connection, resting_s=300) == [row_id]


def test_queued_and_leased_rows_are_unfinished(connection: Connection) -> None:
    """A row is unfinished from its insertion until its write-back."""
    assert not reads.has_unfinished_rows(connection)
    row_id = drop(connection, G1)
    assert reads.has_unfinished_rows(connection)
    claim = take(connection, row_id)
    assert reads.has_unfinished_rows(connection)
    assert record(connection, claim)
    assert not reads.has_unfinished_rows(connection)


def test_seconds_since_the_last_caption(connection: Connection) -> None:
    """The latest caption of all workers counts; None without a caption."""
    assert reads.seconds_since_last_caption(connection) is None
    for version in (G1, G2):
        record(connection, take(connection, drop(connection, version)))
    connection.execute(text("UPDATE captions SET captioned_at = captioned_at - interval '1 hour'"))
    assert reads.seconds_since_last_caption(connection) == pytest.approx(3600, abs=120)
    connection.execute(text("UPDATE captions SET captioned_at = now() - interval '90 s' WHERE generation = 2"))
    assert reads.seconds_since_last_caption(connection) == pytest.approx(90, abs=60)


def test_the_rows_of_an_object_are_of_its_bucket_and_name(connection: Connection) -> None:
    """All generations, newest first, or the named generation; no row of another object."""
    first, second = drop(connection, G1), drop(connection, G2)
    for other in (OTHER, ObjectVersion("others", G1.name, 1)):
        drop(connection, other)
    rows = reads.rows_of_object(connection, G1.bucket, G1.name)
    assert [row.id for row in rows] == [second, first]
    rows = reads.rows_of_object(connection, G1.bucket, G1.name, G1.generation)
    assert [row.id for row in rows] == [first]

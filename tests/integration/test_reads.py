"""Reads of scale to zero, and the rows of an object."""

import pytest
from sqlalchemy import Connection, text

from db import reads
from dropline.contract import ObjectVersion
from tests.support.rows import G1, G2, drop, record, take

OTHER = ObjectVersion("drops", "other.jpg", 1)


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

"""Plans of statements that need an index of their own, on a table with many other rows."""

from collections.abc import Callable
from functools import partial

import psycopg
import pytest
from sqlalchemy import Connection

from benchmarks.query_plans import Plan, fill, plans_of
from db import reads, reconciliation, workers

#: Most rows that a statement may read for its few.
_FEW = 100
_SMALL_BUCKET = """
    INSERT INTO captions (bucket, object_name, generation, task, status)
    SELECT 'small', 'holiday/' || n || '.jpg', n, '<CAPTION>', 'queued' FROM generate_series(1, 20) AS n
"""
_EDITS = """
    UPDATE captions SET edited_by = CASE WHEN id % 100 = 10 THEN 'ida' ELSE 'object metadata' END,
           edited_at = now() - make_interval(secs => id::int) WHERE id % 5 = 0 AND status = 'captioned'
"""
_REDO = "UPDATE captions SET redo = true, priority = 1 WHERE id % 100 = 11 AND status = 'captioned'"


@pytest.fixture
def many(database_url: str, connection: Connection) -> Connection:
    """A table with 6,000 rows of a bucket, 20 of another one, 60 edits and 60 rows to redo."""
    with psycopg.connect(database_url, autocommit=True) as superuser:
        fill(superuser, 6_000)
        for statement in (_SMALL_BUCKET, _EDITS, _REDO, "VACUUM ANALYZE captions"):
            superuser.execute(statement)
    return connection


def plan_of(connection: Connection, call: Callable[[], object]) -> Plan:
    (plan,) = plans_of(connection, call)
    return plan


def test_the_rows_of_a_small_bucket_are_read_without_those_of_a_large_one(many: Connection) -> None:
    """From the beginning, and behind a row; by the bytes of the names."""
    read = partial(reconciliation.rows_in_order, many, "small", "", None, most=50)
    rows = read(None)
    assert [row.object_name for row in rows] == sorted(f"holiday/{number}.jpg" for number in range(1, 21))
    for after in (None, rows[4]):
        plan = plan_of(many, partial(read, after))
        assert plan.indexes == ["uq_captions_bucket_object_name_generation_task"]
        assert plan.rows_read <= _FEW, plan


def test_a_page_of_a_large_bucket_is_read_alone(many: Connection) -> None:
    """In the order of the index: no sort of the other rows of the bucket."""
    read = partial(reconciliation.rows_in_order, many, "drops", "", None, most=50)
    plan = plan_of(many, partial(read, read(None)[-1]))
    assert not plan.scans_captions
    assert plan.rows_read <= 2 * _FEW, plan


def test_the_latest_edits_are_read_alone(many: Connection) -> None:
    """Those of people, without the captions that arrived with their objects; also in the SQL of the page."""
    found = reads.latest_edits(many, 10)
    assert {row.edited_by for row in found} == {"ida"}
    assert [row.id for row in found] == [10 + 100 * number for number in range(10)]
    plan = plan_of(many, partial(reads.latest_edits, many, 10))
    assert (plan.indexes, plan.scans_captions) == (["ix_captions_edited_at"], False)
    assert plan.rows_read <= _FEW, plan


def test_rows_to_redo_are_counted_by_their_index(many: Connection) -> None:
    """None of the other captioned rows is read."""
    assert reads.redo_count(many) == 60
    plan = plan_of(many, partial(reads.redo_count, many))
    assert (plan.indexes, plan.scans_captions) == (["ix_captions_redo"], False)
    assert plan.rows_read <= _FEW, plan


def test_the_latest_attempts_are_read_alone(many: Connection) -> None:
    """The check of the worker pool reads a bounded number of rows, with the rights of the function."""
    workers.insert(many, workers.NewWorker("a", "host", "demo", "1", "cpu", 32), 600)
    many.exec_driver_sql("SET ROLE dropline_ingest")
    assert not workers.is_any_active(many, 300)
    plan = plan_of(many, partial(workers.is_any_active, many, 300))
    assert set(plan.indexes) == {"ix_captions_captioned_at", "ix_captions_claimed_by"}
    assert not plan.scans_captions
    assert plan.rows_read <= 3 * _FEW, plan

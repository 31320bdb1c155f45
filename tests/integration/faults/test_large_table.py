"""A large table: the number of rows read by a statement does not grow. docs/performance.md has the times."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, text

from db import claims, due_rows, object_rows, reads
from db.copies import Model
from db.session import Database
from dropline.contract import ObjectFacts, ObjectVersion, TaskRequest
from tests.support.rows import CHILD, LEASE_S, TASK

_ROWS = 60_000
_QUEUED_EACH = 10
_GENERATIONS = 20_000
#: Rows of `captions` that one statement may fetch.
_MOST_FETCHED = 60

_FILL = text("""
    INSERT INTO captions (bucket, object_name, generation, task, md5_hash, status, caption, model, model_revision,
                          captioned_at, queued_at)
    SELECT 'drops', n || '.jpg', 1, '<CAPTION>', md5(n::text),
           CASE mod(n, :each) WHEN 0 THEN 'queued' ELSE 'captioned' END,
           CASE WHEN mod(n, :each) > 0 THEN 'a red circle' END, CASE WHEN mod(n, :each) > 0 THEN 'm' END,
           CASE WHEN mod(n, :each) > 0 THEN 'main' END,
           CASE WHEN mod(n, :each) > 0 THEN now() - interval '1 hour' END, now() - make_interval(secs => n)
    FROM generate_series(1, :rows) AS n
""")
_OVERWRITES = text("""
    INSERT INTO captions (bucket, object_name, generation, task, status, caption, model, captioned_at)
    SELECT 'drops', 'one.jpg', n, '<CAPTION>', 'captioned', 'a red circle', 'm', now()
    FROM generate_series(1, :rows) AS n
""")
_FETCHED = text("""
    SELECT COALESCE(sum(seq_tup_read), 0)::int AS scanned, COALESCE(sum(idx_tup_fetch), 0)::int AS fetched
    FROM pg_stat_xact_user_tables WHERE relname = 'captions'
""")
# psycopg prepares a statement at its fifth repetition, and Postgres compares plans after five executions.
_PLANS = text("SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE '%claimed AS%'")


@pytest.fixture
def large(connection: Connection, database: Database) -> Database:
    """A table of many captioned and thousands of queued rows, with statistics."""
    connection.execute(text("ALTER TABLE captions DISABLE TRIGGER USER"))
    connection.execute(text("SET statement_timeout = 0"))
    connection.execute(_FILL, {"rows": _ROWS, "each": _QUEUED_EACH})
    connection.execute(text("ALTER TABLE captions ENABLE TRIGGER USER"))
    connection.execute(text("VACUUM ANALYZE captions"))
    return database


def _read_by(database: Database, act: Callable[[Connection], object]) -> tuple[int, int]:
    """Rows of `captions` that `act` scans, and rows that `act` fetches by an index."""
    with database.transaction() as connection:
        act(connection)
        found: Any = connection.execute(_FETCHED).one()
    return found.scanned, found.fetched


@pytest.mark.parametrize(
    "act",
    [
        lambda connection: claims.claim(connection, 10, LEASE_S, CHILD),
        lambda connection: claims.claim(connection, 999_999_999, LEASE_S, CHILD),
        lambda connection: due_rows.look(connection, 5),
        due_rows.rest,
        due_rows.oldest_s,
        lambda connection: object_rows.register_object(
            connection, ObjectVersion("drops", "new.jpg", 1), ObjectFacts(), TASK
        ),
        lambda connection: reads.throughput(connection, 1),
    ],
    ids=["claim", "claim without its hint", "look", "rest", "due for longest", "event", "oldest"],
)
def test_fault_40_statements_read_few_rows(large: Database, act: Callable[[Connection], object]) -> None:
    """Claims, looks and events read by indexes, with thousands of queued rows among many more."""
    scanned, fetched = _read_by(large, act)
    assert scanned == 0
    assert fetched <= _MOST_FETCHED


@pytest.mark.parametrize("model", [None, Model("m", "main")], ids=["no copies", "copies"])
def test_a_claim_is_not_planned_anew(large: Database, model: Model | None) -> None:
    """Postgres keeps one plan of the longest statement: to plan it takes several times as long as to run it."""
    with large.transaction() as connection:
        for _ in range(20):
            assert claims.claim(connection, 0, LEASE_S, CHILD, model).work
        plans: Any = connection.execute(_PLANS).one()
    assert plans.custom_plans < plans.generic_plans


def test_fault_46_an_event_of_an_object_with_a_long_history(connection: Connection, database: Database) -> None:
    """An overwrite supersedes unfinished generations, and reads no finished generation."""
    connection.execute(text("ALTER TABLE captions DISABLE TRIGGER USER"))
    connection.execute(_OVERWRITES, {"rows": _GENERATIONS})
    connection.execute(text("ALTER TABLE captions ENABLE TRIGGER USER"))
    connection.execute(text("VACUUM ANALYZE captions"))
    task = TaskRequest.parse("<CAPTION>")

    def overwrite(connection: Connection) -> None:
        version = ObjectVersion("drops", "one.jpg", _GENERATIONS + 1)
        object_rows.register_object(connection, version, ObjectFacts(), task)

    scanned, fetched = _read_by(database, overwrite)
    assert scanned == 0
    assert fetched <= _MOST_FETCHED

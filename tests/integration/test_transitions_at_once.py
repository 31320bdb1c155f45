"""Simultaneous events and claims: many threads, one real Postgres."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, text

from db import claims, due_rows, edits, object_rows
from db.edits import EditTarget
from db.session import Database
from dropline.contract import ObjectVersion, Status, WriteBack
from tests.support.engines import wait_until
from tests.support.rows import CHILD, G1, LEASE_S, OTHER_TASK, drop, status_of


@pytest.mark.parametrize("round_", range(20))
def test_a_finalize_and_its_delete_at_once_end_deleted(database: Database, round_: int) -> None:
    """In either order, no row of the generation stays queued."""
    version = ObjectVersion("drops", f"race-{round_}", 1)
    barrier = threading.Barrier(4)

    def run(act: Callable[[Connection], object]) -> None:
        barrier.wait()
        with database.transaction() as connection:
            act(connection)

    acts: list[Callable[[Connection], object]] = [
        lambda connection: object_rows.tombstone(connection, version),
        lambda connection: drop(connection, version),
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, acts * 2))
    with database.transaction() as connection:
        states = connection.execute(
            text("SELECT status FROM captions WHERE object_name = :name"), {"name": version.name}
        )
        assert list(states.scalars()) == ["deleted"]


def test_generations_at_once_leave_one_queued(database: Database) -> None:
    """Ten generations registered by ten threads at once: the newest is queued, all others superseded."""
    versions = [ObjectVersion("drops", "a.jpg", generation) for generation in range(1, 11)]
    barrier = threading.Barrier(10)

    def run(version: ObjectVersion) -> None:
        barrier.wait()
        with database.transaction() as connection:
            drop(connection, version)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(run, versions))
    with database.transaction() as connection:
        found = connection.execute(text("SELECT generation FROM captions WHERE status = 'queued'"))
        assert list(found.scalars()) == [10]
        assert connection.execute(text("SELECT count(*) FROM captions")).scalar() == 10


def test_of_many_claims_at_once_each_due_row_is_claimed_once(database: Database) -> None:
    """A hundred claims of fifty due rows by twenty threads, with the same hint: fifty rows, and no claim waits."""
    with database.transaction() as connection:
        ids = [drop(connection, ObjectVersion("drops", f"{number}.jpg", 1)) for number in range(50)]
    barrier = threading.Barrier(20)

    def run(child: int) -> list[int]:
        barrier.wait()
        works = []
        for _ in range(5):
            with database.statement() as connection:
                works.append(claims.claim(connection, ids[25], LEASE_S, f"test/{child}").work)
        return [work.row_id for work in works if work is not None]

    with ThreadPoolExecutor(20) as pool:
        claimed = [row_id for found in pool.map(run, range(20)) for row_id in found]
    assert sorted(claimed) == ids


def test_a_claim_does_not_wait_for_a_locked_row(database: Database) -> None:
    """Another child claims the row of the hint at the same time: the next row is claimed, or none."""
    with database.transaction() as connection:
        first, second = (drop(connection, ObjectVersion("drops", name, 1)) for name in ("a.jpg", "b.jpg"))
    with database.transaction() as slow, database.transaction() as quick:
        quick.execute(text("SET LOCAL lock_timeout = '1ms'"))
        taken = claims.claim(slow, first, LEASE_S, "test/1").work
        assert taken is not None
        assert taken.row_id == first
        for hint, expected in ((first, second), (first, None)):
            work = claims.claim(quick, hint, LEASE_S, "test/2").work
            assert (None if work is None else work.row_id) == expected


def test_looks_at_once_find_the_same_rows(database: Database) -> None:
    """Two workers look at the same time, and neither locks a row: both send messages, which are hints."""
    with database.transaction() as connection:
        ids = [drop(connection, ObjectVersion("drops", f"{number}.jpg", 1)) for number in range(3)]
    with database.transaction() as one, database.transaction() as other:
        other.execute(text("SET LOCAL lock_timeout = '1ms'"))
        claims.claim(one, ids[0], LEASE_S, "test/1")
        assert due_rows.look(one, 5).row_ids == tuple(ids[1:])
        assert due_rows.look(other, 5).row_ids == tuple(ids)


_WAITING = text("""
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted
""")


def test_an_edit_after_the_snapshot_of_a_claim_leaves_the_siblings(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim locks the row as the edit has left it: it is a write-back, and takes no further task along."""
    paused = str(claims._CLAIM).replace(
        "WHERE id = :hint", "WHERE (SELECT pg_advisory_xact_lock(1)) IS NOT NULL AND id = :hint"
    )
    monkeypatch.setattr(claims, "_CLAIM", text(paused))
    with database.transaction() as connection:
        own, further = drop(connection, G1), drop(connection, G1, OTHER_TASK)

    def claim() -> claims.Claimed:
        with database.transaction() as connection:
            return claims.claim(connection, own, LEASE_S, CHILD)

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
            claimed = pool.submit(claim)
            wait_until(lambda: connection.execute(_WAITING).scalar_one() == 1)
            edits.edit(connection, EditTarget(G1.bucket, G1.name, None, "<CAPTION>"), "Grandma", "Ana", None)
        assert isinstance(claimed.result(60).work, WriteBack)
    with database.transaction() as connection:
        assert status_of(connection, further) is Status.QUEUED
        assert due_rows.look(connection, 5).row_ids == (further,)

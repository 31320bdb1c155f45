"""Simultaneous events and claims: many threads, one real Postgres."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, text

from db import claims, object_rows
from db.session import Database
from dropline.contract import ObjectVersion
from tests.support.rows import (
    G1,
    LEASE_S,
    drop,
)


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


def test_of_many_claims_at_once_one_wins(database: Database) -> None:
    """Ten threads claim a row: a single thread gets the claim, and the others get LeaseHeld."""
    with database.transaction() as connection:
        row_id = drop(connection, G1)
    barrier = threading.Barrier(10)

    def run(_: int) -> object:
        barrier.wait()
        with database.transaction() as connection:
            return claims.claim(connection, row_id, LEASE_S)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(run, range(10)))
    assert sorted(type(answer).__name__ for answer in answers) == ["Claim"] + ["LeaseHeld"] * 9

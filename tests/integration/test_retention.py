"""The end of rows: purged after a time, erased with their object; on a real Postgres."""

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from flask import Flask
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, text

from benchmarks.query_plans import nested_plans_of
from db import attempts, claims, object_rows, retention
from db.session import Database
from dropline.contract import ObjectFacts, ObjectVersion, Status
from dropline.settings import RetentionSettings
from tests.support.deliveries import BUCKET, GENERATION, push
from tests.support.function import deliver, serve
from tests.support.intake import opened
from tests.support.rows import (
    G1,
    G2,
    LEASE_S,
    OTHER_TASK,
    drop,
    history_of,
    record,
    redo,
    row_of,
    status_of,
    take,
)
from tests.support.worker_rig import Rig
from worker.retention import BATCH, EVERY, Purge

DAY_S = 24 * 3600.0
MONTH_S = 30 * DAY_S


def age(connection: Connection, days: int, where: str = "true") -> None:
    """Let time pass for rows."""
    connection.execute(
        text(f"UPDATE captions SET updated_at = now() - make_interval(days => :days) WHERE {where}"),
        {"days": days},
    )


def names(connection: Connection) -> set[str]:
    """The names of all objects with a row."""
    return set(connection.execute(text("SELECT object_name FROM captions")).scalars())


def searched(connection: Connection) -> set[int]:
    """The rows of caption_search."""
    return set(connection.execute(text("SELECT id FROM caption_search")).scalars())


def a_row(connection: Connection, name: str, words: str = "") -> int:
    """A queued row, or a captioned one."""
    row_id = drop(connection, ObjectVersion("drops", name, 1))
    if words:
        assert record(connection, take(connection, row_id), words, write_back=name == "unwritten")
    return row_id


def test_old_rows_of_gone_objects_are_purged_and_no_others(connection: Connection) -> None:
    """Live and unfinished rows stay, however old they are; so do rows whose object has just gone."""
    for name in ("captioned", "unwritten", "redone", "archived", "deleted", "deleted-now", "leased"):
        a_row(connection, name, "a cat")
    redo(connection, connection.execute(text("SELECT id FROM captions WHERE object_name = 'redone'")).scalar_one())
    failed = a_row(connection, "failed")
    assert attempts.fail(connection, take(connection, failed), "x", "y").held
    running = a_row(connection, "running")
    claims.claim(connection, running, LEASE_S, "test/2")
    a_row(connection, "queued")
    object_rows.archive(connection, ObjectVersion("drops", "archived", 1))
    object_rows.tombstone(connection, ObjectVersion("drops", "deleted", 1))
    object_rows.tombstone(connection, ObjectVersion("drops", "tombstone", 1))
    # By plain SQL: a claim will end the lease.
    connection.execute(
        text(
            "UPDATE captions SET status = 'deleted', lease_until = now() + interval '1 h'"
            " WHERE object_name = 'leased'"
        )
    )
    age(connection, 31)
    object_rows.tombstone(connection, ObjectVersion("drops", "deleted-now", 1))
    connection.execute(text("INSERT INTO caption_history (caption_id, caption) SELECT id, 'old' FROM captions"))
    before = names(connection)
    assert retention.purge(connection, MONTH_S, 100) == 3
    assert before - names(connection) == {"archived", "deleted", "tombstone"}
    kept = {"captioned", "unwritten", "redone", "deleted-now", "leased"}
    found = connection.execute(text("SELECT object_name FROM captions JOIN caption_search USING (id)")).scalars()
    assert set(found) == kept
    assert len(searched(connection)) == len(kept)


def test_a_purge_is_bounded_and_the_oldest_go_first(connection: Connection) -> None:
    """A batch at a time, until none is left."""
    for number in range(5):
        object_rows.tombstone(connection, ObjectVersion("drops", f"{number}", 1))
        age(connection, 50 + number, f"object_name = '{number}'")
    assert retention.purge(connection, MONTH_S, 2) == 2
    assert names(connection) == {"0", "1", "2"}
    assert [retention.purge(connection, MONTH_S, 2) for _ in range(3)] == [2, 1, 0]


def test_purges_at_once_do_not_wait_and_delete_each_row_once(database: Database, connection: Connection) -> None:
    """Eight workers purge 200 rows; an event that holds a row keeps it."""
    connection.execute(
        text("""
            INSERT INTO captions (bucket, object_name, generation, task, status, updated_at)
            SELECT 'drops', n::text, 1, '*', 'deleted', now() - interval '40 days'
            FROM generate_series(1, 200) AS n
        """)
    )

    def purge(_number: int) -> int:
        purged = 0
        while True:
            with database.statement() as inside:
                found = retention.purge(inside, MONTH_S, 10)
            if not found:
                return purged
            purged += found

    with database.transaction() as holder, ThreadPoolExecutor(8) as threads:
        holder.execute(text("SELECT FROM captions WHERE object_name = '1' FOR UPDATE"))
        assert sum(threads.map(purge, range(8))) == 199
    assert names(connection) == {"1"}


def test_a_late_event_of_a_purged_generation_queues_nothing(connection: Connection) -> None:
    """The row of the newer generation keeps the late one back."""
    drop(connection, G1)
    object_rows.tombstone(connection, G1)
    age(connection, 31)
    newer = drop(connection, G2)
    assert retention.purge(connection, MONTH_S, 100) == 1
    late = object_rows.register_object(connection, G1, ObjectFacts(), OTHER_TASK)
    assert late.status is Status.SUPERSEDED
    assert status_of(connection, newer) is Status.QUEUED


def test_fault_46_an_object_overwritten_again_and_again_keeps_few_rows(connection: Connection) -> None:
    """Each generation is captioned and deleted by the next; with a retention the table does not grow."""
    for generation in range(1, 41):
        version = ObjectVersion("drops", "often.jpg", generation)
        record(connection, take(connection, drop(connection, version)))
        object_rows.tombstone(connection, ObjectVersion("drops", "often.jpg", generation - 1))
        age(connection, 31, "status = 'deleted'")
        retention.purge(connection, MONTH_S, 10)
        found = connection.execute(text("SELECT count(*) FROM captions")).scalar_one()
        assert found == 1
    assert connection.execute(text("SELECT generation FROM current_captions")).scalar_one() == 40


def test_the_worker_may_purge_and_delete_nothing_else(connection: Connection, database_url: str) -> None:
    """The role has no right to delete rows; no other role may purge."""
    a_row(connection, "captioned", "a cat")
    object_rows.tombstone(connection, G1)
    age(connection, 31)
    call = "SELECT purge_captions('30 days', 10)"
    with psycopg.connect(database_url, autocommit=True) as worker:
        for role in ("dropline_ingest", "dropline_reader", "dropline_gallery"):
            worker.execute(f"SET ROLE {role}".encode())
            with pytest.raises(InsufficientPrivilege):
                worker.execute(call)
        worker.execute("SET ROLE dropline_worker")
        with pytest.raises(InsufficientPrivilege):
            worker.execute("DELETE FROM captions")
        assert worker.execute(call).fetchone() == (1,)
    assert names(connection) == {"captioned"}


def test_a_purge_reads_the_rows_that_it_deletes(connection: Connection, database_url: str) -> None:
    """Neither the live rows nor the younger ended rows of a long table are read."""
    with psycopg.connect(database_url, autocommit=True) as superuser:
        superuser.execute("""
            INSERT INTO captions (bucket, object_name, generation, task, status, caption, model, captioned_at,
                                  updated_at)
            SELECT 'drops', n::text, 1, '<CAPTION>',
                   CASE WHEN n % 3 = 0 THEN 'deleted' ELSE 'captioned' END, 'a cat', 'demo', now(),
                   now() - make_interval(days => n % 60)
            FROM generate_series(1, 20000) AS n
        """)
        superuser.execute("VACUUM ANALYZE captions")
    found = nested_plans_of(connection, lambda: retention.purge(connection, MONTH_S, 100))
    plans = [plan for plan in found if "ModifyTable captions" in plan.nodes]
    assert plans
    for plan in plans:
        assert {"ix_captions_ended_at", "pk_captions"} <= set(plan.indexes), plan
        assert not plan.scans_captions
        assert plan.rows_read <= 100


@pytest.mark.parametrize("erase", [True, False])
def test_fault_47_a_deletion_erases_captions_at_once(connection: Connection, erase: bool) -> None:
    """Caption, result and the searched copy of all tasks go; another generation keeps its own."""
    one = drop(connection, G1)
    record(connection, take(connection, one), "the old secret 4711")
    two = drop(connection, G1, OTHER_TASK)
    record(connection, take(connection, two), "4711")
    redo(connection, one)
    record(connection, take(connection, one), "a secret number 4711")
    newer = drop(connection, G2)
    record(connection, take(connection, newer), "another")
    connection.execute(text('UPDATE captions SET result = \'{"labels": ["4711"]}\' WHERE id = :id'), {"id": two})
    object_rows.tombstone(connection, G1, erase=erase)
    assert {status_of(connection, row_id) for row_id in (one, two)} == {Status.DELETED}
    assert status_of(connection, newer) is Status.CAPTIONED
    everything = json.dumps([row_of(connection, row_id) for row_id in (one, two)], default=str)
    assert ("4711" in everything) != erase
    assert searched(connection) == ({newer} if erase else {one, two, newer})
    assert history_of(connection, one) == ([] if erase else ["the old secret 4711"])


def test_fault_47_a_deletion_found_by_the_worker_erases_the_caption_of_before(connection: Connection) -> None:
    """The row is to be redone, and its object is gone: its DELETE event has not arrived yet."""
    row_id = drop(connection, G1)
    for words in ("an old secret", "a secret"):
        record(connection, take(connection, row_id), words)
        redo(connection, row_id)
    assert attempts.mark_deleted(connection, take(connection, row_id), erase=True).held
    assert history_of(connection, row_id) == []
    row = row_of(connection, row_id)
    assert (row["status"], row["caption"], row["result"]) == ("deleted", None, None)
    assert searched(connection) == set()


def test_fault_47_a_caption_that_a_worker_had_not_erased_goes_with_the_event(connection: Connection) -> None:
    """The worker is of the release before."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), "a secret")
    connection.execute(text("UPDATE captions SET status = 'deleted' WHERE id = :id"), {"id": row_id})
    object_rows.tombstone(connection, G1, erase=True)
    assert row_of(connection, row_id)["caption"] is None


@pytest.mark.parametrize("erase", [True, False])
def test_the_setting_decides_what_a_deletion_erases(
    database_url: str, redis_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch, erase: bool
) -> None:
    """The function reads the setting."""
    settings = RetentionSettings(erase_on_delete=erase)
    with opened(database_url, redis_url, retention=settings) as endpoint:
        app: Flask = serve(endpoint, monkeypatch)
        assert deliver(app, push("cat.jpg")).status_code == 204
        record(connection, take(connection, 1), "a cat")
        assert deliver(app, push("cat.jpg", event_type="OBJECT_DELETE")).status_code == 204
    row = row_of(connection, 1)
    assert (row["bucket"], row["generation"], row["status"]) == (BUCKET, GENERATION, "deleted")
    assert (row["caption"] is None) == erase


def test_a_child_purges_a_batch_with_each_hundredth_row(database: Database, connection: Connection) -> None:
    """And none at zero days; a purge without Postgres does no harm."""
    for days, left in ((0.0, {"gone"}), (30.0, set())):
        object_rows.tombstone(connection, ObjectVersion("drops", "gone", 1))
        age(connection, 31)
        purge = Purge(lambda: database, RetentionSettings(ended_days=days))
        for _ in range(EVERY - 1):
            purge.row_ended()
        assert names(connection) == {"gone"}
        purge.row_ended()
        assert names(connection) == left


def test_a_worker_purges_all_old_rows_when_it_looks_at_the_queue(rig: Rig) -> None:
    """The look at the start purges a batch, and the next looks purge the rest."""
    with rig.database.transaction() as connection:
        connection.execute(
            text("""
                INSERT INTO captions (bucket, object_name, generation, task, status, updated_at)
                SELECT 'drops', n::text, 1, '*', 'deleted', now() - interval '40 days'
                FROM generate_series(1, :rows) AS n
            """),
            {"rows": BATCH + 7},
        )
        kept = drop(connection, G1)
        connection.execute(
            text("UPDATE captions SET priority = 2, not_before = now() + interval '1 day' WHERE id = :id"),
            {"id": kept},
        )
    rig.worker(ready='"rows": 7')
    with rig.database.transaction() as connection:
        assert names(connection) == {"a.jpg"}

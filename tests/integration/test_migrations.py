"""Migrations up, down and up again; and the rights of the roles, with real logins."""

import itertools
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from alembic.util.exc import CommandError
from psycopg import errors, sql
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from db import due_rows
from dropline.errors import SettingsError
from local_emulators.postgres import PostgresServer
from migrations.run import check, config, downgrade, upgrade
from tests.support.engines import wait_until
from tests.support.logins import Login
from tests.support.rows import open_connection

SNAPSHOT = """
    SELECT 'column' AS kind, table_name || '.' || column_name AS name, data_type || is_nullable AS what
    FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
              WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'function', proname, prosrc FROM pg_proc
              WHERE pronamespace = 'public'::regnamespace AND proname = 'notify_caption'
    UNION ALL SELECT 'grant', grantee || ' ' || table_name || '.' || column_name, privilege_type
              FROM information_schema.column_privileges WHERE grantee LIKE 'dropline%'
    UNION ALL SELECT 'grant', grantee || ' ' || table_name, privilege_type FROM information_schema.table_privileges
              WHERE grantee LIKE 'dropline%'
    ORDER BY 1, 2, 3
"""
INSERT = """
    INSERT INTO captions (bucket, object_name, generation, task, status)
    VALUES ('b', 'n', 1, '<CAPTION>', 'queued')
"""


def alembic(url: str, *arguments: str) -> subprocess.Popen[str]:
    """The `alembic` command in the project's root."""
    return subprocess.Popen(
        [sys.executable, "-m", "alembic", *arguments],
        env={**os.environ, "DROPLINE_DATABASE__URL": url},
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def snapshot(url: str) -> list[TupleRow]:
    """All objects of the schema, as rows to compare."""
    with psycopg.connect(url) as connection:
        return connection.execute(SNAPSHOT).fetchall()


def test_up_down_and_up_again_gives_the_same_schema(postgres_server: PostgresServer) -> None:
    """From empty to head, to empty, and to head again: the same schema, and an empty database between."""
    postgres_server.create_database("up_and_down")
    url = postgres_server.url_for("up_and_down")
    before = snapshot(url)
    upgrade(url)
    migrated = snapshot(url)
    assert len(migrated) > len(before)
    downgrade(url)
    left = [row for row in snapshot(url) if "alembic_version" not in row[1]]
    assert left == before
    upgrade(url)
    assert snapshot(url) == migrated


QUEUE_INDEXES = """
    SELECT indexname FROM pg_indexes JOIN pg_index ON indexrelid = indexname::regclass
    WHERE indisvalid AND indexname IN ('ix_captions_due', 'ix_captions_claimed_by', 'ix_captions_queued',
                                       'ix_captions_lease') AND indexdef NOT LIKE '%(id)%'
    ORDER BY 1
"""
OLD_ROWS = """
    INSERT INTO captions (bucket, object_name, generation, task, status, lease_until)
    VALUES ('b', 'n', 1, '<CAPTION>', 'queued', NULL), ('b', 'n', 1, '<OD>', 'running', now() + interval '300 s')
"""


def rows_due(url: str) -> tuple[int, float | None]:
    """The number of due rows, and the seconds until the next row is due."""
    with open_connection(url) as connection:
        found = due_rows.look(connection, 10)
    return len(found.row_ids), found.next_in_s


def test_rows_of_the_release_before_are_due_after_an_upgrade_and_rows_in_a_back_off_after_a_downgrade(
    postgres_server: PostgresServer,
) -> None:
    """Revisions 0006 and 0007, up, down and up; an index that an upgrade did not finish is made anew."""
    postgres_server.create_database("queue_up_and_down")
    url = postgres_server.url_for("queue_up_and_down")
    upgrade(url, "0005")
    with psycopg.connect(url) as connection:
        connection.execute(OLD_ROWS)
    upgrade(url, "0006")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE INDEX ix_captions_due ON captions (id)")
    upgrade(url)
    assert rows_due(url)[0] == 1
    with psycopg.connect(url) as connection:
        assert connection.execute(QUEUE_INDEXES).fetchall() == [("ix_captions_claimed_by",), ("ix_captions_due",)]
        connection.execute("UPDATE captions SET not_before = now() + interval '1 day' WHERE status = 'queued'")
    due, next_in_s = rows_due(url)
    assert due == 0
    assert next_in_s == pytest.approx(300, abs=120)
    downgrade(url, "0005")
    with psycopg.connect(url) as connection:
        assert connection.execute(QUEUE_INDEXES).fetchall() == [("ix_captions_lease",), ("ix_captions_queued",)]
    upgrade(url)
    assert rows_due(url)[0] == 1


def test_a_row_inserted_by_plain_sql_is_due(login: Login, database_url: str) -> None:
    """The function of the release before, and any program with its role, send no priority and need no message."""
    login("dropline_ingest").execute(INSERT)
    assert rows_due(database_url) == (1, None)


def test_an_upgrade_of_a_migrated_database_changes_nothing(database_url: str) -> None:
    """A deployment may run the migrations every time."""
    before = snapshot(database_url)
    upgrade(database_url)
    assert snapshot(database_url) == before


def test_models_and_migrations_agree(database_url: str) -> None:
    """`alembic check` finds no difference, and finds a dropped column."""
    check(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE captions DROP COLUMN width CASCADE")
    with pytest.raises(CommandError, match="width"):
        check(database_url)


def test_a_password_with_a_percent_sign_reaches_alembic_whole() -> None:
    """Percent-encoded passwords survive the interpolation of Alembic's configuration."""
    url = "postgresql://u:p%40ss%25@h:1/d"
    assert config(url).get_main_option("sqlalchemy.url") == url


def test_the_url_of_another_database_is_refused() -> None:
    """The URL of another database is refused; the error names the variable."""
    with pytest.raises(SettingsError, match="DROPLINE_DATABASE__URL"):
        upgrade("sqlite:///x.db")


def test_the_alembic_command_takes_the_url_from_the_environment(database_url: str) -> None:
    """`alembic` in the project's root finds the migrations and the database."""
    with alembic(database_url, "current") as command:
        assert "0028 (head)" in command.communicate(timeout=120)[0]


def test_two_deployments_that_migrate_at_once_take_turns(postgres_server: PostgresServer) -> None:
    """Both succeed, and the schema is created once."""
    postgres_server.create_database("twice_at_once")
    url = postgres_server.url_for("twice_at_once")
    with alembic(url, "upgrade", "head") as one, alembic(url, "upgrade", "head") as other:
        outputs = [command.communicate(timeout=120)[0] for command in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], outputs
    check(url)


OLD_CAPTIONS = """
    INSERT INTO captions (bucket, object_name, generation, task, status, caption, model, captioned_at)
    SELECT 'b', n::text, 1, '<CAPTION>', 'captioned', 'a dog ' || n, 'demo', now()
    FROM generate_series(1, 20000) AS n
"""
#: A worker, an editor of captions and an erasure, at random places.
TRAFFIC = """
    UPDATE captions SET attempts = attempts + 1, caption = CASE attempts % 3 WHEN 0 THEN caption || ' again' END,
                        status = CASE WHEN attempts % 3 = 0 THEN status ELSE 'deleted' END
    WHERE id = 1 + floor(random() * 20000)::int
"""
DIFFERENT_COPIES = """
    SELECT count(*) FROM captions FULL JOIN caption_search USING (id)
    WHERE captions.caption IS DISTINCT FROM caption_search.caption
"""


def write_until(stop: threading.Event, url: str) -> int:
    """Change rows, one statement after the other; the number. No statement may wait two seconds for a lock."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '2s'")
        for number in itertools.count():
            if stop.is_set():
                return number
            connection.execute(TRAFFIC)
    raise AssertionError("the loop has no end")


def test_captions_are_copied_while_function_and_worker_write(postgres_server: PostgresServer) -> None:
    """Revision 0009 under traffic, up, down and up again; an index that an upgrade did not finish is made anew."""
    postgres_server.create_database("captions_copied")
    url = postgres_server.url_for("captions_copied")
    upgrade(url, "0007")
    with psycopg.connect(url) as connection:
        connection.execute(OLD_CAPTIONS)
        connection.execute("CREATE INDEX ix_captions_unwritten ON captions (bucket)")
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:
        writer = pool.submit(write_until, stop, url)
        try:
            upgrade(url)
            different = one_number(url, DIFFERENT_COPIES)
            downgrade(url, "0007")
            upgrade(url)
        finally:
            stop.set()
        assert writer.result(60) > 100
    assert (different, one_number(url, DIFFERENT_COPIES)) == (0, 0)
    assert one_number(url, "SELECT count(*) FROM caption_search") > 10_000
    check(url)


_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_49_a_migration_that_waits_for_a_lock_lets_others_go_first(postgres_server: PostgresServer) -> None:
    """Behind a long query, the migration gives up its place in the queue of the lock, and tries again."""
    postgres_server.create_database("long_query")
    url = postgres_server.url_for("long_query")
    upgrade(url, "0012")
    with (
        psycopg.connect(url) as long,
        psycopg.connect(url, autocommit=True) as other,
        ThreadPoolExecutor() as pool,
    ):
        long.execute("SELECT FROM workers")
        migration = pool.submit(upgrade, url)
        wait_until(lambda: other.execute(_WAITING).fetchone() == (1,))
        # This statement waits behind the migration, and is done while the long query still holds its lock.
        assert other.execute("SELECT count(*) FROM workers").fetchone() == (0,)
        assert long.info.transaction_status == TransactionStatus.INTRANS
        long.rollback()
        migration.result(120)
    check(url)


def one_number(url: str, statement: LiteralString) -> int:
    """The number that a statement counts."""
    with psycopg.connect(url) as connection:
        row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


def test_no_role_writes_the_copies_by_itself(login: Login) -> None:
    """The trigger writes for a role that may change captions; all roles read."""
    gallery = login("dropline_gallery")
    gallery.execute(INSERT)
    gallery.execute("UPDATE captions SET caption = 'a dog'")
    for role in ("dropline_ingest", "dropline_worker", "dropline_reader", "dropline_gallery"):
        connection = login(role)
        assert connection.execute("SELECT caption FROM caption_search").fetchall() == [("a dog",)]
        connection.execute("SET default_transaction_read_only = off")
        for statement in ("UPDATE caption_search SET caption = 'x'", "DELETE FROM caption_search"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_only_the_worker_keeps_replaced_captions(login: Login) -> None:
    """The worker inserts; all roles read; no role changes or deletes by itself. An erasure erases the history."""
    gallery, worker = login("dropline_gallery"), login("dropline_worker")
    gallery.execute(INSERT)
    worker.execute("UPDATE captions SET caption = 'a wolf'")
    keep = "INSERT INTO caption_history (caption_id, caption) SELECT id, 'a dog' FROM captions"
    worker.execute(keep)
    for role in ("dropline_ingest", "dropline_worker", "dropline_reader", "dropline_gallery"):
        connection = login(role)
        assert connection.execute("SELECT caption FROM caption_history").fetchall() == [("a dog",)]
        connection.execute("SET default_transaction_read_only = off")
        statements = ["UPDATE caption_history SET caption = 'x'", "DELETE FROM caption_history"]
        for statement in statements if role == "dropline_worker" else [*statements, keep]:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement.encode())
    worker.execute("UPDATE captions SET caption = 'a cat'")
    assert worker.execute("SELECT count(*) FROM caption_history").fetchone() == (1,)
    worker.execute("UPDATE captions SET caption = NULL")
    assert worker.execute("SELECT count(*) FROM caption_history").fetchone() == (0,)


def test_function_and_gallery_insert_bulk_rows_and_no_other_role_does(login: Login) -> None:
    """Rows of priority 2 by the statement alone: the next insert of the connection has priority 0 again."""
    bulk = "SELECT queued FROM register_captions('b', %s::jsonb)"
    for role in ("dropline_ingest", "dropline_gallery"):
        connection = login(role)
        objects = f'[{{"name": "{role}", "generation": 1, "task": "<OD>", "status": "queued", "own_task": true}}]'
        assert connection.execute(bulk, (objects,)).fetchall() == [(1,)]
        connection.execute(
            "INSERT INTO backfills (source, options, cursor, runner) VALUES (%s, '{}', '{}', '')", (role,)
        )
        connection.execute("UPDATE backfills SET finished_at = now()")
    connection = login("dropline_ingest")
    with connection.transaction():
        connection.execute(bulk, ("[]",))
        connection.execute(INSERT)
    found = connection.execute("SELECT priority FROM captions ORDER BY id").fetchall()
    assert found == [(2,), (2,), (0,)]
    for role in ("dropline_worker", "dropline_reader"):
        with pytest.raises(errors.InsufficientPrivilege):
            login(role).execute(bulk, ("[]",))


def test_the_reader_only_reads(login: Login) -> None:
    """SELECT works; every write is refused, also with default_transaction_read_only off."""
    reader = login("dropline_reader")
    assert reader.execute("SELECT count(*) FROM captions").fetchone() == (0,)
    assert reader.execute("SELECT count(*) FROM current_captions").fetchone() == (0,)
    assert reader.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    with pytest.raises(errors.ReadOnlySqlTransaction):
        reader.execute(INSERT)
    reader.execute("SET default_transaction_read_only = off")
    for statement in (
        INSERT,
        "UPDATE captions SET caption = 'x'",
        "DELETE FROM captions",
        "TRUNCATE captions",
        "DROP TABLE captions",
        "CREATE TABLE mine (n int)",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            reader.execute(statement)


def test_the_function_inserts_and_updates_but_never_deletes(login: Login) -> None:
    """The function's statements for rows and tombstones work; DELETE, TRUNCATE and DDL are refused."""
    ingest = login("dropline_ingest")
    ingest.execute(INSERT)
    assert ingest.execute("UPDATE captions SET status = 'superseded'").rowcount == 1
    assert ingest.execute("SELECT count(*) FROM captions").fetchone() == (1,)
    for statement in ("DELETE FROM captions", "TRUNCATE captions", "DROP TABLE captions"):
        with pytest.raises(errors.InsufficientPrivilege):
            ingest.execute(statement)


def test_the_worker_updates_but_never_makes_or_removes_rows(login: Login) -> None:
    """The worker's statements work; INSERT, DELETE, TRUNCATE and DDL are refused."""
    login("dropline_ingest").execute(INSERT)
    worker = login("dropline_worker")
    assert worker.execute("UPDATE captions SET attempts = 1").rowcount == 1
    assert worker.execute("SELECT attempts FROM captions").fetchone() == (1,)
    for statement in (INSERT, "DELETE FROM captions", "TRUNCATE captions", "DROP TABLE captions"):
        with pytest.raises(errors.InsufficientPrivilege):
            worker.execute(statement)


COUNT = """
    INSERT INTO filtered_events AS f (day, bucket, reason, setting, slot, events, last_at)
    VALUES ('2026-11-26', 'b', 'excluded', 'X', 0, 1, now())
    ON CONFLICT (day, bucket, reason, setting, slot) DO UPDATE SET events = f.events + 1
"""


def test_only_the_function_counts_filtered_events(login: Login) -> None:
    """The function counts and removes nothing; worker and reader only read."""
    ingest = login("dropline_ingest")
    for _ in range(2):
        ingest.execute(COUNT)
    for role in ("dropline_worker", "dropline_reader"):
        with login(role) as other:
            assert other.execute("SELECT events FROM filtered_events").fetchone() == (2,)
            other.execute("SET default_transaction_read_only = off")
            with pytest.raises(errors.InsufficientPrivilege):
                other.execute(COUNT)
    for statement in ("DELETE FROM filtered_events", "TRUNCATE filtered_events"):
        with pytest.raises(errors.InsufficientPrivilege):
            ingest.execute(statement)
    assert login("dropline_migrator").execute("DELETE FROM filtered_events").rowcount == 1


def test_the_gallery_submits_and_redrives_and_reads_all_tables(login: Login) -> None:
    """Rows are made, queued again and edited; neither their identity nor the worker's columns are written."""
    gallery = login("dropline_gallery")
    gallery.execute(INSERT)
    gallery.execute("SELECT FROM captions FOR UPDATE SKIP LOCKED")
    gallery.execute(
        "UPDATE captions SET status = 'superseded', lease_until = NULL, caption = 'x', updated_at = now()"
    )
    gallery.execute(
        INSERT.replace("task, status", "task, status, priority").replace(
            "1, '<CAPTION>', 'queued'", "2, '<CAPTION>', 'queued', 2"
        )
    )
    gallery.execute("UPDATE captions SET redo = true, priority = 1, not_before = NULL, failing_since = NULL")
    for table in ("captions", "current_captions", "filtered_events", "workers", "alembic_version"):
        gallery.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
    for statement in (
        "UPDATE captions SET object_name = 'other'",
        "UPDATE captions SET attempts = 0",
        "UPDATE captions SET model = 'mine'",
        "UPDATE captions SET claimed_by = 'me'",
        INSERT.replace("status)", "status, model)").replace("'queued')", "'queued', 'mine')"),
        COUNT,
        START,
        "UPDATE workers SET stopped_at = now()",
        "UPDATE alembic_version SET version_num = '9999'",
        *(f"{verb} {table}" for verb in ("DELETE FROM", "TRUNCATE") for table in ("captions", "workers")),
        "DROP TABLE captions",
        "CREATE TABLE mine (n int)",
        "SET ROLE dropline_migrator",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            gallery.execute(statement.encode())


START = """
    INSERT INTO workers (name, host, model, model_revision, device, largest_batch)
    VALUES ('dropline-worker:1', 'gpu-1', 'demo', 'abc', 'cpu', 8)
"""


def test_only_the_worker_writes_the_table_of_workers(login: Login) -> None:
    """The worker inserts, stops and removes rows, and rewrites none; all other roles read."""
    worker = login("dropline_worker")
    worker.execute(START)
    assert worker.execute("UPDATE workers SET stopped_at = now()").rowcount == 1
    with pytest.raises(errors.InsufficientPrivilege):
        worker.execute("UPDATE workers SET model = 'other'")
    for role in ("dropline_ingest", "dropline_reader"):
        with login(role) as other:
            assert other.execute("SELECT host FROM workers").fetchone() == ("gpu-1",)
            other.execute("SET default_transaction_read_only = off")
            for statement in (START, "UPDATE workers SET stopped_at = now()", "DELETE FROM workers"):
                with pytest.raises(errors.InsufficientPrivilege):
                    other.execute(statement)
    assert worker.execute("DELETE FROM workers").rowcount == 1


def test_the_migrator_migrates_by_its_own_login(login: Login, postgres_server: PostgresServer) -> None:
    """A later migration runs as dropline_migrator, the owner of the first migration's objects."""
    migrator = login("dropline_migrator")
    migrator.execute("ALTER TABLE captions ADD COLUMN later text")
    migrator.execute("ALTER FUNCTION notify_caption() SECURITY INVOKER")
    migrator.execute("DROP VIEW current_captions")


def test_everybody_can_listen(login: Login, database_url: str) -> None:
    """A reader receives a change committed by the function."""
    reader = login("dropline_reader")
    reader.execute("LISTEN captions")
    login("dropline_ingest").execute(INSERT)
    notify = next(reader.notifies(timeout=60, stop_after=1))
    assert '"status" : "queued"' in notify.payload


@pytest.mark.parametrize(
    ("columns", "values", "constraint"),
    [
        ("status", "'asleep'", "ck_captions_status"),
        ("status, priority", "'queued', 3", "ck_captions_priority"),
        ("status, priority", "'queued', -1", "ck_captions_priority"),
        ("status", "'failed'", "ck_captions_failed_says_why"),
        ("status, caption", "'captioned', 'x'", "ck_captions_captioned_is_complete"),
        ("status", "'running'", "ck_captions_running_has_lease"),
    ],
)
def test_an_incomplete_row_is_refused(database_url: str, columns: str, values: str, constraint: str) -> None:
    """The table's constraints refuse unknown statuses and priorities, failures without reasons, and so on."""
    statement = f"INSERT INTO captions (bucket, object_name, generation, task, {columns}) "
    with (
        psycopg.connect(database_url) as connection,
        pytest.raises(errors.CheckViolation, match=constraint),
    ):
        connection.execute(f"{statement} VALUES ('b', 'n', 1, 't', {values})".encode())

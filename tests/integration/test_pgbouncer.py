"""Dropline behind a real PgBouncer: events, captions, commands; and what needs Postgres itself says so."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr

from cli.exit_codes import ExitCode
from db.listen import listening
from db.session import Connection, Database
from dropline.contract import ObjectVersion
from dropline.errors import SettingsError, StatementRefused
from dropline.settings import DatabaseSettings
from local_emulators.postgres import PostgresServer
from tests.support.deliveries import push
from tests.support.function import deliver_all, serve
from tests.support.intake import opened
from tests.support.pgbouncer import open_pgbouncer
from tests.support.rows import G1, caption_object, database_of, drop, fail_object
from tests.support.shell import run
from tests.support.worker_rig import Rig, png

pytestmark = pytest.mark.usefixtures("own_logging")


@pytest.fixture(scope="module")
def pooler_port(postgres_server: PostgresServer) -> Iterator[int]:
    """A PgBouncer in transaction mode, with its usual configuration."""
    with open_pgbouncer(postgres_server, "transaction") as port:
        yield port


@pytest.fixture
def pooled_url(database_url: str, postgres_server: PostgresServer, pooler_port: int) -> str:
    """The URL of the test's database through PgBouncer. The defaults of the database are unusual."""
    with psycopg.connect(database_url) as connection:
        name = connection.info.dbname
        for setting in ("datestyle = 'German, DMY'", "default_transaction_isolation = 'serializable'"):
            connection.execute(f"ALTER DATABASE {name} SET {setting}".encode())
    return database_url.replace(f":{postgres_server.port}/", f":{pooler_port}/")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, pooled_url: str) -> None:
    """The variables of the commands."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", pooled_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)


def test_sixty_events(pooled_url: str, redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 events at once, with more clients than sessions of Postgres: no error, and 60 rows."""
    with opened(pooled_url, redis_url) as endpoint:
        app = serve(endpoint, monkeypatch)
        statuses = deliver_all(app, [push(name=f"{number}.jpg") for number in range(60)])
        statuses += deliver_all(app, [push(name=f"{number}.jpg") for number in range(60)])
    assert statuses == [204] * 120
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM captions").fetchone() == (60,)


def test_each_transaction_has_the_settings(pooled_url: str) -> None:
    """The settings are those of the transaction, and none stays in the session of Postgres."""
    settings = DatabaseSettings(url=SecretStr(pooled_url), statement_timeout_ms=4321)
    database = Database.connect(settings, "test", connections=1)
    names = "datestyle", "transaction_isolation", "statement_timeout"
    shown = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
    for _ in range(2):
        with database.transaction() as connection:
            assert tuple(connection.exec_driver_sql(shown).one()) == ("ISO, MDY", "read committed", "4321ms")
    database.close()
    with psycopg.connect(pooled_url, autocommit=True) as connection:
        assert connection.execute(shown.encode(), prepare=False).fetchone() == ("German, DMY", "serializable", "0")


def test_a_failed_transaction_leaves_nothing(pooled_url: str) -> None:
    """An error rolls the transaction back, in the session of Postgres too."""
    with database_of(pooled_url) as database:
        with pytest.raises(StatementRefused), database.transaction() as connection:
            _drop_and_divide(connection)
        with database.transaction() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM captions").scalar() == 0


def _drop_and_divide(connection: Connection) -> None:
    drop(connection, G1)
    connection.exec_driver_sql("SELECT 1 / 0")


def test_a_worker_captions(rig: Rig, pooled_url: str) -> None:
    """A worker behind the pooler captions, retries and recovers."""
    ids = [rig.drop(f"{number}.png", png()) for number in range(8)]
    rig.worker(DROPLINE_DATABASE__URL=pooled_url)
    assert {row["status"] for row in rig.wait_settled(ids)} == {"captioned"}


@pytest.mark.usefixtures("environment")
def test_commands(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status`, `sql` and `redrive` work, again and again in the same sessions of Postgres."""
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    caption_object(database, G1)
    fail_object(database, ObjectVersion(G1.bucket, "b.jpg", 1), "worker_lost", "x")
    for _ in range(2 * 3):
        assert run("status").exit_code == ExitCode.OK
        assert "2026-01-02" in run("sql", "SELECT date '2026-01-02'").stdout
        assert run("sql", "SELECT 1/0").exit_code == ExitCode.USAGE
        assert "one statement at a time" in run("sql", "SELECT 1; SELECT 2").stderr
        assert run("sql", "DELETE FROM captions").exit_code == ExitCode.USAGE
    assert run("redrive", "--all").exit_code == ExitCode.OK


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("command", [("wait", G1.uri), ("watch",)])
def test_listening_needs_postgres_itself(command: tuple[str, ...]) -> None:
    """One line with the remedy, instead of a wait that hears nothing."""
    result = run(*command)
    assert (result.exit_code, result.stderr.count("\n")) == (ExitCode.SETTINGS, 1)
    assert "LISTEN (`wait`, `watch`) needs a connection to Postgres itself" in result.stderr


def test_migrations_need_postgres_itself(pooled_url: str) -> None:
    """The lock of a migration belongs to a session."""
    done = subprocess.run(
        [sys.executable, "-m", "migrations"],
        env={**os.environ, "DROPLINE_DATABASE__URL": pooled_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "A migration needs a connection to Postgres itself" in done.stderr


def test_a_pooler_in_session_mode(postgres_server: PostgresServer, database_url: str) -> None:
    """With DROPLINE_DATABASE__POOLER=session, listening works through a pooler too."""
    with open_pgbouncer(postgres_server, "session") as port:
        url = database_url.replace(f":{postgres_server.port}/", f":{port}/")
        settings = DatabaseSettings(url=SecretStr(url))
        with pytest.raises(SettingsError, match="POOLER=session"), listening(settings, "test"):
            pass
        with (
            listening(settings.model_copy(update={"pooler": "session"}), "test") as listener,
            psycopg.connect(database_url) as connection,
        ):
            connection.execute(
                "INSERT INTO captions (bucket, object_name, generation, task, status)"
                " VALUES ('b', 'n', 1, '<CAPTION>', 'queued')"
            )
            connection.commit()
            assert next(listener.notices(60)).object_name == "n"

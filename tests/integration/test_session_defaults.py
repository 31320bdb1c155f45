"""Defaults of a database and of a login (ALTER … SET) do not reach Dropline's sessions."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from cli.exit_codes import ExitCode
from db.listen import listening
from db.read_only import run_read_only
from db.session import Database
from dropline.contract import ObjectVersion
from local_emulators import gcs
from local_emulators.gcs import GcsServer
from local_emulators.postgres import PostgresServer
from migrations.run import check, upgrade
from tests.support.rows import caption_object, settings_of
from tests.support.shell import BUCKET, G1, AfterUpload, act_after_upload, run

pytestmark = pytest.mark.usefixtures("own_logging")
#: A default that breaks or weakens something, and the value of Dropline's sessions.
DEFAULTS = [
    ("DateStyle", "German, DMY", "ISO, MDY"),
    ("TimeZone", "America/St_Johns", "UTC"),
    ("IntervalStyle", "iso_8601", "postgres"),
    ("bytea_output", "escape", "hex"),
    ("extra_float_digits", "-15", "1"),
    ("standard_conforming_strings", "off", "on"),
    ("search_path", "pg_temp", "public"),
    ("client_encoding", "LATIN1", "UTF8"),
    ("statement_timeout", "31s", "2s"),
    ("lock_timeout", "31s", "2s"),
    ("idle_in_transaction_session_timeout", "31s", "1min"),
    ("idle_session_timeout", "31s", "0"),
    ("transaction_timeout", "31s", "0"),
    ("default_transaction_isolation", "serializable", "read committed"),
    ("default_transaction_deferrable", "on", "off"),
    ("synchronous_commit", "off", "on"),
]


def set_default(url: str, name: str, value: str, *, of_login: bool) -> None:
    """ALTER DATABASE, or ALTER ROLE … IN DATABASE, which Postgres prefers."""
    with psycopg.connect(url, autocommit=True) as connection:
        info = connection.info
        owner = f"ROLE {info.user} IN DATABASE {info.dbname}" if of_login else f"DATABASE {info.dbname}"
        value = value if name == "search_path" else f"'{value}'"
        connection.execute(f"ALTER {owner} SET {name} = {value}".encode())


@pytest.fixture
def hostile_url(database_url: str) -> str:
    """The URL of a migrated database with all of `DEFAULTS`."""
    for number, (name, value, _) in enumerate(DEFAULTS):
        set_default(database_url, name, value, of_login=bool(number % 2))
    return database_url


@pytest.mark.parametrize("number", range(len(DEFAULTS)), ids=[name for name, _, _ in DEFAULTS])
def test_a_default_is_pinned(database_url: str, number: int) -> None:
    """Transactions, a listener and `sql` have Dropline's value; the default is of the database or of the login."""
    name, value, pinned = DEFAULTS[number]
    set_default(database_url, name, value, of_login=bool(number % 2))
    settings = settings_of(database_url)
    statement = f"SELECT current_setting('{name}')"
    database = Database.connect(settings, "test", connections=1)
    with database.transaction() as connection:
        assert connection.exec_driver_sql(statement).scalar() == pinned
    database.close()
    with listening(settings, "test") as listener:
        row = listener._connection.execute(statement.encode()).fetchone()
        assert row == (pinned,)
    assert run_read_only(settings, statement, 2000).rows == [(pinned,)]


def test_migrations_under_hostile_defaults(postgres_server: PostgresServer) -> None:
    """The migrations make the same schema, in the schema `public`."""
    postgres_server.create_database("hostile_defaults")
    url = postgres_server.url_for("hostile_defaults")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA postgres")  # of the name of the login: first in Postgres's search path
    for name, value, _ in DEFAULTS:
        if name != "search_path":
            set_default(url, name, value, of_login=False)
    upgrade(url)
    check(url)
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'captions'").fetchall()
        assert found == [("public",)]


def test_an_extension_in_another_schema_is_found(postgres_server: PostgresServer) -> None:
    """Some hosts install pg_trgm in a schema of its own."""
    postgres_server.create_database("other_schema")
    url = postgres_server.url_for("other_schema")
    with psycopg.connect(url) as connection:
        connection.execute('CREATE SCHEMA "Extra"; CREATE EXTENSION pg_trgm SCHEMA "Extra"')
        connection.execute('GRANT USAGE ON SCHEMA "Extra" TO PUBLIC')
    upgrade(url)
    found = run_read_only(settings_of(url), "SELECT word_similarity('triangel', 'a triangle') > 0.3", 2000)
    assert found.rows == [(True,)]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, hostile_url: str, gcs_server: GcsServer, redis_url: str) -> None:
    """The variables of the commands."""
    gcs.create_bucket(gcs_server.url, "test", BUCKET)
    monkeypatch.setenv("DROPLINE_DATABASE__URL", hostile_url)
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    monkeypatch.setenv("DROPLINE_BUCKET", BUCKET)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.mark.usefixtures("environment")
def test_commands_under_hostile_defaults(
    hostile_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every command reads times, and `sql` shows them as documented."""
    image = tmp_path / "a.png"
    image.write_bytes(b"\x89PNG")
    database = Database.connect(settings_of(hostile_url), "test", connections=1)
    act: AfterUpload = lambda version: caption_object(database, version)  # noqa: E731
    act_after_upload(monkeypatch, act)
    version = ObjectVersion(BUCKET, "b.jpg", 1)
    caption_object(database, version)
    commands: list[tuple[object, ...]] = [
        ("drop", image, "--wait"),
        ("wait", version.uri, "--json"),
        ("status",),
        ("redrive", "--all"),
    ]
    for command in commands:
        assert run(*command).exit_code == ExitCode.OK, command
    shown = run("sql", "SELECT timestamptz '2026-02-01 00:00Z' AS t, '\\x00'::bytea AS b", "--json")
    assert json.loads(shown.stdout) == [{"t": "2026-02-01 00:00:00+00", "b": "\\x00"}]
    database.close()


@pytest.mark.usefixtures("environment")
def test_watch_under_hostile_defaults(hostile_url: str, during_watch: Callable[[], None]) -> None:
    """`watch` shows a change with its times."""
    during_watch()
    result = run("watch", "--limit", 1, "--json")
    assert result.exit_code == ExitCode.OK, result.stderr
    assert json.loads(result.stdout)["queued_at"].endswith("+00:00")


@pytest.fixture
def during_watch(hostile_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Captions an object once `watch` listens."""
    database = Database.connect(settings_of(hostile_url), "test", connections=1)

    def arrange() -> None:
        monkeypatch.setattr("cli.watch.print_note", lambda _note: caption_object(database, G1))

    yield arrange
    database.close()

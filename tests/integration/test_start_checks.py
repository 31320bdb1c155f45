"""The wrong database, an older or newer schema, another encoding, the wrong login: one line at start."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest
import structlog
from flask import Flask
from psycopg import sql
from structlog.testing import capture_logs

from cli.exit_codes import ExitCode
from db.revision import needed_revision
from dropline.errors import AccessDenied, DroplineError, SettingsError
from dropline.settings import Settings
from local_emulators.ports import HOST, free_ports
from local_emulators.postgres import PostgresServer
from migrations.run import downgrade, upgrade
from tests.support.deliveries import push
from tests.support.function import deliver, serve
from tests.support.intake import opened
from tests.support.rows import G1, settings_of
from tests.support.shell import Finished, run
from worker.app import check_database

pytestmark = pytest.mark.usefixtures("own_logging")

COMMANDS = [("status",), ("sql", "SELECT 1"), ("wait", G1.uri), ("watch",), ("redrive", "--all", "--dry-run")]


def create(server: PostgresServer, name: str, options: str = "", statement: str = "") -> str:
    """Create a database anew; returns its URL."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}".encode())
    url = server.url_for(name)
    if statement:
        with psycopg.connect(url) as connection:
            connection.execute(statement.encode())
    return url


def unmigrated(server: PostgresServer) -> str:
    """A database without tables."""
    return create(server, "start_unmigrated")


def of_another_program(server: PostgresServer) -> str:
    """A database of another program that uses Alembic too."""
    tables = "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('ae1027a6acf')"
    return create(server, "start_foreign", statement=tables)


def older(server: PostgresServer) -> str:
    """A database with the schema of an earlier release."""
    url = create(server, "start_older")
    upgrade(url)
    downgrade(url, "0001")
    return url


def latin1(server: PostgresServer) -> str:
    """A database that cannot store an emoji."""
    return create(server, "start_latin1", "ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")


def sql_ascii(server: PostgresServer) -> str:
    """A database that stores any bytes."""
    return create(server, "start_ascii", "ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'")


@dataclass(frozen=True)
class Wrong:
    """A wrong database, and what is told about it."""

    make: Callable[[PostgresServer], str]
    exit_code: ExitCode
    code: str
    told: str


UTF8 = "create a database with ENCODING 'UTF8'"
MIGRATE = "run `python -m migrations`"
WRONG = {
    each.make.__name__: each
    for each in (
        Wrong(unmigrated, ExitCode.UNAVAILABLE, "schema_outdated", MIGRATE),
        Wrong(of_another_program, ExitCode.UNAVAILABLE, "schema_outdated", MIGRATE),
        Wrong(older, ExitCode.UNAVAILABLE, "schema_outdated", "has the schema of revision 0001"),
        Wrong(latin1, ExitCode.SETTINGS, "settings", UTF8),
        Wrong(sql_ascii, ExitCode.SETTINGS, "settings", UTF8),
    )
}


@pytest.fixture(params=WRONG.values(), ids=list(WRONG), scope="module")
def wrong(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> tuple[Wrong, str]:
    """A wrong database, and its URL."""
    return request.param, request.param.make(postgres_server)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Callable[[str], None]:
    """Sets the URL of the commands."""

    def set_url(url: str) -> None:
        monkeypatch.setenv("DROPLINE_DATABASE__URL", url)
        monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
        monkeypatch.delenv("DATABASE_URL", raising=False)

    return set_url


def module(name: str) -> Finished:
    """Run a module as a process, to its end."""
    done = subprocess.run(
        [sys.executable, "-m", name], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def test_commands(wrong: tuple[Wrong, str], use: Callable[[str], None]) -> None:
    """Each command ends at once with one line."""
    case, url = wrong
    use(url)
    for command in COMMANDS:
        result = run(*command)
        assert (result.exit_code, result.stderr.count("\n")) == (case.exit_code, 1), (command, result.stderr)
        assert case.told in result.stderr, command


def test_the_function(wrong: tuple[Wrong, str], redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function lives, is not ready, and answers 503: events wait until the database is right."""
    case, url = wrong
    with opened(url, redis_url) as endpoint:
        app: Flask = serve(endpoint, monkeypatch)
        client = app.test_client()
        assert {client.get(path).status_code for path in ("/healthz", "/started")} == {200}
        for answer in (client.get("/ready"), deliver(app, push())):
            assert (answer.status_code, answer.get_json()) == (503, {"error": case.code})


def test_a_worker(wrong: tuple[Wrong, str]) -> None:
    """The check before the start fails."""
    case, url = wrong
    with pytest.raises(DroplineError, match=case.told) as caught:
        check_database(Settings(database=settings_of(url)))
    assert caught.value.code == case.code


def test_a_worker_ends_with_one_line(postgres_server: PostgresServer, use: Callable[[str], None]) -> None:
    """The process ends before the engine starts."""
    use(unmigrated(postgres_server))
    result = module("worker")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.stderr
    line = json.loads(result.stderr)
    assert line["code"] == "schema_outdated"
    assert line["error"].startswith("the database start_unmigrated has no tables")


def test_a_worker_without_postgres_starts() -> None:
    """An outage is no reason to end: the worker waits for Postgres."""
    check_database(Settings(database=settings_of(f"postgresql://u@{HOST}:{free_ports(1)[0]}/x")))


@pytest.mark.parametrize("make", [latin1, sql_ascii])
def test_migrations_refuse_another_encoding(
    make: Callable[[PostgresServer], str], postgres_server: PostgresServer
) -> None:
    """No table is created where an emoji in a name could not be stored."""
    url = make(postgres_server)
    with pytest.raises(SettingsError, match=UTF8):
        upgrade(url)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('captions')").fetchone() == (None,)


def test_the_function_recovers_after_the_migrations(
    postgres_server: PostgresServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next event after the migrations is accepted, without a restart."""
    url = unmigrated(postgres_server)
    with opened(url, redis_url) as endpoint:
        app: Flask = serve(endpoint, monkeypatch)
        assert deliver(app, push()).status_code == 503
        upgrade(url)
        assert app.test_client().get("/ready").status_code == 200
        assert deliver(app, push()).status_code == 204


def test_a_newer_schema_is_accepted(
    database_url: str, redis_url: str, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The migrations of the next version run before its code is rolled out."""
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    use(database_url)
    assert run("status").exit_code == ExitCode.OK
    with opened(database_url, redis_url) as endpoint:
        assert deliver(serve(endpoint, monkeypatch), push()).status_code == 204


def test_the_needed_revision_is_the_newest(database_url: str) -> None:
    """The revision of a migrated database is the one that the code needs."""
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (needed_revision(),)


@pytest.fixture
def login_url(postgres_server: PostgresServer, database_url: str) -> Callable[[str], str]:
    """The URL of the test's database for the login of a role; `stranger` has no role."""

    def url_of(role: str) -> str:
        with psycopg.connect(postgres_server.url, autocommit=True) as admin:
            if admin.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
                admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
            admin.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD 'test'").format(sql.Identifier(role)))
        return postgres_server.url_for(database_url.rpartition("/")[2], role, "test")

    return url_of


@pytest.mark.parametrize(
    ("role", "told"),
    [
        ("dropline_reader", "the login dropline_reader lacks INSERT on caption_history; UPDATE on captions"),
        (
            "stranger",
            "the login stranger lacks INSERT on caption_history; SELECT, UPDATE on captions",
        ),
    ],
)
def test_a_worker_with_the_wrong_login(login_url: Callable[[str], str], role: str, told: str) -> None:
    """The line names login, right, table and role."""
    with pytest.raises(AccessDenied, match=f"{told}.*grant it the role dropline_worker"):
        check_database(Settings(database=settings_of(login_url(role))))


def test_a_schema_of_a_release_without_the_check(
    login_url: Callable[[str], str], database_url: str, use: Callable[[str], None]
) -> None:
    """The roles may not read the revision before the migrations of this release have run."""
    with psycopg.connect(database_url) as connection:
        connection.execute("REVOKE SELECT ON alembic_version FROM dropline_reader")
    use(login_url("dropline_reader"))
    assert "has the schema of revision unknown" in run("status").stderr
    upgrade(database_url)
    assert run("status").exit_code == ExitCode.OK


def test_a_function_with_the_workers_login(
    login_url: Callable[[str], str], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function answers 503, and its log has the reason."""
    # A new logger: the module's own may be bound to the logging of an earlier test.
    monkeypatch.setattr("trigger_fn.endpoint.log", structlog.get_logger())
    with opened(login_url("dropline_worker"), redis_url) as endpoint, capture_logs() as logs:
        app: Flask = serve(endpoint, monkeypatch)
        answer = app.test_client().get("/ready")
        assert (answer.status_code, answer.get_json()) == (503, {"error": "access_denied"})
        assert deliver(app, push()).status_code == 503
    assert [each["event"] for each in logs] == ["function_not_ready", "event_deferred"]
    for each in logs:
        assert "the login dropline_worker lacks INSERT on captions; INSERT, UPDATE on filtered" in each["error"]


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_commands_with_a_login_without_rights(
    login_url: Callable[[str], str], use: Callable[[str], None], command: tuple[str, ...]
) -> None:
    """One line that names the missing right."""
    use(login_url("stranger"))
    result = run(*command)
    assert (result.exit_code, result.stderr.count("\n")) == (ExitCode.FAILED, 1), result.stderr
    assert "the login stranger lacks SELECT" in result.stderr


@pytest.mark.parametrize(
    ("make", "role", "told"),
    [
        (unmigrated, "dropline_worker", "lacks CREATE on the schema public"),
        (older, "dropline_worker", "lacks the role dropline_migrator"),
    ],
)
def test_migrations_with_the_workers_login(
    make: Callable[[PostgresServer], str],
    role: str,
    told: str,
    postgres_server: PostgresServer,
    login_url: Callable[[str], str],
    use: Callable[[str], None],
) -> None:
    """One line instead of the traceback of the first statement that is refused."""
    login_url(role)
    name = make(postgres_server).rpartition("/")[2]
    use(postgres_server.url_for(name, role, "test"))
    result = module("migrations")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1), result.stderr
    assert f"the login {role} {told}" in result.stderr

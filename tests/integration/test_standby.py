"""A hot standby: which commands work, and one line from the others."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from flask import Flask

from cli.exit_codes import ExitCode
from db.listen import listening
from db.read_only import run_read_only
from db.session import Database
from dropline.contract import ObjectVersion
from local_emulators.postgres import PostgresServer
from migrations.run import upgrade
from tests.support.deliveries import push
from tests.support.function import deliver, serve
from tests.support.intake import opened
from tests.support.rows import G1, caption_object, database_of, drop, fail_object, settings_of
from tests.support.shell import run
from tests.support.standby import open_standby

pytestmark = pytest.mark.usefixtures("own_logging")
_DATABASE = "with_a_standby"


@pytest.fixture(scope="module")
def primary_url(postgres_server: PostgresServer) -> str:
    """A migrated database with a captioned and a failed row, on the primary."""
    postgres_server.create_database(_DATABASE)
    url = postgres_server.url_for(_DATABASE)
    upgrade(url)
    with database_of(url) as database:
        caption_object(database, G1)
        fail_object(database, ObjectVersion(G1.bucket, "b.jpg", 1), "worker_lost", "x")
    return url


@pytest.fixture(scope="module")
def standby(postgres_server: PostgresServer, primary_url: str) -> Iterator[PostgresServer]:
    """A standby of the primary with these rows."""
    with open_standby(postgres_server) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, standby: PostgresServer, redis_url: str) -> None:
    """The variables of the commands."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", standby.url_for(_DATABASE))
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.mark.parametrize(
    "command", [("status",), ("sql", "TABLE current_captions"), ("redrive", "--all", "--dry-run")]
)
def test_reading_works(command: tuple[str, ...]) -> None:
    """Rows are counted and read."""
    result = run(*command)
    assert (result.exit_code, result.stderr) == (ExitCode.OK, "")


@pytest.mark.parametrize("command", [("wait", G1.uri), ("caption", G1.uri), ("watch",), ("redrive", "--all")])
def test_listening_and_writing_are_refused_in_a_line(command: tuple[str, ...]) -> None:
    """LISTEN and UPDATE need the primary: exit code 4, and one line with the remedy."""
    result = run(*command)
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert result.stderr.count("\n") == 1
    assert "use the URL of the primary" in result.stderr


def test_migrations_are_refused_in_a_line(standby: PostgresServer) -> None:
    """The schema of a standby comes from its primary."""
    done = subprocess.run(
        [sys.executable, "-m", "migrations"], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is a standby" in done.stderr


def test_an_event_waits(standby: PostgresServer, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function answers 503, so that Pub/Sub delivers the event again, perhaps after a promotion."""
    with opened(standby.url_for(_DATABASE), redis_url) as endpoint:
        app: Flask = serve(endpoint, monkeypatch)
        answer = deliver(app, push(name="c.jpg"))
    assert (answer.status_code, answer.get_json()) == (503, {"error": "database_read_only"})


def test_several_hosts_lead_to_the_primary(standby: PostgresServer, postgres_server: PostgresServer) -> None:
    """With target_session_attrs, one URL with both servers works for every kind of connection."""
    address = standby.url_for(_DATABASE).replace(
        f":{standby.port}/", f":{standby.port},127.0.0.1:{postgres_server.port}/"
    )
    settings = settings_of(f"{address}?target_session_attrs=read-write")
    database = Database.connect(settings, "test", connections=1)
    with listening(settings, "test") as listener:
        with database.transaction() as connection:
            drop(connection, ObjectVersion("drops", "several.jpg", 1))
        assert next(listener.notices(60)).object_name == "several.jpg"
    database.close()
    assert run_read_only(settings, "SELECT pg_is_in_recovery()", 2000).rows == [(False,)]

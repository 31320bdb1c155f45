"""`dropline redrive` beside other transactions and during outages: each row once, no row lost."""

import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import Connection, text

from cli.exit_codes import ExitCode
from db import claims
from db.session import Database
from dropline.errors import BrokerUnavailable
from dropline.settings import DatabaseSettings, Settings
from local_emulators.ports import free_ports
from local_emulators.postgres import PostgresServer
from local_emulators.redis import RedisServer
from operations import redrive as redrive_module
from operations.redrive import FAILED, UNWRITTEN, Kind, Redriver, open_redriver
from tests.support.redrives import ALL, enqueued, fail_many, ignore, leave_many_unwritten, redrive, statuses
from tests.support.rows import (
    open_connection,
    row_of,
    take,
)
from tests.support.shell import run

pytestmark = pytest.mark.usefixtures("as_the_function")


@pytest.fixture
def login_url(postgres_server: PostgresServer, database_url: str) -> Callable[[str], str]:
    """URLs of the test's database by role."""

    def url_of(role: str) -> str:
        with psycopg.connect(postgres_server.url) as admin:
            admin.execute(f"ALTER ROLE {role} LOGIN PASSWORD 'test'".encode())
        return postgres_server.url_for(database_url.rpartition("/")[2], role, "test")

    return url_of


@pytest.mark.parametrize(
    ("leave_many", "kind"),
    [(fail_many, FAILED), (leave_many_unwritten, UNWRITTEN)],
    ids=["failed", "unwritten"],
)
def test_two_at_once_send_each_row_once(
    database: Database,
    queue: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    leave_many: Callable[[Database, int], list[int]],
    kind: Kind,
) -> None:
    """Two simultaneous redrives of 200 rows in small batches send exactly one message for each row."""
    monkeypatch.setattr(redrive_module, "BATCH", 7)
    ids = leave_many(database, 200)
    start = Barrier(2)

    def one(_number: int) -> int:
        with open_redriver(settings, kind, ignore, ignore) as redriver:
            start.wait(60)
            redriver.redrive(ALL, None)
            return redriver.redriven.total()

    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(one, range(2)))
    assert sum(done) == 200
    assert sorted(enqueued(queue)) == ids
    with database.transaction() as inside:
        assert kind.rows.count(inside, ALL) == {}


def test_a_row_in_somebodys_hands_is_left_to_the_next_run(
    database: Database, database_url: str, connection: Connection, queue: "redis.Redis"
) -> None:
    """A locked row is skipped without a wait; the other rows are redriven."""
    locked, free = fail_many(database, 2)
    with open_connection(database_url) as other:
        other.execute(text("SELECT FROM captions WHERE id = :id FOR UPDATE"), {"id": locked})
        assert redrive("--all")["redriven"] == 1
        other.rollback()
    assert enqueued(queue) == [free]
    assert redrive("--all")["redriven"] == 1
    assert statuses(connection, [locked, free]) == {"queued"}


def test_redis_away_midway(
    database: Database,
    connection: Connection,
    redriver: Redriver,
    redis_server: RedisServer,
    queue: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows of the batch that Redis refused are failed again, with the same error; a second run redrives them."""
    monkeypatch.setattr(redrive_module, "BATCH", 4)
    ids = fail_many(database, 10)
    send = redriver.enqueue

    def freeze_at_the_seventh(row_id: int) -> None:
        if row_id == ids[6]:
            redis_server.service.signal(signal.SIGSTOP)
        send(row_id)

    redriver.enqueue = freeze_at_the_seventh
    try:
        with pytest.raises(BrokerUnavailable, match="4 rows that were to be sent are failed again, as before"):
            redriver.redrive(ALL, None)
    finally:
        redis_server.service.signal(signal.SIGCONT)
    assert redriver.redriven.total() == 4
    assert statuses(connection, ids[:4]) == {"queued"}
    rows = [row_of(connection, row_id) for row_id in ids[4:]]
    assert [(row["status"], row["error_code"], row["error"]) for row in rows] == [
        ("failed", "worker_lost", f"words of {number}") for number in range(4, 10)
    ]
    assert redrive("--all")["redriven"] == 6
    assert statuses(connection, ids) == {"queued"}
    assert set(enqueued(queue)) == set(ids)


def test_what_a_worker_has_taken_is_not_taken_back(
    database: Database, connection: Connection, redriver: Redriver
) -> None:
    """A row claimed by a worker counts as redriven, even if the row has failed again."""
    ids = fail_many(database, 4)

    def away_at_the_third(row_id: int) -> None:
        if row_id == ids[2]:
            raise BrokerUnavailable("away")
        with database.transaction() as worker:
            claim = take(worker, row_id)
            if row_id == ids[1]:
                claims.fail(worker, claim, "not_an_image", "PDF")

    redriver.enqueue = away_at_the_third
    with pytest.raises(BrokerUnavailable, match="2 rows"):
        redriver.redrive(ALL, None)
    rows = [row_of(connection, row_id) for row_id in ids]
    assert [(row["status"], row["error_code"]) for row in rows] == [
        ("running", None),
        ("failed", "not_an_image"),
        ("failed", "worker_lost"),
        ("failed", "worker_lost"),
    ]
    assert redriver.redriven == {"worker_lost": 2}


def test_a_row_that_fails_again_meanwhile_is_not_sent_again(
    database: Database, connection: Connection, redriver: Redriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends even if workers fail every row at once."""
    monkeypatch.setattr(redrive_module, "BATCH", 2)
    ids = fail_many(database, 5)
    sent: list[int] = []

    def refused_at_once(row_id: int) -> None:
        assert row_id not in sent
        sent.append(row_id)
        with database.transaction() as worker:
            claims.fail(worker, take(worker, row_id), "not_an_image", "PDF")

    redriver.enqueue = refused_at_once
    redriver.redrive(ALL, None)
    assert sent == ids
    assert redriver.redriven == {"worker_lost": 5}
    assert statuses(connection, ids) == {"failed"}


def test_postgres_away_too(
    database: Database, connection: Connection, redriver: Redriver, database_url: str
) -> None:
    """If the redrive cannot be undone, the error counts the rows without a message and names the recovery."""
    ids = fail_many(database, 3)
    redriver.database = Database.connect(
        DatabaseSettings(url=SecretStr(database_url), statement_timeout_ms=300), "test", connections=1
    )
    with open_connection(database_url) as other:

        def lock_and_fail(_row_id: int) -> None:
            other.execute(text("LOCK TABLE captions IN ACCESS EXCLUSIVE MODE"))
            raise BrokerUnavailable("away")

        redriver.enqueue = lock_and_fail
        with pytest.raises(BrokerUnavailable, match="away; as many as 3 rows may be queued without a message"):
            redriver.redrive(ALL, None)
        other.rollback()
    redriver.database.close()
    assert statuses(connection, ids) == {"queued"}


def test_without_redis_nothing_has_changed(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Redis, no row changes; exit code 4, an error with the remedy, and the counts on standard output."""
    (row_id,) = fail_many(database, 1)
    monkeypatch.setenv("DROPLINE_BROKER__URL", f"redis://127.0.0.1:{free_ports(1)[0]}/0")
    result = run("redrive", "--all", "--json")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "1 rows that were to be sent are failed again, as before; repeat the redrive" in result.stderr
    assert json.loads(result.stdout)["error_codes"] == [
        {"error_code": "worker_lost", "failed_before": 1, "redriven": 0, "failed_after": 1}
    ]
    assert row_of(connection, row_id)["status"] == "failed"


def test_without_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Postgres, the exit code is 4 and standard error has the reason."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", f"postgresql://u@127.0.0.1:{free_ports(1)[0]}/x")
    result = run("redrive", "--all")
    assert (result.exit_code, result.stdout) == (ExitCode.UNAVAILABLE, "")
    assert "Postgres did not answer" in result.stderr


@pytest.mark.parametrize(
    ("role", "code"), [("dropline_ingest", ExitCode.OK), ("dropline_reader", ExitCode.FAILED)]
)
def test_the_login_of_the_function_is_enough(
    database: Database, login_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, role: str, code: ExitCode
) -> None:
    """The role dropline_ingest suffices; the error for a reader names the required login."""
    fail_many(database, 1)
    monkeypatch.setenv("DROPLINE_DATABASE__URL", login_url(role))
    result = run("redrive", "--all", "--json")
    assert result.exit_code == code
    assert ("the role dropline_ingest" in result.stderr) == (code is ExitCode.FAILED)

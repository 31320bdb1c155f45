"""`dropline redrive` beside other transactions and during outages: each row once, no row lost."""

import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest
import redis
from sqlalchemy import Connection, text

from cli.exit_codes import ExitCode
from db import attempts, claims
from db.session import Database
from dropline.contract import Claim
from dropline.errors import BrokerUnavailable
from dropline.settings import Settings
from local_emulators.ports import free_ports
from local_emulators.postgres import PostgresServer
from local_emulators.redis import RedisServer
from operations import redrive as redrive_module
from operations.redrive import FAILED, UNWRITTEN, Kind, Redriver, open_redriver
from tests.support.redrives import ALL, enqueued, fail_many, ignore, leave_many_unwritten, redrive, statuses
from tests.support.rows import CHILD, LEASE_S, open_connection, row_of
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
    """Two simultaneous redrives of 200 rows in small batches take each row once, and send a message per batch."""
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
    hints = enqueued(queue)
    assert 200 / 7 <= len(hints) == len(set(hints))
    assert set(hints) <= set(ids)
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
    """The batch whose message Redis refused is queued, and counted; a second run redrives the other rows."""
    monkeypatch.setattr(redrive_module, "BATCH", 4)
    ids = fail_many(database, 10)
    send = redriver.enqueue

    def freeze_at_the_second(row_id: int) -> None:
        if row_id == ids[4]:
            redis_server.service.signal(signal.SIGSTOP)
        send(row_id)

    redriver.enqueue = freeze_at_the_second
    try:
        with pytest.raises(BrokerUnavailable, match="8 rows are queued, and a worker takes them"):
            redriver.redrive(ALL, None)
    finally:
        redis_server.service.signal(signal.SIGCONT)
    assert redriver.redriven.total() == 8
    assert statuses(connection, ids[:8]) == {"queued"}
    rows = [row_of(connection, row_id) for row_id in ids[8:]]
    assert [(row["status"], row["error_code"], row["error"]) for row in rows] == [
        ("failed", "worker_lost", f"words of {number}") for number in (8, 9)
    ]
    assert redrive("--all")["redriven"] == 2
    assert statuses(connection, ids) == {"queued"}
    assert {ids[0], ids[8]} <= set(enqueued(queue)) <= {ids[0], ids[4], ids[8]}


def test_a_row_that_fails_again_meanwhile_is_not_sent_again(
    database: Database, connection: Connection, redriver: Redriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends even if workers fail every row at once."""
    monkeypatch.setattr(redrive_module, "BATCH", 2)
    ids = fail_many(database, 5)
    failed: list[int] = []

    def refused_at_once(_hint: int) -> None:
        with database.transaction() as worker:
            while isinstance(work := claims.claim(worker, 0, LEASE_S, CHILD).work, Claim):
                attempts.fail(worker, work, "not_an_image", "PDF")
                failed.append(work.row_id)

    redriver.enqueue = refused_at_once
    redriver.redrive(ALL, None)
    assert sorted(failed) == ids
    assert redriver.redriven == {"worker_lost": 5}
    assert statuses(connection, ids) == {"failed"}


def test_without_redis_the_rows_are_queued(
    database: Database,
    connection: Connection,
    queue: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
) -> None:
    """Exit code 4, an error with the remedy, and the counts on standard output; a second run sends the message."""
    (row_id,) = fail_many(database, 1)
    monkeypatch.setenv("DROPLINE_BROKER__URL", f"redis://127.0.0.1:{free_ports(1)[0]}/0")
    result = run("redrive", "--all", "--json")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "1 rows are queued, and a worker takes them when it starts or reconnects" in result.stderr
    assert json.loads(result.stdout)["error_codes"] == [
        {"error_code": "worker_lost", "failed_before": 1, "redriven": 1, "failed_after": 0}
    ]
    assert row_of(connection, row_id)["status"] == "queued"
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    assert redrive("--all")["redriven"] == 0
    assert enqueued(queue) == [row_id]


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

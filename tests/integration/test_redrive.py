"""`dropline redrive` against a real Postgres and Redis: which rows, and what happens when something is away."""

import base64
import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import psycopg
import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, text

from db import dead_letters, queries
from db.dead_letters import Wanted
from db.session import libpq_url, make_engine, transaction
from dropline.cli import redriving
from dropline.cli.exit_codes import ExitCode
from dropline.cli.redriving import Redriver, open_redriver
from dropline.contract import CAPTION_QUEUE, ObjectFacts, ObjectVersion
from dropline.errors import BrokerUnavailable
from dropline.settings import BrokerSettings, DatabaseSettings, Settings
from local_emulators.ports import free_ports
from local_emulators.postgres import PostgresServer
from local_emulators.redis import RedisServer
from tests.support.rows import (
    OTHER_TASK,
    caption_object,
    drop,
    expire_leases,
    fail_object,
    record,
    row_of,
    status_of,
    take,
)
from tests.support.shell import run
from trigger_fn.broker import Broker
from trigger_fn.deadline import Deadline

ALL = Wanted()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, database: str, redis_url: str, own_logging: None) -> None:
    """The variables that the function has."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", libpq_url(database))
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
def queue(redis_url: str) -> Iterator["redis.Redis"]:
    """The broker, to look at."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
def settings(database: str, redis_url: str) -> Settings:
    """Of an impatient broker."""
    return Settings(
        database=DatabaseSettings(url=SecretStr(libpq_url(database))),
        broker=BrokerSettings(url=SecretStr(redis_url), publish_timeout_s=0.5),
    )


@pytest.fixture
def redriver(settings: Settings) -> Iterator[Redriver]:
    """As the command opens it."""
    with open_redriver(settings, ignore, ignore) as found:
        yield found


@pytest.fixture
def login_url(postgres_server: PostgresServer, database: str) -> Callable[[str], str]:
    """The test's database, as one of Dropline's roles sees it."""

    def url_of(role: str) -> str:
        with psycopg.connect(postgres_server.url) as admin:
            admin.execute(f"ALTER ROLE {role} LOGIN PASSWORD 'test'".encode())
        return postgres_server.url_for(libpq_url(database).rpartition("/")[2], role, "test")

    return url_of


def ignore(_told: object) -> None:
    """Nobody listens."""


def named(number: int, bucket: str = "drops") -> ObjectVersion:
    return ObjectVersion(bucket, f"{number}.jpg", 1)


def fail_many(engine: Engine, count: int, code: str = "worker_lost") -> list[int]:
    return [fail_object(engine, named(number), code, f"words of {number}") for number in range(count)]


def enqueued(queue: "redis.Redis") -> list[int]:
    """Row ids on the queue, in the order in which workers get them."""
    bodies = [json.loads(each)["body"] for each in reversed(list(queue.lrange(CAPTION_QUEUE, 0, -1)))]
    return [json.loads(base64.b64decode(body))[0][0] for body in bodies]


def table(connection: Connection) -> list[Any]:
    return list(connection.execute(text("SELECT * FROM captions ORDER BY id")))


def statuses(connection: Connection, ids: list[int]) -> set[str]:
    return {str(status_of(connection, row_id)) for row_id in ids}


def redrive(*arguments: object) -> dict[str, Any]:
    """The document of a command that did what it was asked."""
    result = run("redrive", *arguments, "--json")
    assert result.exit_code == ExitCode.OK, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_failed_rows_wait_again_with_all_their_attempts(
    engine: Engine, connection: Connection, queue: "redis.Redis"
) -> None:
    """The row is queued as of now and says nothing of its failure; its attempts go on where they were."""
    with transaction(engine) as inside:
        row_id = drop(inside, named(1))
        for _ in range(2):
            take(inside, row_id)
            expire_leases(inside)
        claim = take(inside, row_id)
        assert claim.lost_attempts == 2
        assert queries.fail(inside, claim, "worker_lost", "crashes")
    before = row_of(connection, row_id)
    assert redrive("--all") == {
        "dry_run": False,
        "redriven": 1,
        "error_codes": [{"error_code": "worker_lost", "failed_before": 1, "redriven": 1, "failed_after": 0}],
    }
    row = row_of(connection, row_id)
    assert (row["status"], row["error_code"], row["error"], row["lease_until"]) == ("queued", None, None, None)
    assert (row["attempts"], row["lost_attempts"]) == (3, 0)
    assert row["queued_at"] > before["queued_at"]
    assert enqueued(queue) == [row_id]


def test_the_message_is_the_one_that_the_function_sends(
    engine: Engine, queue: "redis.Redis", redis_url: str
) -> None:
    """A worker cannot tell the two apart: same task, arguments and headers, no retries counted."""
    row_id = fail_object(engine, named(1), "worker_lost", "crashes")
    redrive("--all")
    broker = Broker.connect(BrokerSettings(url=SecretStr(redis_url)))
    broker.enqueue(row_id, Deadline.after(60))
    broker.close()
    ours, theirs = (json.loads(each) for each in queue.lrange(CAPTION_QUEUE, 0, -1))
    assert ours["body"] == theirs["body"]
    assert ours["headers"] == theirs["headers"]
    assert ours["headers"]["retries"] == 0


def test_retries_are_counted_anew(engine: Engine, connection: Connection) -> None:
    """A row that used up its retries has all of them again, though its attempts are never lowered."""
    with transaction(engine) as inside:
        row_id = drop(inside, named(1))
        for _ in range(5):
            assert queries.put_back(inside, take(inside, row_id), "storage_unavailable", "503", lost=False)
        claim = take(inside, row_id)
        assert claim.retries == 5
        assert queries.fail(inside, claim, "storage_unavailable", "503")
    redrive("--all")
    first = take(connection, row_id)
    assert (first.attempt, first.retries, first.lost_attempts) == (7, 0, 0)
    assert queries.put_back(connection, first, "storage_unavailable", "503", lost=False)
    assert take(connection, row_id).retries == 1


def test_a_late_result_of_an_earlier_life_is_refused(engine: Engine, connection: Connection) -> None:
    """What an attempt from before the redrive still has to say is refused, while the row waits and after."""
    with transaction(engine) as inside:
        row_id = drop(inside, named(1))
        late = take(inside, row_id)
        assert queries.fail(inside, late, "inference_timeout", "too slow")
    redrive("--all")
    assert not record(connection, late, "late")
    new = take(connection, row_id)
    assert not record(connection, late, "late")
    assert not queries.fail(connection, late, "late", "late")
    assert record(connection, new, "in time")
    assert row_of(connection, row_id)["caption"] == "in time"


@pytest.mark.parametrize(
    ("arguments", "redriven"),
    [
        (["--error-code", "engine_lost"], ["a/1", "a_1"]),
        (["--error-code", "engine_lost", "--error-code", "access_denied"], ["a/1", "a_1", "b/1"]),
        (["--error-code", "no_such_code"], []),
        (["--bucket", "other"], ["x"]),
        (["--prefix", "a_"], ["a_1"]),
        (["--prefix", "a%"], []),
        (["--prefix", "a/", "--error-code", "access_denied"], []),
        (["--since", "90m"], ["a_1", "b/1", "x"]),
        (["--since", "2020-01-01"], ["a/1", "a_1", "b/1", "x"]),
        (["gs://drops/b/1", "gs://drops/a/1"], ["a/1", "b/1"]),
        (["gs://drops/b/1#7"], []),
        (["gs://drops/b/1#1"], ["b/1"]),
        (["gs://other/x", "--bucket", "drops"], []),
        (["--all", "--limit", "3"], ["a/1", "a_1", "b/1"]),
        (["--bucket", "drops", "--limit", "1"], ["a/1"]),
        (["--all"], ["a/1", "a_1", "b/1", "x"]),
    ],
)
def test_filters(
    engine: Engine, connection: Connection, queue: "redis.Redis", arguments: list[str], redriven: list[str]
) -> None:
    """A row is sent where it passes every filter; the count is by error code; the rest is left as it was."""
    codes = {"a/1": "engine_lost", "a_1": "engine_lost", "b/1": "access_denied", "x": "worker_lost"}
    ids = {
        name: fail_object(engine, ObjectVersion("other" if name == "x" else "drops", name, 1), code, "words")
        for name, code in codes.items()
    }
    connection.execute(
        text("UPDATE captions SET updated_at = now() - interval '2h' WHERE id = :id"), {"id": ids["a/1"]}
    )
    others = {name: row_of(connection, row_id) for name, row_id in ids.items() if name not in redriven}
    assert redrive(*arguments)["redriven"] == len(redriven)
    assert enqueued(queue) == [ids[name] for name in redriven]
    assert statuses(connection, [ids[name] for name in redriven]) <= {"queued"}
    assert all(row_of(connection, ids[name]) == row for name, row in others.items())


def test_a_dry_run_counts_and_changes_nothing(
    engine: Engine, connection: Connection, queue: "redis.Redis"
) -> None:
    """It says what would be sent, limit included; rows and queue are as before."""
    fail_many(engine, 3)
    fail_object(engine, named(9), "access_denied", "words")
    before = table(connection)
    assert redrive("--all", "--limit", 2, "--dry-run") == {
        "dry_run": True,
        "would_be_redriven": 2,
        "error_codes": [
            {"error_code": "worker_lost", "failed_before": 3, "would_be_redriven": 2},
            {"error_code": "access_denied", "failed_before": 1, "would_be_redriven": 0},
        ],
    }
    assert table(connection) == before
    assert enqueued(queue) == []


def test_only_failed_rows_are_touched(engine: Engine, connection: Connection, queue: "redis.Redis") -> None:
    """Rows that wait, are worked on, captioned, superseded or deleted stay exactly as they are."""
    caption_object(engine, named(1))
    with transaction(engine) as inside:
        queries.put_back(inside, take(inside, drop(inside, named(2))), "storage_unavailable", "503", lost=True)
        take(inside, drop(inside, named(3)))
        drop(inside, named(4))
        drop(inside, replace(named(4), generation=2))
    fail_object(engine, named(5), "worker_lost", "words")
    with transaction(engine) as inside:
        queries.tombstone(inside, named(5))
    before = table(connection)
    assert {row.status for row in before} == {"captioned", "queued", "running", "superseded", "deleted"}
    assert redrive("--all") == {"dry_run": False, "redriven": 0, "error_codes": []}
    assert table(connection) == before
    assert enqueued(queue) == []


def test_a_wish_that_cannot_be_met_is_not_replaced(engine: Engine, connection: Connection) -> None:
    """A row whose object asks for no task of Florence-2 stays failed, and it is said why."""
    with transaction(engine) as inside:
        refused = queries.register_failed(
            inside, named(1), ObjectFacts(), str(OTHER_TASK), "invalid_task", "<POEM>"
        )
    fail_object(engine, named(2), "worker_lost", "words")
    result = run("redrive", "--all", "--json")
    assert json.loads(result.stdout)["redriven"] == 1
    assert row_of(connection, refused.row_id)["status"] == "failed"
    assert "1 of them failed with invalid_task" in result.stderr
    named_outright = run("redrive", "--error-code", "invalid_task")
    assert named_outright.exit_code == ExitCode.USAGE
    assert "caption-task and upload it again" in named_outright.stderr


def test_for_people(engine: Engine) -> None:
    """A table with a line per error code; a sentence where nothing fits."""
    fail_many(engine, 2)
    shown = run("redrive", "--all").stdout
    assert [word for word in ("failed before", "redriven", "failed after", "worker_lost") if word in shown] == [
        "failed before",
        "redriven",
        "failed after",
        "worker_lost",
    ]
    assert run("redrive", "--all").stdout == "no failed row fits\n"


@pytest.mark.parametrize("extra", [(), ("--dry-run",)])
def test_a_filter_that_lets_nothing_pass_says_what_there_is(engine: Engine, extra: tuple[str, ...]) -> None:
    """A misspelt code would otherwise look like success."""
    fail_many(engine, 2)
    found = run("redrive", "--error-code", "worker_losst", *extra)
    assert (found.exit_code, found.stdout) == (0, "no failed row fits\n")
    assert "failed rows there are: 2 worker_lost" in found.stderr


def test_a_row_whose_object_has_a_newer_generation_stays(engine: Engine, connection: Connection) -> None:
    """In a bucket with versions it could still be captioned, for nobody; a deleted newer one does not count."""
    fail_object(engine, ObjectVersion("drops", "new.jpg", 1), "worker_lost", "x")
    gone = fail_object(engine, ObjectVersion("drops", "gone.jpg", 1), "worker_lost", "x")
    drop(connection, ObjectVersion("drops", "new.jpg", 2))
    queries.tombstone(connection, ObjectVersion("drops", "gone.jpg", 2), insert=True)
    with transaction(engine) as inside:
        assert [row.row_id for row in dead_letters.redrive(inside, ALL, 0, 500)] == [gone]


def test_two_at_once_send_each_row_once(
    engine: Engine,
    connection: Connection,
    queue: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
) -> None:
    """200 rows, two redrives in small batches at the same time: 200 messages, one for each."""
    monkeypatch.setattr(redriving, "BATCH", 7)
    ids = fail_many(engine, 200)
    start = Barrier(2)

    def one(_number: int) -> int:
        with open_redriver(settings, ignore, ignore) as redriver:
            start.wait(60)
            redriver.redrive(ALL, None)
            return redriver.redriven.total()

    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(one, range(2)))
    assert sum(done) == 200
    assert sorted(enqueued(queue)) == ids
    assert statuses(connection, ids) == {"queued"}


def test_a_row_in_somebodys_hands_is_left_to_the_next_run(
    engine: Engine, connection: Connection, queue: "redis.Redis"
) -> None:
    """A locked row is passed over without a wait; the others are sent."""
    locked, free = fail_many(engine, 2)
    with engine.connect() as other:
        other.execute(text("SELECT FROM captions WHERE id = :id FOR UPDATE"), {"id": locked})
        assert redrive("--all")["redriven"] == 1
        other.rollback()
    assert enqueued(queue) == [free]
    assert redrive("--all")["redriven"] == 1
    assert statuses(connection, [locked, free]) == {"queued"}


def test_redis_away_midway(
    engine: Engine,
    connection: Connection,
    redriver: Redriver,
    redis_server: RedisServer,
    queue: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The batch that Redis did not take is failed again, word for word; a second run sends it."""
    monkeypatch.setattr(redriving, "BATCH", 4)
    ids = fail_many(engine, 10)
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
    engine: Engine, connection: Connection, redriver: Redriver
) -> None:
    """A row whose message got through, and that is worked on, is sent; so is one that has failed again by then."""
    ids = fail_many(engine, 4)

    def away_at_the_third(row_id: int) -> None:
        if row_id == ids[2]:
            raise BrokerUnavailable("away")
        with transaction(engine) as worker:
            claim = take(worker, row_id)
            if row_id == ids[1]:
                queries.fail(worker, claim, "not_an_image", "PDF")

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
    engine: Engine, connection: Connection, redriver: Redriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run comes to its end however quickly workers refuse what it sends."""
    monkeypatch.setattr(redriving, "BATCH", 2)
    ids = fail_many(engine, 5)
    sent: list[int] = []

    def refused_at_once(row_id: int) -> None:
        assert row_id not in sent
        sent.append(row_id)
        with transaction(engine) as worker:
            queries.fail(worker, take(worker, row_id), "not_an_image", "PDF")

    redriver.enqueue = refused_at_once
    redriver.redrive(ALL, None)
    assert sent == ids
    assert redriver.redriven == {"worker_lost": 5}
    assert statuses(connection, ids) == {"failed"}


def test_postgres_away_too(engine: Engine, connection: Connection, redriver: Redriver, database: str) -> None:
    """Where not even the taking back works, the message says what is left behind and who picks it up."""
    ids = fail_many(engine, 3)
    redriver.database = make_engine(
        DatabaseSettings(url=SecretStr(libpq_url(database)), statement_timeout_ms=300), "test", pool_size=1
    )
    with engine.connect() as other:

        def lock_and_fail(_row_id: int) -> None:
            other.execute(text("LOCK TABLE captions IN ACCESS EXCLUSIVE MODE"))
            raise BrokerUnavailable("away")

        redriver.enqueue = lock_and_fail
        with pytest.raises(BrokerUnavailable, match="away; as many as 3 rows may be queued without a message"):
            redriver.redrive(ALL, None)
        other.rollback()
    redriver.database.dispose()
    assert statuses(connection, ids) == {"queued"}


def test_without_redis_nothing_has_changed(
    engine: Engine, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 4, an error that says what to do, and on standard output how the rows are: as before."""
    (row_id,) = fail_many(engine, 1)
    monkeypatch.setenv("DROPLINE_BROKER__URL", f"redis://127.0.0.1:{free_ports(1)[0]}/0")
    result = run("redrive", "--all", "--json")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "1 rows that were to be sent are failed again, as before; run the same command again" in result.stderr
    assert json.loads(result.stdout)["error_codes"] == [
        {"error_code": "worker_lost", "failed_before": 1, "redriven": 0, "failed_after": 1}
    ]
    assert row_of(connection, row_id)["status"] == "failed"


def test_without_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 4 and an error."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", f"postgresql://u@127.0.0.1:{free_ports(1)[0]}/x")
    result = run("redrive", "--all")
    assert (result.exit_code, result.stdout) == (ExitCode.UNAVAILABLE, "")
    assert "Postgres did not answer" in result.stderr


@pytest.mark.parametrize(
    ("role", "code"), [("dropline_ingest", ExitCode.OK), ("dropline_reader", ExitCode.FAILED)]
)
def test_the_login_of_the_function_is_enough(
    engine: Engine, login_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, role: str, code: ExitCode
) -> None:
    """It works with the rights of dropline_ingest; the reader is told whose login it takes."""
    fail_many(engine, 1)
    monkeypatch.setenv("DROPLINE_DATABASE__URL", login_url(role))
    result = run("redrive", "--all", "--json")
    assert result.exit_code == code
    assert ("the role dropline_ingest" in result.stderr) == (code is ExitCode.FAILED)

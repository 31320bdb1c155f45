"""The function with a real Postgres and a real Redis: what an event leaves behind, and what outages do."""

import base64
import itertools
import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
import redis
from flask import Flask
from psycopg.rows import dict_row
from pydantic import SecretStr

from db.session import libpq_url
from dropline.contract import CAPTION_QUEUE, CAPTION_TASK, MAX_PROMPT_TEXT
from dropline.settings import BrokerSettings, DatabaseSettings, EventSettings, Settings
from local_emulators.postgres import PostgresServer
from local_emulators.redis import RedisServer
from tests.support.deliveries import BUCKET, GENERATION, Delivery, binary_cloud_event, push
from tests.support.function import deliver, deliver_all, serve
from trigger_fn import service
from trigger_fn.broker import PRODUCERS
from trigger_fn.endpoint import REQUEST_BUDGET_S, Endpoint

DELETE = "OBJECT_DELETE"
#: A server that has just been restarted may refuse for a moment; a delivery is repeated as Pub/Sub would.
REDELIVERIES = 50


def opened(database: str, redis_url: str) -> AbstractContextManager[Endpoint]:
    """The function's endpoint for one bucket and the given servers."""
    return service.open_endpoint(
        Settings(
            database=DatabaseSettings(url=SecretStr(libpq_url(database))),
            broker=BrokerSettings(url=SecretStr(redis_url)),
            events=EventSettings(buckets=(BUCKET,), max_size_bytes=1_000_000),
        )
    )


@pytest.fixture
def app(database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The function on a fresh database and an empty Redis."""
    with opened(database, redis_url) as endpoint:
        yield serve(endpoint, monkeypatch)


@pytest.fixture
def rows(database: str) -> Callable[[], list[dict[str, Any]]]:
    """All rows, oldest first."""

    def read() -> list[dict[str, Any]]:
        with psycopg.connect(libpq_url(database), row_factory=dict_row) as connection:
            return connection.execute("SELECT * FROM captions ORDER BY id").fetchall()

    return read


@pytest.fixture
def queue(redis_url: str) -> Iterator["Queue"]:
    """The captions queue, seen from outside."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield Queue(client)


class Queue:
    """What lies on Redis."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def messages(self) -> list[dict[str, Any]]:
        """The messages, first in first."""
        return [json.loads(message) for message in reversed(self.client.lrange(CAPTION_QUEUE, 0, -1))]

    def row_ids(self) -> list[int]:
        """The row number each message names."""
        return [json.loads(base64.b64decode(message["body"]))[0][0] for message in self.messages()]


def statuses(rows: list[dict[str, Any]]) -> dict[int, str]:
    return {row["generation"]: row["status"] for row in rows}


def test_a_new_object_is_a_row_and_a_message(app: Flask, rows: Any, queue: Queue) -> None:
    """The row holds what the event said; the message is JSON, names the row and nothing else."""
    assert deliver(app, push(metadata={"caption-task": "od"})).status_code == 204
    (row,) = rows()
    assert (row["bucket"], row["object_name"], row["generation"]) == (BUCKET, "cat.jpg", GENERATION)
    assert (row["task"], row["status"], row["attempts"]) == ("<OD>", "queued", 0)
    assert (row["content_type"], row["size_bytes"], row["md5_hash"]) == (
        "image/jpeg",
        51200,
        "1B2M2Y8AsgTpgAmY7PhCfg==",
    )
    assert row["event_time"].isoformat().startswith("2026-11-22T13:00:00.123456")
    (message,) = queue.messages()
    assert message["content-type"] == "application/json"
    assert (message["headers"]["task"], message["headers"]["id"]) == (CAPTION_TASK, f"caption-{row['id']}")
    assert queue.row_ids() == [row["id"]]


def test_one_event_a_hundred_times_at_once(app: Flask, rows: Any, queue: Queue) -> None:
    """One row; the messages all name it, and a row can be claimed only once."""
    assert deliver_all(app, [push()] * 100) == [204] * 100
    (row,) = rows()
    assert set(queue.row_ids()) == {row["id"]}


def test_one_event_under_ten_message_ids(app: Flask, rows: Any) -> None:
    """Identity is the object version, never the message; nor the envelope it came in."""
    deliveries = [push(message_id=str(number)) for number in range(10)] + [binary_cloud_event()]
    assert {deliver(app, delivery).status_code for delivery in deliveries} == {204}
    assert len(rows()) == 1


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])), ids=str)
def test_versions_in_any_order(app: Flask, rows: Any, database: str, order: tuple[int, ...]) -> None:
    """The newest generation is the current one, whichever came last."""
    for number in order:
        assert deliver(app, push(generation=number)).status_code == 204
    assert statuses(rows()) == {1: "superseded", 2: "superseded", 3: "queued"}
    with psycopg.connect(libpq_url(database)) as connection:
        assert connection.execute("SELECT generation FROM current_captions").fetchall() == [(3,)]


def test_shuffled_versions_at_once(app: Flask, rows: Any) -> None:
    """Also where they come at the same time, twice each, for several objects."""
    deliveries = [push(f"{name}.jpg", number) for name in "abcd" for number in (1, 2, 3)] * 2
    random.Random(7).shuffle(deliveries)
    assert set(deliver_all(app, deliveries)) == {204}
    for name in "abcd":
        mine = [row for row in rows() if row["object_name"] == f"{name}.jpg"]
        assert statuses(mine) == {1: "superseded", 2: "superseded", 3: "queued"}


@pytest.mark.parametrize("first", [DELETE, "OBJECT_FINALIZE"])
def test_a_late_deletion_leaves_the_newer_version_alone(app: Flask, rows: Any, first: str) -> None:
    """DELETE g1 around FINALIZE g2: g2 is intact, g1 gone."""
    deliveries = [push(generation=1), push(generation=1, event_type=DELETE), push(generation=2)]
    ordered = deliveries if first == DELETE else [deliveries[0], deliveries[2], deliveries[1]]
    for delivery in ordered:
        assert deliver(app, delivery).status_code == 204
    assert statuses(rows()) == {1: "deleted", 2: "queued"}


def test_a_deletion_before_its_own_object(app: Flask, rows: Any, queue: Queue) -> None:
    """The tombstone waits: the late FINALIZE finds it, and no worker hears of it."""
    for event_type in (DELETE, "OBJECT_FINALIZE", "OBJECT_FINALIZE"):
        assert deliver(app, push(event_type=event_type)).status_code == 204
    assert statuses(rows()) == {GENERATION: "deleted"}
    assert queue.messages() == []


def test_a_deletion_and_its_object_at_once(app: Flask, rows: Any) -> None:
    """Whatever the order inside, the version ends up deleted."""
    names = [f"{number}.jpg" for number in range(20)]
    deliveries = [push(name, event_type=kind) for name in names for kind in ("OBJECT_FINALIZE", DELETE)]
    assert set(deliver_all(app, deliveries)) == {204}
    assert {(row["object_name"], row["status"]) for row in rows()} == {(name, "deleted") for name in names}


def test_deletions_of_what_is_left_out(app: Flask, rows: Any) -> None:
    """Parts of uploads and texts leave no tombstones; an image that became a text is deleted all the same."""
    assert deliver(app, push("gsutil/tmp/parallel_composite_uploads/x", event_type=DELETE)).status_code == 204
    assert deliver(app, push("note.txt", event_type=DELETE, contentType="text/plain")).status_code == 204
    assert rows() == []
    assert deliver(app, push()).status_code == 204
    assert deliver(app, push(event_type=DELETE, contentType="text/plain")).status_code == 204
    assert statuses(rows()) == {GENERATION: "deleted"}


def test_no_row_for_what_needs_none(app: Flask, rows: Any, queue: Queue) -> None:
    """Other events, left-out names and malformed messages are acknowledged and leave nothing."""
    deliveries = [
        push(event_type="OBJECT_METADATA_UPDATE"),
        push(event_type="OBJECT_ARCHIVE"),
        push(event_type="OBJECT_FUTURE"),
        binary_cloud_event("metadataUpdated"),
        push("gsutil/tmp/parallel_composite_uploads/x"),
        Delivery(b"{"),
        push(data="not base64!"),
        push(generation="minus one"),
        push(bucket=None),
    ]
    assert [deliver(app, delivery).status_code for delivery in deliveries] == [204] * len(deliveries)
    assert (rows(), queue.messages()) == ([], [])


def test_a_foreign_bucket_leaves_nothing(app: Flask, rows: Any, queue: Queue) -> None:
    """Refused, not acknowledged, no row."""
    assert deliver(app, push(bucket="somebody-elses")).status_code == 403
    assert (rows(), queue.messages()) == ([], [])


def test_payload_none(app: Flask, rows: Any, queue: Queue) -> None:
    """Processed from the attributes; what they do not say is NULL."""
    assert deliver(app, push(payload=False)).status_code == 204
    (row,) = rows()
    assert (row["status"], row["content_type"], row["size_bytes"]) == ("queued", None, None)
    assert queue.row_ids() == [row["id"]]


@pytest.mark.parametrize(
    ("delivery", "code"),
    [
        (push(size="0"), "empty_object"),
        (push(size="1000001"), "object_too_large"),
        (push(metadata={"caption-task": "<POEM>"}), "invalid_task"),
    ],
)
def test_hopeless_objects_fail_at_once(app: Flask, rows: Any, queue: Queue, delivery: Delivery, code: str) -> None:
    """A `failed` row with a code and words, once, and no message."""
    assert [deliver(app, delivery).status_code for _ in range(2)] == [204, 204]
    (row,) = rows()
    assert (row["status"], row["error_code"], bool(row["error"])) == ("failed", code, True)
    assert queue.messages() == []


NAMES = (
    *("é" * 512, "🐈" * 256, "\x07" * 1024, "../x", "a#b?c%2Fd", " /lead"),
    *("'; DROP TABLE captions; --", "\\N", "日本"),
)


@pytest.mark.parametrize("payload", [True, False])
def test_names_are_kept_exactly(app: Flask, rows: Any, payload: bool) -> None:
    """Any name Cloud Storage allows, byte for byte; also with the longest task beside it."""
    task = "<OPEN_VOCABULARY_DETECTION>" + "".join(random.Random(1).choices("🐕🐈🐦🐟", k=MAX_PROMPT_TEXT // 4))
    for name in NAMES:
        delivery = push(name, payload=payload, metadata={"caption-task": task})
        assert deliver(app, delivery).status_code == 204
    assert tuple(row["object_name"] for row in rows()) == NAMES
    assert {row["task"] for row in rows()} == {task if payload else "<CAPTION>"}


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that drops connection attempts: its backlog is full, and nobody accepts."""
    with ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(8):
            client = held.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        yield port


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def nobody() -> Iterator[int]:
    """A port that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


UNREACHABLE = [nobody, silent_server, black_hole]


def deferred(app: Flask, delivery: Delivery, away: str) -> None:
    """Check that the delivery gets 503 and learns what is away; `-rP` shows the time it took."""
    start = time.monotonic()
    response = deliver(app, delivery)
    print(f"503 after {time.monotonic() - start:.3f} s")
    assert (response.status_code, response.json) == (503, {"error": away})


def test_the_budget_is_below_three_seconds() -> None:
    """The deadline of a request, and of each library inside it, is shorter than what Pub/Sub was promised."""
    assert REQUEST_BUDGET_S < 3
    assert BrokerSettings().publish_timeout_s < REQUEST_BUDGET_S
    assert DatabaseSettings().connect_timeout_s < REQUEST_BUDGET_S


@pytest.mark.parametrize("kind", UNREACHABLE, ids=lambda kind: kind.__name__)
def test_postgres_unreachable(redis_url: str, queue: Queue, monkeypatch: Any, kind: Any) -> None:
    """503 whether it refuses, is silent or drops packets; nothing is queued without a row."""
    with kind() as port, opened(f"postgresql+psycopg://u:p@127.0.0.1:{port}/x", redis_url) as endpoint:
        app = serve(endpoint, monkeypatch)
        for _ in range(2):
            deferred(app, push(), "database_unavailable")
    assert queue.messages() == []


@pytest.mark.parametrize("kind", UNREACHABLE, ids=lambda kind: kind.__name__)
def test_redis_unreachable(database: str, rows: Any, monkeypatch: Any, kind: Any) -> None:
    """503 whether it refuses, is silent or drops packets; the row is kept for the next delivery."""
    with kind() as port, opened(database, f"redis://:p@127.0.0.1:{port}/0") as endpoint:
        app = serve(endpoint, monkeypatch)
        for _ in range(2):
            deferred(app, push(), "broker_unavailable")
    assert statuses(rows()) == {GENERATION: "queued"}


def test_more_requests_than_threads_during_an_outage(redis_url: str, monkeypatch: Any) -> None:
    """Every request of a crowd gets its 503, those that wait for a thread included."""
    with black_hole() as port, opened(f"postgresql+psycopg://u:p@127.0.0.1:{port}/x", redis_url) as endpoint:
        app = serve(endpoint, monkeypatch)
        deliveries = [push(f"{number}.jpg") for number in range(40)]
        assert deliver_all(app, deliveries, at_once=40) == [503] * 40


def delivered(app: Flask, delivery: Delivery) -> bool:
    """Repeat the delivery until it is acknowledged."""
    return any(deliver(app, delivery).status_code == 204 for _ in range(REDELIVERIES))


def test_redis_restarts(app: Flask, rows: Any, queue: Queue, redis_server: RedisServer) -> None:
    """Down: 503. Up again: the redelivery enqueues the row that is there already; nothing is lost."""
    assert deliver(app, push("before.jpg")).status_code == 204
    redis_server.service.kill()
    try:
        deferred(app, push("during.jpg"), "broker_unavailable")
    finally:
        redis_server.service.restart()
    assert delivered(app, push("during.jpg"))
    assert delivered(app, push("after.jpg"))
    assert {row["object_name"] for row in rows()} == {"before.jpg", "during.jpg", "after.jpg"}
    assert {row["id"] for row in rows()} <= set(queue.row_ids())


def test_idle_producers_outlive_a_restart(app: Flask, redis_server: RedisServer) -> None:
    """Connections that died while nobody looked cost no delivery more than each one try."""
    assert set(deliver_all(app, [push(f"{number}.jpg") for number in range(40)], PRODUCERS)) == {204}
    redis_server.service.restart()
    answers = [deliver(app, push("after.jpg")).status_code for _ in range(3 * PRODUCERS)]
    assert answers[-PRODUCERS:] == [204] * PRODUCERS


def test_redis_freezes(app: Flask, rows: Any, redis_server: RedisServer) -> None:
    """A live socket with nobody behind it is an outage too, and ends when the process wakes."""
    assert deliver(app, push("before.jpg")).status_code == 204
    redis_server.service.signal(signal.SIGSTOP)
    try:
        deferred(app, push("during.jpg"), "broker_unavailable")
    finally:
        redis_server.service.signal(signal.SIGCONT)
    assert delivered(app, push("during.jpg"))
    assert len(rows()) == 2


def test_redis_out_of_memory(app: Flask, queue: Queue, rows: Any) -> None:
    """Under noeviction a full Redis refuses writes: 503, and all is well once there is room."""
    assert deliver(app, push("before.jpg")).status_code == 204
    queue.client.config_set("maxmemory", 1)
    try:
        deferred(app, push("during.jpg"), "broker_unavailable")
    finally:
        queue.client.config_set("maxmemory", 0)
    assert deliver(app, push("during.jpg")).status_code == 204
    assert queue.row_ids() == [row["id"] for row in rows()]


def test_postgres_crashes(app: Flask, rows: Any, postgres_server: PostgresServer) -> None:
    """Down: 503. Up again: what was acknowledged is there, what was not is delivered again."""
    assert deliver(app, push("before.jpg")).status_code == 204
    postgres_server.service.kill()
    try:
        deferred(app, push("during.jpg"), "database_unavailable")
    finally:
        postgres_server.service.restart()
    assert delivered(app, push("during.jpg"))
    assert {row["object_name"] for row in rows()} == {"before.jpg", "during.jpg"}


def test_postgres_freezes(app: Flask, database: str, rows: Any) -> None:
    """The backend of a pooled connection stops answering: 503 all the same, and it recovers."""
    assert deliver(app, push("before.jpg")).status_code == 204
    with psycopg.connect(libpq_url(database), autocommit=True) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'dropline-function'"
        backends = [pid for (pid,) in connection.execute(query)]
        assert backends
        for pid in backends:
            os.kill(pid, signal.SIGSTOP)
        try:
            deferred(app, push("during.jpg"), "database_unavailable")
        finally:
            for pid in backends:
                os.kill(pid, signal.SIGCONT)
    assert delivered(app, push("during.jpg"))
    assert len(rows()) == 2


def test_a_locked_object_is_deferred(app: Flask, database: str) -> None:
    """Somebody else's long transaction on the same object ends in 503, not in a request that hangs."""
    assert deliver(app, push()).status_code == 204
    with psycopg.connect(libpq_url(database)) as connection:
        connection.execute("LOCK TABLE captions IN ACCESS EXCLUSIVE MODE")
        deferred(app, push(), "database_unavailable")
    assert delivered(app, push())


def test_a_crash_between_commit_and_enqueue(app: Flask, rows: Any, queue: Queue) -> None:
    """The row is there, its message is not: the redelivery makes up for it, with the same row."""
    assert deliver(app, push()).status_code == 204
    queue.client.flushall()
    assert deliver(app, push()).status_code == 204
    assert queue.row_ids() == [row["id"] for row in rows()]

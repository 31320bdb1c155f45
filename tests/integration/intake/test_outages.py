"""Outages of Postgres and Redis: the responses of the function, and rows after the redelivery."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from flask import Flask

from dropline.broker.configuration import PRODUCER_CONNECTIONS
from dropline.settings import BrokerSettings, DatabaseSettings
from local_emulators.postgres import PostgresServer
from local_emulators.redis import RedisServer
from tests.support.deliveries import GENERATION, Delivery, push
from tests.support.function import deliver, deliver_all, serve
from tests.support.intake import Queue, opened, statuses
from trigger_fn.endpoint import REQUEST_BUDGET_S

#: A restarted server may briefly refuse connections; tests repeat a delivery, like Pub/Sub.
REDELIVERIES = 50


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that drops connection attempts: the backlog is full, and no connection is accepted."""
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
    """A port that accepts connections and never sends a byte."""
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
    """Check that the delivery gets 503 and the error code `away`; `-rP` shows the duration."""
    start = time.monotonic()
    response = deliver(app, delivery)
    print(f"503 after {time.monotonic() - start:.3f} s")
    assert (response.status_code, response.json) == (503, {"error": away})


def test_the_budget_is_below_three_seconds() -> None:
    """A request ends within the promised 3 seconds, and the timeouts of publish and connect are shorter still."""
    assert REQUEST_BUDGET_S < 3
    assert BrokerSettings().publish_timeout_s < REQUEST_BUDGET_S
    assert DatabaseSettings().connect_timeout_s < REQUEST_BUDGET_S


@pytest.mark.parametrize("kind", UNREACHABLE, ids=lambda kind: kind.__name__)
def test_postgres_unreachable(redis_url: str, queue: Queue, monkeypatch: Any, kind: Any) -> None:
    """A Postgres that refuses, is silent or drops packets means 503, and no message without a row."""
    with kind() as port, opened(f"postgresql+psycopg://u:p@127.0.0.1:{port}/x", redis_url) as endpoint:
        app = serve(endpoint, monkeypatch)
        for _ in range(2):
            deferred(app, push(), "database_unavailable")
    assert queue.messages() == []


@pytest.mark.parametrize("kind", UNREACHABLE, ids=lambda kind: kind.__name__)
def test_redis_unreachable(database_url: str, rows: Any, monkeypatch: Any, kind: Any) -> None:
    """A Redis that refuses, is silent or drops packets means 503, and a row for the next delivery."""
    with kind() as port, opened(database_url, f"redis://:p@127.0.0.1:{port}/0") as endpoint:
        app = serve(endpoint, monkeypatch)
        for _ in range(2):
            deferred(app, push(), "broker_unavailable")
    assert statuses(rows()) == {GENERATION: "queued"}


@pytest.mark.parametrize("kind", UNREACHABLE, ids=lambda kind: kind.__name__)
def test_an_instance_without_a_network_does_not_start(redis_url: str, monkeypatch: Any, kind: Any) -> None:
    """Each start-up probe is answered, also while connections hang: a probe that ends late counts as failed."""
    with kind() as port, opened(f"postgresql+psycopg://u:p@127.0.0.1:{port}/x", redis_url) as endpoint:
        client = serve(endpoint, monkeypatch).test_client()
        start = time.monotonic()
        assert [client.get("/started").status_code for _ in range(3)] == [503] * 3
        print(f"three answers after {time.monotonic() - start:.3f} s")


def test_an_instance_starts_with_its_network(database_url: str, redis_url: str, monkeypatch: Any) -> None:
    """200 as soon as Postgres has answered."""
    with opened(database_url, redis_url) as endpoint:
        assert serve(endpoint, monkeypatch).test_client().get("/started").status_code == 200


def test_more_requests_than_threads_during_an_outage(redis_url: str, monkeypatch: Any) -> None:
    """40 simultaneous requests get 503, including requests that wait for a thread."""
    with black_hole() as port, opened(f"postgresql+psycopg://u:p@127.0.0.1:{port}/x", redis_url) as endpoint:
        app = serve(endpoint, monkeypatch)
        deliveries = [push(f"{number}.jpg") for number in range(40)]
        assert deliver_all(app, deliveries, at_once=40) == [503] * 40


def delivered(app: Flask, delivery: Delivery) -> bool:
    """Repeat the delivery until it is acknowledged."""
    return any(deliver(app, delivery).status_code == 204 for _ in range(REDELIVERIES))


def test_redis_restarts(app: Flask, rows: Any, queue: Queue, redis_server: RedisServer) -> None:
    """While Redis is down, a delivery gets 503; after the restart, the redelivery enqueues the existing row."""
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
    """Each idle connection that a restart has broken fails at most one delivery."""
    assert set(deliver_all(app, [push(f"{number}.jpg") for number in range(40)], PRODUCER_CONNECTIONS)) == {204}
    redis_server.service.restart()
    answers = [deliver(app, push("after.jpg")).status_code for _ in range(3 * PRODUCER_CONNECTIONS)]
    assert answers[-PRODUCER_CONNECTIONS:] == [204] * PRODUCER_CONNECTIONS


def test_redis_freezes(app: Flask, rows: Any, redis_server: RedisServer) -> None:
    """A stopped Redis with open sockets means 503, until the process continues."""
    assert deliver(app, push("before.jpg")).status_code == 204
    redis_server.service.signal(signal.SIGSTOP)
    try:
        deferred(app, push("during.jpg"), "broker_unavailable")
    finally:
        redis_server.service.signal(signal.SIGCONT)
    assert delivered(app, push("during.jpg"))
    assert len(rows()) == 2


def test_redis_out_of_memory(app: Flask, queue: Queue, rows: Any) -> None:
    """A full Redis under `noeviction` means 503; once memory is free, the redelivery sends the message."""
    assert deliver(app, push("before.jpg")).status_code == 204
    queue.client.config_set("maxmemory", 1)
    try:
        deferred(app, push("during.jpg"), "broker_unavailable")
    finally:
        queue.client.config_set("maxmemory", 0)
    assert deliver(app, push("during.jpg")).status_code == 204
    assert queue.row_ids() == [row["id"] for row in rows()]


def test_postgres_crashes(app: Flask, rows: Any, postgres_server: PostgresServer) -> None:
    """Acknowledged events keep their rows after a crash of Postgres; an event that got 503 is delivered again."""
    assert deliver(app, push("before.jpg")).status_code == 204
    postgres_server.service.kill()
    try:
        deferred(app, push("during.jpg"), "database_unavailable")
    finally:
        postgres_server.service.restart()
    assert delivered(app, push("during.jpg"))
    assert {row["object_name"] for row in rows()} == {"before.jpg", "during.jpg"}


def test_postgres_freezes(app: Flask, database_url: str, rows: Any) -> None:
    """A stopped backend of a pooled connection means 503, and later deliveries succeed."""
    assert deliver(app, push("before.jpg")).status_code == 204
    with psycopg.connect(database_url, autocommit=True) as connection:
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


def test_a_locked_object_is_deferred(app: Flask, database_url: str) -> None:
    """While another transaction locks the table, a request gets 503 instead of hanging."""
    assert deliver(app, push()).status_code == 204
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE captions IN ACCESS EXCLUSIVE MODE")
        deferred(app, push(), "database_unavailable")
    assert delivered(app, push())

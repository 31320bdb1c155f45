"""The function as a process under gunicorn, stopped or killed during a request."""

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import requests

from dropline.contract import CAPTION_QUEUE
from local_emulators.application import ServiceEnvironment, start_function
from local_emulators.ports import HOST, free_ports
from local_emulators.redis import RedisServer
from local_emulators.supervisor import Service, Supervisor
from tests.support.deliveries import BUCKET, Delivery, push

#: Longer than any wait of these tests; also the statement timeout of the tests.
DEADLINE_S = 30


@dataclass(frozen=True)
class Function:
    """A running function."""

    service: Service
    port: int

    @property
    def url(self) -> str:
        """The address for deliveries."""
        return f"http://{HOST}:{self.port}/"

    def post(self, delivery: Delivery) -> int:
        """Post a delivery, and return the status of the response."""
        answer = requests.post(self.url, data=delivery.body, headers=delivery.headers, timeout=DEADLINE_S)
        return answer.status_code


@contextmanager
def running(database_url: str, redis_url: str, directory: Path, **settings: str) -> Iterator[Function]:
    (port,) = free_ports(1)
    environment = {"DROPLINE_EVENTS__BUCKETS": json.dumps([BUCKET]), **settings}
    with Supervisor(directory) as supervisor:
        shared = ServiceEnvironment(redis_url, "http://127.0.0.1:1", environment)
        yield Function(start_function(supervisor, port, shared, database_url), port)


@pytest.fixture
def function(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Function]:
    """A running function that accepts events of one bucket."""
    with running(database_url, redis_url, tmp_path) as found:
        yield found


@pytest.fixture
def observer(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection in autocommit mode, so each statement sees all committed changes."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"SET statement_timeout = '{DEADLINE_S}s'".encode())
        yield connection


def wait_for_lock_queue(observer: psycopg.Connection[Any]) -> None:
    """Wait until a transaction of the function waits for a lock, with a loop inside Postgres."""
    observer.execute(
        """
        DO $$ BEGIN
            WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                              AND application_name = 'dropline-function') LOOP
                PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
            END LOOP;
        END $$
        """
    )


def test_sigterm_finishes_what_is_under_way(
    function: Function, database_url: str, observer: psycopg.Connection[Any]
) -> None:
    """A request that waits for Postgres at the time of SIGTERM gets its response, and the exit status is 0."""
    with ThreadPoolExecutor(1) as threads, psycopg.connect(database_url) as locker:
        locker.execute("LOCK TABLE captions IN ACCESS EXCLUSIVE MODE")
        answer = threads.submit(function.post, push())
        wait_for_lock_queue(observer)
        function.service.signal(signal.SIGTERM)
        assert function.service.wait_for_line("Handling signal: term", DEADLINE_S)
        locker.rollback()
        assert answer.result() == 204
    assert function.service.wait_for_exit(DEADLINE_S)
    assert "ended with exit status 0." in function.service.describe_death()


def test_killed_between_commit_and_enqueue(
    function: Function, observer: psycopg.Connection[Any], redis_server: RedisServer
) -> None:
    """If the process dies after the commit, while Redis hangs, the redelivery enqueues the committed row."""
    observer.execute("LISTEN captions")
    redis_server.service.signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(function.post, push())
            assert list(observer.notifies(timeout=DEADLINE_S, stop_after=1))
            function.service.kill_group()
            assert isinstance(answer.exception(), requests.ConnectionError)
    finally:
        redis_server.service.signal(signal.SIGCONT)
    assert function.service.wait_for_exit(DEADLINE_S)
    with redis.Redis.from_url(redis_server.url, protocol=2) as client:
        client.delete(CAPTION_QUEUE)  # a message that Redis may still have received
        function.service.restart()
        assert function.post(push()) == 204
        assert client.llen(CAPTION_QUEUE) == 1
    assert observer.execute("SELECT count(*) FROM captions").fetchone() == (1,)


def open_slow_delivery(function: Function, head: str) -> socket.socket:
    """A connection with the head of a request, and one byte of its body."""
    connection = socket.create_connection((HOST, function.port), timeout=DEADLINE_S)
    connection.sendall(f"POST / HTTP/1.1\r\nHost: function\r\n{head}\r\n\r\n1".encode())
    return connection


def answer_to_end(connection: socket.socket) -> bytes:
    """All bytes until the function closes the connection."""
    answer = b""
    while part := connection.recv(65_536):
        answer += part
    return answer


#: More than the threads of the function.
SLOW_CLIENTS = 20


@pytest.mark.parametrize(
    "head", ["Content-Length: 50000000", "Content-Length: 2000", "Transfer-Encoding: chunked"]
)
def test_fault_51_bodies_without_a_token_are_not_read(
    database_url: str, redis_url: str, tmp_path: Path, head: str
) -> None:
    """A body that never arrives gets 401 and the end of its connection; other requests are served meanwhile."""
    settings = {
        "DROPLINE_PUSH__AUDIENCE": "https://function.example",
        "DROPLINE_PUSH__SERVICE_ACCOUNT": "push@example.iam.gserviceaccount.com",
    }
    with running(database_url, redis_url, tmp_path, **settings) as function, ExitStack() as opened:
        slow = [opened.enter_context(open_slow_delivery(function, head)) for _ in range(SLOW_CLIENTS)]
        assert requests.get(function.url, timeout=DEADLINE_S).text == "alive\n"
        assert function.post(push()) == 401
        for connection in slow:
            assert answer_to_end(connection).startswith(b"HTTP/1.1 401 ")


def test_fault_51_a_slow_body_ends_with_the_time_of_its_request(function: Function, database_url: str) -> None:
    """Where callers are checked elsewhere, a slow body gets 408, and events are served all the time."""
    with ExitStack() as opened:
        slow = [
            opened.enter_context(open_slow_delivery(function, "Content-Length: 2000")) for _ in range(SLOW_CLIENTS)
        ]
        assert function.post(push()) == 204
        for connection in slow:
            answer = answer_to_end(connection)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"body_too_slow" in answer
    assert function.post(push("second.jpg")) == 204

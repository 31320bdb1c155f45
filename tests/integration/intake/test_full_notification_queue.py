"""A session that listens but reads nothing: Postgres runs out of room for notifications, and refuses commits."""

import contextlib
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask

from local_emulators import postgres
from local_emulators.ports import free_ports
from local_emulators.supervisor import Supervisor
from migrations.run import upgrade
from tests.support.deliveries import push
from tests.support.function import deliver, serve
from tests.support.intake import opened

#: Pages of 8 KiB; by default 8 GiB may wait.
_ROOM = "max_notify_queue_pages=64"


def test_an_event_waits_until_the_session_ends(
    redis_url: str, state_directory: Path, monkeypatch: pytest.MonkeyPatch, own_logging: None
) -> None:
    """The function answers 503 with the remedy in the log; the event is accepted after the end of the session."""
    with Supervisor(state_directory) as supervisor:
        server = postgres.start(supervisor, state_directory / "postgres", free_ports(1)[0], "test", _ROOM)
        upgrade(server.url)
        with opened(server.url, redis_url) as endpoint:
            app = serve(endpoint, monkeypatch)
            with psycopg.connect(server.url) as stuck:
                pid = stuck.info.backend_pid
                fill_the_queue(stuck, server.url)
                assert answers(app) == (503, {"error": "database_unavailable"})
            wait_for_end(pid, server.url)
            # After this refusal the function has Postgres make room.
            assert answers(app)[0] == 503
            assert answers(app)[0] == 204


def answers(app: Flask) -> tuple[int, Any]:
    answer = deliver(app, push())
    return answer.status_code, answer.get_json(silent=True)


def wait_for_end(pid: int, url: str) -> None:
    """Wait until the server's process of a closed connection has ended, with a loop inside Postgres."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"""
            DO $$ BEGIN
                WHILE EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid}) LOOP
                    PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
                END LOOP;
            END $$
            """.encode()
        )


def fill_the_queue(stuck: "psycopg.Connection[tuple[object, ...]]", url: str) -> None:
    """Send notifications until Postgres refuses one, while `stuck` listens in a transaction that does not end."""
    stuck.execute("LISTEN captions")
    stuck.commit()
    stuck.execute("SELECT 1")
    with (
        psycopg.connect(url, autocommit=True) as sender,
        contextlib.suppress(psycopg.errors.ProgramLimitExceeded),
    ):
        while True:
            sender.execute("SELECT pg_notify('captions', repeat('x', 100) || n) FROM generate_series(1, 500) AS n")

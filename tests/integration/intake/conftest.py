"""Fixtures: the function, the rows of the database, and the captions queue."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import redis
from flask import Flask
from psycopg.rows import dict_row

from tests.support.function import serve
from tests.support.intake import Queue, opened


@pytest.fixture
def app(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The function with a new database and an empty Redis."""
    with opened(database_url, redis_url) as endpoint:
        yield serve(endpoint, monkeypatch)


@pytest.fixture
def rows(database_url: str) -> Callable[[], list[dict[str, Any]]]:
    """All rows, oldest first."""

    def read() -> list[dict[str, Any]]:
        with psycopg.connect(database_url, row_factory=dict_row) as connection:
            return connection.execute("SELECT * FROM captions ORDER BY id").fetchall()

    return read


@pytest.fixture
def queue(redis_url: str) -> Iterator["Queue"]:
    """The captions queue, read directly from Redis."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield Queue(client)


@pytest.fixture
def counts(database_url: str) -> Callable[[], dict[tuple[str, str], int]]:
    """Events of filtered objects by reason and setting."""

    def read() -> dict[tuple[str, str], int]:
        with psycopg.connect(database_url) as connection:
            found = connection.execute(
                "SELECT reason, setting, sum(events)::int FROM filtered_events GROUP BY reason, setting"
            )
            return {(reason, setting): events for reason, setting, events in found}

    return read

"""Connections to a test's own database."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine

from tests.support.rows import engine_of


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """For tests with threads or transactions of their own."""
    with engine_of(database) as found:
        yield found


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """Each statement commits by itself, as far as a single-threaded test can see."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as found:
        yield found

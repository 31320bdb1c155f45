"""Connections to a test's own database, and a rig for workers."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import make_url

from local_emulators.gcs import GcsServer
from local_emulators.supervisor import Supervisor
from tests.support.rows import engine_of
from tests.support.worker_rig import Rig, open_rig


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


@pytest.fixture
def own_logging() -> Iterator[None]:
    """For tests that run in this process what sets up the logging of its own."""
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers = before[0]
    root.setLevel(before[1])
    structlog.reset_defaults()


@pytest.fixture
def rig(database: str, redis_url: str, gcs_server: GcsServer, tmp_path: Path) -> Iterator[Rig]:
    """A rig with a bucket, a database and an empty queue of its own; its workers end with it."""
    directory = tmp_path / "failpoints"
    directory.mkdir()
    bucket = f"rig-{make_url(database).database}".replace("_", "-")
    with Supervisor(tmp_path / "logs") as supervisor:
        rig = Rig(database, redis_url, gcs_server.url, bucket, directory, supervisor)
        with open_rig(rig):
            yield rig

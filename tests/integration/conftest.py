"""Fixtures: connections to the database of a test, and a rig for workers."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from db.session import Database
from local_emulators.gcs import GcsServer
from local_emulators.postgres import PostgresServer
from local_emulators.supervisor import Supervisor
from tests.support.logins import Login, logins
from tests.support.rows import database_of, open_connection
from tests.support.worker_rig import Rig, open_rig


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A `Database`, for tests with several threads or transactions."""
    with database_of(database_url) as found:
        yield found


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """A connection on which each statement commits by itself."""
    with open_connection(database_url, isolation_level="AUTOCOMMIT") as found:
        yield found


@pytest.fixture
def login(postgres_server: PostgresServer, database_url: str) -> Iterator[Login]:
    """Opens connections to the test's database with a login of one of Dropline's roles."""
    with logins(postgres_server, database_url) as connect:
        yield connect


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Restores the logging of the test process after code that configures logging."""
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers = before[0]
    root.setLevel(before[1])
    structlog.reset_defaults()


@pytest.fixture
def rig(database_url: str, redis_url: str, gcs_server: GcsServer, tmp_path: Path) -> Iterator[Rig]:
    """A rig with a new bucket, database and empty queue; the workers end with the rig."""
    directory = tmp_path / "failpoints"
    directory.mkdir()
    bucket = f"rig-{make_url(database_url).database}".replace("_", "-")
    with Supervisor(tmp_path / "logs") as supervisor:
        rig = Rig(database_url, redis_url, gcs_server.url, bucket, directory, supervisor)
        with open_rig(rig):
            yield rig

"""Fixtures: Postgres, Redis, Pub/Sub and Cloud Storage as real processes.

Servers live as long as the run. A test gets a new database, cloned from a migrated template, and an emptied Redis.
All tests share the servers of Pub/Sub and Cloud Storage, so each test chooses new names for topics and buckets.
"""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
import redis as redis_client

from local_emulators import gcs, postgres, pubsub_process, redis
from local_emulators.gcs import GcsServer
from local_emulators.ports import free_ports
from local_emulators.postgres import PostgresServer
from local_emulators.pubsub_process import PubsubServer
from local_emulators.redis import RedisServer
from local_emulators.supervisor import Supervisor
from migrations.run import upgrade

_TEMPLATE = "migrated_template"


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory open to every user: under root, Postgres runs as another user, without access to pytest's."""
    with TemporaryDirectory(prefix="dropline-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
        # Where the Postgres user cannot reach the wheels either, the cluster was put elsewhere and linked.
        for link in path.iterdir():
            if link.is_symlink():
                shutil.rmtree(link.resolve())


@pytest.fixture
def state_directory() -> Iterator[Path]:
    """The directory for the state of a test's own Postgres or whole stack."""
    with open_directory() as path:
        yield path


@pytest.fixture(scope="session")
def directory_of_run() -> Iterator[Path]:
    """The directory for the state of the run's servers."""
    with open_directory() as path:
        yield path


@pytest.fixture(scope="session")
def supervisor_of_run(directory_of_run: Path) -> Iterator[Supervisor]:
    """The supervisor of the run's servers; stops the servers at the end of the run."""
    with Supervisor(directory_of_run / "logs") as supervisor:
        yield supervisor


@pytest.fixture(scope="session")
def postgres_server(supervisor_of_run: Supervisor, directory_of_run: Path) -> PostgresServer:
    """A Postgres with the migrated template database; `url` is the superuser's."""
    directory = directory_of_run / "postgres"
    # No data of a test run has to survive a power cut.
    settings = ("fsync=off", "max_connections=200")
    server = postgres.start(supervisor_of_run, directory, free_ports(1)[0], "test", *settings)
    server.create_database(_TEMPLATE)
    upgrade(server.url_for(_TEMPLATE))
    return server


@pytest.fixture
def database_url(postgres_server: PostgresServer, database_names: Iterator[str]) -> Iterator[str]:
    """URL, with the superuser's rights, of a migrated database for a single test."""
    name = next(database_names)
    _administer(postgres_server, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield postgres_server.url_for(name)
    _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(server: PostgresServer, statement: str) -> None:
    """Run a statement over a new connection: a test may have restarted the server."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(statement.encode())


@pytest.fixture(scope="session")
def database_names() -> Iterator[str]:
    """Database names not yet used in the run."""
    return (f"test_{number}" for number in itertools.count(1))


@pytest.fixture(scope="session")
def redis_server(supervisor_of_run: Supervisor, directory_of_run: Path) -> RedisServer:
    """The run's Redis; a test can kill and restart the service."""
    return redis.start(supervisor_of_run, directory_of_run / "redis", free_ports(1)[0], "test")


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL, with the password, of a Redis that is empty at the start of the test."""
    with redis_client.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def pubsub_server(supervisor_of_run: Supervisor) -> PubsubServer:
    """Dropline's Pub/Sub emulator, for the run; `host` is a value for PUBSUB_EMULATOR_HOST."""
    return pubsub_process.start(supervisor_of_run, free_ports(1)[0])


@pytest.fixture(scope="session")
def gcs_server(supervisor_of_run: Supervisor) -> GcsServer:
    """The run's Cloud Storage, without events; `url` is a value for STORAGE_EMULATOR_HOST."""
    http_port, https_port = free_ports(2)
    return gcs.start(supervisor_of_run, http_port, https_port)

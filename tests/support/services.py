"""Fixtures: Postgres, Redis, Pub/Sub and Cloud Storage as real processes.

Servers live as long as the run. What a test changes is its own: a database cloned from a migrated template, an
empty Redis. Topics and buckets are shared, so tests choose names of their own.
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
    """A directory that every user can reach: as root, Postgres runs as another user, and pytest's are closed."""
    with TemporaryDirectory(prefix="dropline-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
        # Where not even the wheels can be reached, the cluster was put elsewhere and linked.
        for link in path.iterdir():
            if link.is_symlink():
                shutil.rmtree(link.resolve())


@pytest.fixture
def state_directory() -> Iterator[Path]:
    """Where a test's own Postgres, or a whole stack, keeps its state."""
    with open_directory() as path:
        yield path


@pytest.fixture(scope="session")
def directory_of_run() -> Iterator[Path]:
    """Where the run's servers keep their state."""
    with open_directory() as path:
        yield path


@pytest.fixture(scope="session")
def supervisor_of_run(directory_of_run: Path) -> Iterator[Supervisor]:
    """Starts the run's servers and stops them at its end."""
    with Supervisor(directory_of_run / "logs") as supervisor:
        yield supervisor


@pytest.fixture(scope="session")
def postgres_server(supervisor_of_run: Supervisor, directory_of_run: Path) -> PostgresServer:
    """A Postgres that holds the migrated template database; its `url` is the superuser's."""
    directory = directory_of_run / "postgres"
    # Nothing of a test run has to survive a power cut.
    settings = ("fsync=off", "max_connections=200")
    server = postgres.start(supervisor_of_run, directory, free_ports(1)[0], "test", *settings)
    server.create_database(_TEMPLATE)
    upgrade(server.url_for(_TEMPLATE))
    return server


@pytest.fixture
def database_url(postgres_server: PostgresServer, database_names: Iterator[str]) -> Iterator[str]:
    """URL, with the superuser's rights, of a migrated database that only this test sees."""
    name = next(database_names)
    _administer(postgres_server, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield postgres_server.url_for(name)
    _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(server: PostgresServer, statement: str) -> None:
    """Over a connection of its own: a test may have restarted the server meanwhile."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(statement.encode())


@pytest.fixture(scope="session")
def database_names() -> Iterator[str]:
    """Names no test of this run has used."""
    return (f"test_{number}" for number in itertools.count(1))


@pytest.fixture(scope="session")
def redis_server(supervisor_of_run: Supervisor, directory_of_run: Path) -> RedisServer:
    """The run's Redis; its service can be killed and restarted."""
    return redis.start(supervisor_of_run, directory_of_run / "redis", free_ports(1)[0], "test")


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL, password included, of a Redis that is empty at the start of the test."""
    with redis_client.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def pubsub_server(supervisor_of_run: Supervisor) -> PubsubServer:
    """The run's Pub/Sub emulator, our own; `host` is what PUBSUB_EMULATOR_HOST takes."""
    return pubsub_process.start(supervisor_of_run, free_ports(1)[0])


@pytest.fixture(scope="session")
def gcs_server(supervisor_of_run: Supervisor) -> GcsServer:
    """The run's Cloud Storage, without events; `url` is what STORAGE_EMULATOR_HOST takes."""
    http_port, https_port = free_ports(2)
    return gcs.start(supervisor_of_run, http_port, https_port)

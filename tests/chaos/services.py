"""Postgres, Redis and Cloud Storage of a run without the function."""

from collections.abc import Iterator
from contextlib import contextmanager

from local_emulators import gcs, postgres, redis
from local_emulators.ports import free_ports
from local_emulators.redis import RedisServer
from local_emulators.supervisor import Supervisor
from migrations.run import upgrade
from tests.support.services import open_directory
from tests.support.worker_rig import Rig, open_rig


@contextmanager
def running_rig(name: str) -> Iterator[tuple[Rig, RedisServer]]:
    """A rig with services of its own, and its Redis; `name` is that of database and bucket."""
    with open_directory() as directory, Supervisor(directory / "logs") as supervisor:
        ports = free_ports(4)
        server = postgres.start(supervisor, directory / "postgres", ports[0], "test", "fsync=off")
        server.create_database(name)
        upgrade(server.url_for(name))
        broker = redis.start(supervisor, directory / "redis", ports[1], "test")
        storage = gcs.start(supervisor, ports[2], ports[3])
        failpoints = directory / "failpoints"
        failpoints.mkdir()
        rig = Rig(server.url_for(name), broker.url, storage.url, name, failpoints, supervisor)
        with open_rig(rig):
            yield rig, broker

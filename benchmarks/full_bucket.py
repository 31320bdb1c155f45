"""A bucket of many objects in the emulator, with Postgres and Redis, and without a function.

The emulator reads the objects from files in place. The memory backend looks through all objects for each object
of a load: 100,000 objects took more than ten minutes.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.checks import RunInvalidError
from benchmarks.stack import open_directory
from local_emulators import gcs, postgres, redis
from local_emulators.ports import HOST, free_ports
from local_emulators.postgres import PostgresServer
from local_emulators.process import Command, process_environment
from local_emulators.supervisor import Supervisor
from migrations.run import upgrade

BUCKET = "full"
#: A tenth of the names begin with this.
TENTH = "0/"
_FOLDERS = 10
_DATA = b"x"
#: Where the emulator keeps the facts of an object, with its field names.
_ATTRIBUTE = "user.metadata"
_CREATED = "2026-01-01T00:00:00Z"
_FIRST_GENERATION = 1_767_225_600_000_000


class FullBucket:
    """The services around the bucket."""

    def __init__(self, server: PostgresServer, redis_url: str, gcs_url: str) -> None:
        self._server = server
        self._redis_url = redis_url
        self._gcs_url = gcs_url

    def database(self, name: str) -> str:
        """The URL of a new database."""
        self._server.create_database(name)
        url = self._server.url_for(name)
        upgrade(url)
        return url

    def environment(self, url: str) -> dict[str, str]:
        """The variables of a command."""
        return {
            "DROPLINE_DATABASE__URL": url,
            "DROPLINE_BROKER__URL": self._redis_url,
            "DROPLINE_EVENTS__BUCKETS": json.dumps([BUCKET]),
            "STORAGE_EMULATOR_HOST": self._gcs_url,
        }


@contextmanager
def full_bucket(objects: int) -> Iterator[FullBucket]:
    """The services, with a bucket of `objects` small JPEG objects.

    Raises:
        RunInvalidError: the file system has no extended attributes.
    """
    with open_directory() as directory, Supervisor(directory / "logs") as supervisor:
        write_objects(directory / "data" / BUCKET, objects)
        port, redis_port, http = free_ports(3)
        server = postgres.start(supervisor, directory / "postgres", port, "benchmark", "fsync=off")
        broker = redis.start(supervisor, directory / "redis", redis_port, "benchmark")
        command = Command(
            name="gcs",
            argv=(
                str(gcs.server_binary()),
                *("-scheme", "http", "-host", HOST, "-port", str(http)),
                *("-backend", "filesystem", "-filesystem-root", str(directory / "data")),
            ),
            ready_lines=("server started at http://",),
            environment=process_environment(),
        )
        supervisor.start(command)
        yield FullBucket(server, broker.url, f"http://{HOST}:{http}")


def write_objects(bucket: Path, objects: int) -> None:
    """Write the files of a bucket as the emulator's filesystem backend has them, in folders of a tenth each.

    Raises:
        RunInvalidError: the file system has no extended attributes.
    """
    for folder in range(_FOLDERS):
        (bucket / str(folder)).mkdir(parents=True, exist_ok=True)
    for number in range(objects):
        file = bucket / str(number % _FOLDERS) / f"{number:07}.jpg"
        file.write_bytes(_DATA)
        try:
            os.setxattr(file, _ATTRIBUTE, _facts(number))
        except OSError as error:
            raise RunInvalidError(
                f"{file} takes no extended attribute ({error.strerror}); set TMPDIR to a directory of another "
                "file system, such as ext4 or xfs"
            ) from None


def _facts(number: int) -> bytes:
    facts = {
        "StorageClass": "STANDARD",
        "ContentType": "image/jpeg",
        "Md5Hash": base64.b64encode(hashlib.md5(_DATA, usedforsecurity=False).digest()).decode(),
        "Created": _CREATED,
        "Updated": _CREATED,
        "Generation": _FIRST_GENERATION + number,
    }
    return json.dumps(facts).encode()

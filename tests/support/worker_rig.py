"""A real worker over real Postgres, Redis and Cloud Storage, without the function: the test inserts the rows."""

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from celery import Celery
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from kombu import pools
from PIL import Image

from db import object_rows
from db.listen import listening
from db.session import Database
from dropline.broker.queue import CaptionQueue
from dropline.contract import CAPTION_QUEUE, ObjectFacts, ObjectVersion, TaskRequest
from dropline.settings import BrokerSettings, DatabaseSettings, Settings
from local_emulators.process import Command, process_environment, python_path
from local_emulators.supervisor import Service, Supervisor
from tests.support.failpoints import DIRECTORY_VARIABLE
from tests.support.rows import row_of
from worker.celery_app import make_celery

#: Long, since test machines are shared and slow.
DEADLINE_S = 180.0


@dataclass
class Rig:
    """Services, settings and clients of a worker test."""

    database_url: str
    redis_url: str
    gcs_url: str
    bucket: str
    directory: Path
    supervisor: Supervisor
    module: str = "tests.support.failpoint_worker"
    #: Further settings of the worker.
    variables: dict[str, str] = field(default_factory=dict)
    #: Settings that the worker does not have: an older version refuses a setting that it does not know.
    unknown: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        database = DatabaseSettings.model_validate({"url": self.database_url})
        self.settings = Settings(
            database=database,
            broker=BrokerSettings.model_validate({"url": self.redis_url}),
        )
        self.database = Database.connect(database, "test")
        self.celery: Celery = make_celery(self.settings)
        self.queue = CaptionQueue(self.celery)
        self.gcs = Client(
            project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": self.gcs_url}
        )

    def worker(self, name: str = "worker", ready: str = "worker_ready", **variables: str) -> Service:
        """Start a worker; returns after the log line `ready`."""
        environment = {
            "DROPLINE_DATABASE__URL": self.database_url,
            "DROPLINE_BROKER__URL": self.redis_url,
            "DROPLINE_WORKER__RETRY_BASE_S": "0.05",
            "DROPLINE_WORKER__RETRY_CAP_S": "1",
            # The engines of the tests have no model.
            "DROPLINE_ENGINE__MEMORY_BYTES": "200000000",
            "STORAGE_EMULATOR_HOST": self.gcs_url,
            DIRECTORY_VARIABLE: str(self.directory),
            "PYTHONPATH": python_path(),
        }
        given = environment | self.variables | variables
        command = Command(
            name=name,
            argv=(sys.executable, "-m", self.module),
            ready_lines=(ready,),
            environment=process_environment(
                **{name: value for name, value in given.items() if name not in self.unknown}
            ),
        )
        return self.supervisor.start(command)

    def upload(
        self,
        name: str,
        data: bytes,
        content_type: str = "image/png",
        encoding: str | None = None,
        **metadata: str,
    ) -> ObjectVersion:
        """Upload an object; returns the new object version."""
        blob = self.gcs.bucket(self.bucket).blob(name)
        blob.metadata = metadata or None
        blob.content_encoding = encoding
        blob.upload_from_string(data, content_type=content_type)
        assert blob.generation is not None
        return ObjectVersion(self.bucket, name, int(blob.generation))

    def register(self, version: ObjectVersion, task: str = "<CAPTION>") -> int:
        """Insert the row like the function; returns the id."""
        with self.database.transaction() as connection:
            return object_rows.register_object(connection, version, ObjectFacts(), TaskRequest.parse(task)).row_id

    def enqueue(self, row_id: int) -> None:
        """Send a message of the row."""
        self.queue.wake(row_id)

    def drop(self, name: str, data: bytes) -> int:
        """Upload, register and enqueue; returns the id of the row."""
        row_id = self.register(self.upload(name, data))
        self.enqueue(row_id)
        return row_id

    def row(self, row_id: int) -> dict[str, Any]:
        """All columns of the row."""
        with self.database.transaction() as connection:
            return row_of(connection, row_id)

    def metadata(self, version: ObjectVersion) -> dict[str, str]:
        """Custom metadata of the live object."""
        blob = self.gcs.bucket(version.bucket).get_blob(version.name)
        assert blob is not None
        return dict(blob.metadata or {})

    def queue_length(self) -> int:
        """Messages on the caption queue, without messages held by workers."""
        with self.celery.connection_for_write() as connection:
            return int(connection.default_channel.client.llen(CAPTION_QUEUE))

    def wait_settled(self, row_ids: Iterable[int], timeout_s: float = DEADLINE_S) -> list[dict[str, Any]]:
        """Wait until every row is terminal and has no lease; returns the rows."""
        wanted = list(row_ids)
        deadline = monotonic() + timeout_s
        with listening(self.settings.database, "test-listener") as listener:
            while True:
                rows = [self.row(row_id) for row_id in wanted]
                if all(_settled(row) for row in rows):
                    return rows
                remaining = deadline - monotonic()
                unsettled = [(row["id"], row["status"], row["error"]) for row in rows if not _settled(row)]
                assert remaining > 0, f"not settled: {unsettled}"
                next(iter(listener.notices(remaining)), None)


@contextmanager
def open_rig(rig: Rig) -> Iterator[Rig]:
    """Create the bucket of the rig; close all connections at the end."""
    rig.gcs.create_bucket(rig.bucket)
    # A connection of the test before has declared its queues on a Redis that was emptied since.
    pools.reset()
    try:
        yield rig
    finally:
        rig.database.close()
        rig.celery.close()
        rig.gcs.close()


def png(color: tuple[int, int, int] = (1, 2, 3), size: tuple[int, int] = (40, 30)) -> bytes:
    """A PNG of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


def _settled(row: dict[str, Any]) -> bool:
    return row["status"] not in ("queued", "running") and row["lease_until"] is None

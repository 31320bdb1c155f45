"""Buckets with many objects, backfills of them in the test's process or in another, and their rows."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from google.cloud.storage import Bucket
from pydantic import SecretStr
from sqlalchemy import text

from db.session import Database
from dropline.settings import BrokerSettings, DatabaseSettings, EventSettings, Settings
from dropline.storage.client import make_client
from dropline.storage.listing import Listing
from local_emulators.process import process_environment, python_path
from operations.backfill import Backfiller
from operations.backfill_request import BackfillRequest, Source
from tests.support.rows import database_of

#: Uploads at a time.
_THREADS = 8


@dataclass
class BulkRig:
    """A bucket, a database, and a record of the messages and of the calls that wake the worker pool."""

    settings: Settings
    bucket: Bucket
    database: Database
    messages: list[int] = field(default_factory=list)
    wakes: int = 0

    @property
    def uri(self) -> str:
        return f"gs://{self.bucket.name}"

    def backfiller(self) -> Backfiller:
        listing = Listing.connect(self.settings)
        return Backfiller(self.settings, self.database, listing, self.messages.append, self.wake)

    def wake(self) -> None:
        self.wakes += 1

    def request(self, rest: str = "", **values: Any) -> BackfillRequest:
        return BackfillRequest(Source.parse(f"{self.uri}/{rest}"), **values)

    def put(
        self,
        name: str,
        data: bytes = b"x",
        kind: str = "image/jpeg",
        metadata: dict[str, str] | None = None,
    ) -> int:
        """Upload an object; returns the generation."""
        blob = self.bucket.blob(name)
        blob.metadata = metadata
        blob.upload_from_string(data, content_type=kind)
        assert blob.generation is not None
        return int(blob.generation)

    def put_all(self, names: Iterable[str]) -> None:
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(self.put, names))

    def rows(self, columns: str = "*") -> list[dict[str, Any]]:
        with self.database.transaction() as connection:
            found = connection.execute(text(f"SELECT {columns} FROM captions ORDER BY id"))
            return [dict(row) for row in found.mappings()]

    def names(self) -> list[str]:
        """The object names of all rows, sorted."""
        return sorted(row["object_name"] for row in self.rows("id, object_name"))

    def environment(self) -> dict[str, str]:
        """Variables of a command."""
        return {
            "DROPLINE_DATABASE__URL": self.settings.database.url.get_secret_value(),
            "DROPLINE_BROKER__URL": self.settings.broker.url.get_secret_value(),
            "DROPLINE_EVENTS__BUCKETS": f'["{self.bucket.name}"]',
            "STORAGE_EMULATOR_HOST": self.settings.storage_emulator_host,
        }

    @contextmanager
    def command(self, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
        """A command in a process of its own, which ends with the block."""
        environment = process_environment(PYTHONPATH=python_path(), **self.environment())
        with subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@contextmanager
def open_bulk_rig(database_url: str, redis_url: str, gcs_url: str, bucket: str) -> Iterator[BulkRig]:
    """A new bucket; all connections are closed at the end."""
    settings = Settings.model_validate(
        {
            "STORAGE_EMULATOR_HOST": gcs_url,
            "database": DatabaseSettings(url=SecretStr(database_url)),
            "broker": BrokerSettings(url=SecretStr(redis_url)),
            "events": EventSettings(buckets=(bucket,)),
        }
    )
    with closing(make_client("test", gcs_url)) as client, database_of(database_url) as database:
        yield BulkRig(settings, client.create_bucket(bucket), database)

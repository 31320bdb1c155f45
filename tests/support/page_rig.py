"""The gallery's application for tests of its pages: real Postgres, objects in memory, no decoder process."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from fastapi import FastAPI
from starlette.testclient import TestClient

from db.session import Database
from dropline.contract import ObjectFacts, ObjectVersion
from dropline.deadline import Deadline
from dropline.errors import DroplineError, ObjectGone
from dropline.images.decoded import Decoded
from dropline.images.decoder import DecoderProcess
from dropline.images.decoding import decode
from dropline.settings import DatabaseSettings, ImageSettings, Settings
from dropline.storage.bucket import NewObject, StoredObject
from gallery.access import Access, TokenEntry
from gallery.app import create_app
from gallery.copies import Copies
from gallery.disk_cache import DiskCache
from gallery.hub import ChangeHub
from gallery.resources import Resources
from operations.submit import Rows, Submissions


@dataclass
class Objects:
    """Objects of buckets, by version; an exception is raised by the download."""

    contents: dict[ObjectVersion, bytes | DroplineError] = field(default_factory=dict)
    #: Row ids of the messages sent.
    enqueued: list[int] = field(default_factory=list)

    def download(self, version: ObjectVersion) -> bytes:
        """The bytes of an object version."""
        found = self.contents.get(version) or ObjectGone(f"{version.uri} is gone")
        if isinstance(found, DroplineError):
            raise found
        return found

    def exists(self, version: ObjectVersion) -> bool:
        """Whether there is such an object version; an exception stands for no answer."""
        found = self.contents.get(version)
        if isinstance(found, DroplineError):
            raise found
        return found is not None

    def create(self, _bucket: str, _name: str, _new: NewObject, _deadline: Deadline) -> ObjectVersion | None:
        """Not for pages: the API alone uploads."""
        raise AssertionError("a page uploads nothing: the tests of the API have a storage emulator")

    def open_session(self, *_: object) -> str:
        """Not for pages: the API alone uploads."""
        raise AssertionError("a page uploads nothing: the tests of the API have a storage emulator")

    def describe(self, bucket: str, name: str) -> StoredObject:
        """The newest version of an object."""
        found = max(
            (each for each in self.contents if (each.bucket, each.name) == (bucket, name)), key=_generation
        )
        return StoredObject(found, ObjectFacts("image/png", 99), None)


def _generation(version: ObjectVersion) -> int:
    return version.generation


class InProcessDecoder:
    """Decodes in this process, without limits of a process."""

    def decode(self, data: bytes, side_px: int) -> Decoded:
        """As `DecoderProcess.decode`."""
        return decode(data, side_px, ImageSettings())

    def close(self) -> None:
        """Nothing to end."""


@contextmanager
def page_application(
    database: Database,
    directory: Path,
    objects: Objects,
    tokens: tuple[TokenEntry, ...] = (),
    listening: DatabaseSettings = DatabaseSettings(),  # noqa: B008 - frozen
) -> Iterator[FastAPI]:
    """The application; without tokens, everyone on the machine has all scopes.

    Events need `listening`, the settings of Postgres.
    """
    settings = Settings.model_validate({"bucket": "drops", "events": {"buckets": ("drops",)}})
    access = Access(tokens, None, open_to_machine=not tokens)
    decoder = cast("DecoderProcess", InProcessDecoder())
    with closing(Copies(objects, DiskCache(directory, 10_000_000), [decoder])) as copies:
        rows = Rows(database, objects.enqueued.append, lambda: None)
        submissions = Submissions(objects, settings, rows)
        hub = ChangeHub(listening, "test-listen", database)
        yield create_app(Resources(settings, access, database, copies, rows, submissions, hub))


@contextmanager
def page_client(
    database: Database, directory: Path, objects: Objects, tokens: tuple[TokenEntry, ...] = ()
) -> Iterator[TestClient]:
    """A client of the application."""
    with (
        page_application(database, directory, objects, tokens) as application,
        TestClient(application, base_url="http://127.0.0.1", follow_redirects=False) as client,
    ):
        yield client

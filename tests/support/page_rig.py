"""The gallery's application for tests of its pages: real Postgres, objects in memory, no decoder process."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from starlette.testclient import TestClient

from db.session import Database
from dropline.contract import ObjectVersion
from dropline.errors import DroplineError, ObjectGone
from dropline.images.decoded import Decoded
from dropline.images.decoder import DecoderProcess
from dropline.images.decoding import decode
from dropline.settings import ImageSettings, Settings
from gallery.access import Access, TokenEntry
from gallery.app import create_app
from gallery.copies import Copies
from gallery.disk_cache import DiskCache
from gallery.resources import Resources


@dataclass
class Objects:
    """Objects of buckets, by version; an exception is raised by the download."""

    contents: dict[ObjectVersion, bytes | DroplineError] = field(default_factory=dict)

    def download(self, version: ObjectVersion) -> bytes:
        """The bytes of an object version."""
        found = self.contents.get(version) or ObjectGone(f"{version.uri} is gone")
        if isinstance(found, DroplineError):
            raise found
        return found


class InProcessDecoder:
    """Decodes in this process, without limits of a process."""

    def decode(self, data: bytes, side_px: int) -> Decoded:
        """As `DecoderProcess.decode`."""
        return decode(data, side_px, ImageSettings())

    def close(self) -> None:
        """Nothing to end."""


@contextmanager
def page_client(
    database: Database, directory: Path, objects: Objects, tokens: tuple[TokenEntry, ...] = ()
) -> Iterator[TestClient]:
    """A client of the application; without tokens, everyone on the machine has all scopes."""
    settings = Settings.model_validate({"bucket": "drops", "events": {"buckets": ("drops",)}})
    access = Access(tokens, None, open_to_machine=not tokens)
    decoder = cast("DecoderProcess", InProcessDecoder())
    with closing(Copies(objects.download, DiskCache(directory, 10_000_000), [decoder])) as copies:
        application = create_app(Resources(settings, access, database, copies))
        with TestClient(application, base_url="http://127.0.0.1", follow_redirects=False) as client:
            yield client

"""The services of the commands: a migrated Postgres and a Cloud Storage with a bucket."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from google.cloud.storage import Bucket
from sqlalchemy import Connection

from db import exports
from db.session import Database
from dropline.storage.client import make_client
from local_emulators import gcs
from local_emulators.gcs import GcsServer
from operations.export import run as running
from tests.support.exports import BOXES, OUTLINE, answer, version
from tests.support.rows import caption_object, fail_object
from tests.support.shell import BUCKET, AfterUpload, act_after_upload


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, database_url: str, gcs_server: GcsServer) -> None:
    """The variables of the stack's `env` file that the commands read."""
    gcs.create_bucket(gcs_server.url, "test", BUCKET)
    monkeypatch.setenv("DROPLINE_DATABASE__URL", database_url)
    monkeypatch.setenv("DROPLINE_BUCKET", BUCKET)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("DROPLINE_BROKER__URL", raising=False)


@pytest.fixture
def bucket(gcs_server: GcsServer) -> Iterator[Bucket]:
    """The bucket, for a test that looks into it."""
    client = make_client("test", gcs_server.url)
    yield client.bucket(BUCKET)
    client.close()


@pytest.fixture
def after_upload(monkeypatch: pytest.MonkeyPatch) -> Callable[[AfterUpload], None]:
    """Sets a callback for each object right after the upload."""
    return partial(act_after_upload, monkeypatch)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file with the extension of an image."""
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG")
    return path


@pytest.fixture
def rows(database: Database, connection: Connection) -> Database:
    """Captions, an overwritten one, a failed row, and answers with boxes."""
    for name in ("cats/1.jpg", "cats/2.jpg", "dogs/1.jpg"):
        caption_object(database, version(name), f"a picture of {name}")
    caption_object(database, version("dogs/2.jpg"), "overwritten")
    caption_object(database, version("dogs/2.jpg", 2), "=SUM(1)")
    fail_object(database, version("dogs/3.jpg"), "not_an_image", "no image")
    answer(connection, "cats/1.jpg", "<OD>", "cat, dog", BOXES)
    answer(connection, "cats/2.jpg", "<REGION_TO_SEGMENTATION><loc_1><loc_2><loc_3><loc_4>", "cat", OUTLINE)
    return database


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of two rows, statements that read three ids, and a mark after each part."""
    monkeypatch.setattr(exports, "PART", 2)
    monkeypatch.setattr(exports, "SPAN", 3)
    monkeypatch.setattr(running, "_PARTS_OF_A_MARK", 2)

"""The services of the commands: a migrated Postgres and a Cloud Storage with a bucket."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from local_emulators import gcs
from local_emulators.gcs import GcsServer
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
def after_upload(monkeypatch: pytest.MonkeyPatch) -> Callable[[AfterUpload], None]:
    """Sets a callback for each object right after the upload."""
    return partial(act_after_upload, monkeypatch)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file with the extension of an image."""
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG")
    return path

"""Fixtures: emulated Cloud Storage with the real rules and with faults, and a store connected to the emulator."""

import itertools
from collections.abc import Iterator

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Bucket, Client

from dropline.contract import ObjectVersion, SeenMetadata, WriteBack, WriteOutcome
from dropline.settings import Settings
from dropline.storage.objects import ObjectStore, make_store
from local_emulators.gcs import GcsServer
from tests.support.gcs_proxy import GcsProxy, serve

CAPTION, TASK, MODEL = "a red square", "<CAPTION>", "florence-community/Florence-2-base-ft"
OURS = {"caption": CAPTION, "caption-prompt": TASK, "caption-model": MODEL}
BODY = bytes(range(256)) * 400
LIMIT = 1_000_000


@pytest.fixture
def gcs_proxy(gcs_server: GcsServer) -> Iterator[GcsProxy]:
    """The emulated Cloud Storage of the run, with rules and faults."""
    with serve(gcs_server.url) as running:
        yield running


@pytest.fixture
def store(gcs_proxy: GcsProxy) -> Iterator[ObjectStore]:
    """A store connected to the proxy."""
    with make_store(settings_for(gcs_proxy.url)) as made:
        yield made


@pytest.fixture(scope="session")
def bucket_names() -> Iterator[str]:
    """Unused bucket names."""
    return (f"storage-test-{number}" for number in itertools.count(1))


@pytest.fixture
def bucket(gcs_proxy: GcsProxy, bucket_names: Iterator[str]) -> Iterator[Bucket]:
    """A bucket, in the view of its user, through the same proxy."""
    client = Client(
        project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": gcs_proxy.url}
    )
    yield client.create_bucket(next(bucket_names))
    client.close()


def settings_for(host: str) -> Settings:
    """Settings with an emulator at `host`; empty: Cloud Storage."""
    return Settings.model_validate({"STORAGE_EMULATOR_HOST": host})


def upload(
    bucket: Bucket, name: str = "cat.jpg", body: bytes = BODY, metadata: dict[str, str] | None = None
) -> ObjectVersion:
    """Upload an object as a user; return its version."""
    blob = bucket.blob(name)
    blob.metadata = metadata
    blob.upload_from_string(body, content_type="image/jpeg")
    return ObjectVersion(bucket.name, name, int(blob.generation))


def metadata_of(bucket: Bucket, name: str = "cat.jpg") -> dict[str, str]:
    """The object's custom metadata."""
    return dict(bucket.get_blob(name).metadata or {})


def set_metadata(bucket: Bucket, name: str = "cat.jpg", **values: str | None) -> None:
    """Edit the object's metadata as a user; None removes a key."""
    blob = bucket.blob(name)
    blob.metadata = values
    blob.patch()


def write(
    store: ObjectStore, version: ObjectVersion, caption: str = CAPTION, seen: SeenMetadata | None = None
) -> WriteOutcome:
    """Write a caption back."""
    return store.write_metadata(WriteBack(1, version, TASK, caption, MODEL, "test/1", metadata=seen))

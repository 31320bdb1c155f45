"""Large originals over HTTP: Cloud Run refuses more than 32 MiB over HTTP/1, unless they are sent in chunks."""

import hashlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from dropline import caption_id
from dropline.contract import ObjectVersion
from gallery import streaming
from local_emulators.gcs import GcsServer
from tests.support.gallery_rig import GalleryRig, open_gallery, settings_for
from tests.support.rows import TASK, caption_object

#: Cloud Run's limit, and a little more.
SIZE = (32 << 20) + 7


@pytest.fixture(scope="module")
def body() -> bytes:
    """A large original."""
    return random.Random(32).randbytes(SIZE)


@pytest.fixture
def gallery(database_url: str, redis_url: str, gcs_server: GcsServer) -> Iterator[GalleryRig]:
    """A running gallery with Dropline's own limit of sizes."""
    settings = settings_for(database_url, redis_url, gcs_server)
    events = settings.events.model_copy(update={"max_size_bytes": 50_000_000})
    with open_gallery(settings.model_copy(update={"events": events}), database_url) as rig:
        yield rig


@pytest.fixture
def path(gallery: GalleryRig, gcs_server: GcsServer, body: bytes) -> str:
    """Of the large original."""
    client = Client(
        project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": gcs_server.url}
    )
    blob = client.bucket(gallery.settings.bucket).blob("large.tif")
    blob.upload_from_string(body, content_type="image/tiff")
    assert blob.generation is not None
    version = ObjectVersion(gallery.settings.bucket, "large.tif", int(blob.generation))
    client.close()
    caption_object(gallery.database, version)
    return f"/pictures/{caption_id.encode(version, TASK)}/original"


def test_a_large_original_is_sent_in_chunks(gallery: GalleryRig, path: str, body: bytes) -> None:
    """Without a Content-Length, byte by byte the same, and with the headers of a download."""
    with gallery.client() as client, client.stream("GET", path) as answer:
        received = hashlib.sha256()
        for part in answer.iter_raw():
            received.update(part)
    assert answer.status_code == 200
    assert answer.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in answer.headers
    assert received.hexdigest() == hashlib.sha256(body).hexdigest()
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''large.tif"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"


def test_a_client_that_reads_slowly_costs_no_second_copy(
    gallery: GalleryRig, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server holds the original and a slice; a client that takes nothing more is disconnected."""
    monkeypatch.setattr(streaming, "STALLED_S", 1.0)
    address = urlsplit(gallery.url)
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect((address.hostname, address.port))
        stalled.sendall(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        assert stalled.recv(1)
        end, waiting = time.monotonic() + 60, 0
        while (connections := list(gallery.server.server_state.connections)) and time.monotonic() < end:
            waiting = max(waiting, *(each.transport.get_write_buffer_size() for each in connections))
            threading.Event().wait(0.01)
        assert waiting < 1 << 20
        assert not connections

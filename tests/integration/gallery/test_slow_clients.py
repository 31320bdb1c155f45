"""Clients that never finish a request, or go away: the connections and the waits end."""

import json
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from dropline.contract import ObjectVersion
from gallery import connection, headers
from local_emulators.gcs import GcsServer
from tests.support.gallery_rig import GalleryRig, open_gallery, settings_for
from tests.support.rows import caption_object

#: Longer than any limit of the test; an answer ends the wait at once.
_PATIENCE_S = 120


def connected(gallery: GalleryRig) -> socket.socket:
    """A connection to the gallery."""
    address = urlsplit(gallery.url)
    assert address.hostname
    assert address.port
    return socket.create_connection((address.hostname, address.port), timeout=_PATIENCE_S)


def until_closed(client: socket.socket) -> bytes:
    """All bytes up to the end of the connection."""
    return b"".join(iter(lambda: client.recv(65_536), b""))


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, less than the longest wait of the API."""
    for _ in range(3_000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("the condition has not come true")


@pytest.mark.parametrize("begin", [b"", b"GET /healthz HTTP/1.1\r\nHost: localh"])
def test_a_head_that_never_ends(gallery: GalleryRig, monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    """No byte, and a part of a request; further bytes do not prolong the time."""
    monkeypatch.setattr(connection, "HEAD_S", 0.2)
    with connected(gallery) as client:
        client.sendall(begin)
        assert until_closed(client) == b""


def test_the_rest_of_a_refused_body(gallery: GalleryRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer before the end of the body begins no new time for each byte."""
    monkeypatch.setattr(connection, "HEAD_S", 0.2)
    with connected(gallery) as client:
        client.sendall(b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx")
        assert client.recv(65_536).startswith(b"HTTP/1.1 405 ")
        client.sendall(b"x")
        until_closed(client)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/captions", "application/json"),
        ("/api/captions", "multipart/form-data; boundary=b"),
        ("/api/uploads", "application/json"),
        ("/login", "application/x-www-form-urlencoded"),
    ],
)
def test_a_body_that_never_ends(
    gallery: GalleryRig, monkeypatch: pytest.MonkeyPatch, path: str, kind: str
) -> None:
    """408, on each route that reads a body."""
    monkeypatch.setattr(headers, "_BODY_S", 0.2)
    with connected(gallery) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 1000\r\n\r\n"
        client.sendall(head.encode() + b"-")
        assert client.recv(65_536).startswith(b"HTTP/1.1 408 ")


def test_streams_and_waits_outlive_the_limits(gallery: GalleryRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits are those of requests; an answer may take longer."""
    monkeypatch.setattr(connection, "HEAD_S", 0.1)
    monkeypatch.setattr(headers, "_BODY_S", 0.1)
    with gallery.client() as client, client.stream("GET", "/api/events") as events:
        received = events.iter_raw()
        assert b"retry" in next(received)
        with gallery.client() as other:
            submitted = other.post("/api/captions", files={"file": ("a.png", b"png")}).json()
            assert other.get(f"/api/captions/{submitted['id']}", params={"wait": 0.5}).status_code == 202
        caption_object(gallery.database, ObjectVersion(gallery.settings.bucket, "b.png", 1), "a cat")
        assert b"event: caption" in next(received)


def test_too_many_connections(
    database_url: str, redis_url: str, gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request of a surplus connection is answered 503 with a problem, and its connection is closed."""
    monkeypatch.setattr(connection, "FURTHER", 0)
    settings = settings_for(database_url, redis_url, gcs_server, max_streams=1, max_waits=1)
    request = b"GET /api/captions/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with open_gallery(settings, database_url) as gallery, connected(gallery), connected(gallery) as second:
        with connected(gallery) as surplus:
            surplus.sendall(request)
            head, _, body = until_closed(surplus).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in head
        assert b"x-content-type-options: nosniff" in head
        assert b"content-type: application/problem+json" in head
        assert json.loads(body)["code"] == "overloaded"
        until(lambda: len(gallery.server.server_state.connections) == 2)
        second.sendall(request)
        assert second.recv(65_536).startswith(b"HTTP/1.1 404 ")


def test_a_client_that_goes_away_waits_no_longer(gallery: GalleryRig) -> None:
    """The wait of 60 seconds is free for another client at once."""
    feed = gallery.server.resources.hub.feed
    with gallery.client() as other:
        submitted = other.post("/api/captions", files={"file": ("a.png", b"png")}).json()
    with connected(gallery) as client:
        path = f"/api/captions/{submitted['id']}?wait=60"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        until(lambda: feed.waiters == 1)
    until(lambda: feed.waiters == 0)

"""Server-sent events over HTTP: every change once while connected, and no change missed after a reconnect."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest

from db import object_rows
from dropline import caption_id
from dropline.contract import ObjectVersion
from gallery import events, feed
from tests.support.gallery_rig import GalleryRig
from tests.support.rows import TASK, caption_object, caption_row, drop


class Events:
    """The blocks of one stream."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._lines = answer.iter_lines()
        #: The last id, as a browser keeps it.
        self.last_id = ""

    def take(self, count: int = 1) -> list[tuple[str, Any]]:
        """The next events: names and data; blocks without data are passed over."""
        found: list[tuple[str, Any]] = []
        while len(found) < count:
            block = self.block()
            if "data" in block:
                found.append((block["event"], json.loads(block["data"])))
        return found

    def names(self, count: int) -> list[tuple[str, str]]:
        """Object name and status of the next events."""
        return [(data["object_name"], data["status"]) for _, data in self.take(count)]

    def block(self) -> dict[str, str]:
        """The fields of the next block."""
        block: dict[str, str] = {}
        for line in self._lines:
            if not line and block:
                break
            name, _, value = line.partition(": ")
            if name and not line.startswith(":"):
                block[name] = value
        self.last_id = block.get("id", self.last_id)
        return block


@contextmanager
def stream(gallery: GalleryRig, last_id: str | None = None) -> Iterator[Events]:
    """A stream after its first block."""
    headers = {} if last_id is None else {"last-event-id": last_id}
    with gallery.client() as client, client.stream("GET", "/api/events", headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = Events(answer)
        if last_id is None:
            found.block()
        yield found


def named(gallery: GalleryRig, name: str) -> ObjectVersion:
    """A version of an object of the bucket."""
    return ObjectVersion(gallery.settings.bucket, name, 1)


def test_every_change_is_sent_once(gallery: GalleryRig) -> None:
    """To each client, in the order of the commits; tombstones and claims are left out."""
    with stream(gallery) as one, stream(gallery) as other:
        caption_object(gallery.database, named(gallery, "a.png"), "line\nbreak \N{LINE SEPARATOR} <script>")
        with gallery.database.transaction() as connection:
            object_rows.tombstone(connection, named(gallery, "gone.png"))
        caption_object(gallery.database, named(gallery, "b.png"))
        expected = [(name, status) for name in ("a.png", "b.png") for status in ("queued", "captioned")]
        events_of_one = one.take(4)
        assert [(data["object_name"], data["status"]) for _, data in events_of_one] == expected
        assert other.names(4) == expected
        assert events_of_one[1][1]["caption"] == "line\nbreak \N{LINE SEPARATOR} <script>"


def test_a_transaction_that_was_held_open_is_not_missed(gallery: GalleryRig) -> None:
    """The transaction begins first, and commits after a later change was sent and the client has gone."""
    with gallery.database.transaction() as held:
        drop(held, named(gallery, "held.png"))
        with stream(gallery) as first:
            for name in ("a.png", "b.png", "c.png"):
                with gallery.database.transaction() as connection:
                    drop(connection, named(gallery, name))
                assert first.names(1) == [(name, "queued")]
    with stream(gallery, first.last_id) as second:
        found = dict(second.names(2))
        assert "held.png" in found
        # Of the changes that were sent before, the last may come again.
        assert found.keys() <= {"held.png", "c.png"}
        second.block()
    with gallery.database.transaction() as connection:
        drop(connection, named(gallery, "d.png"))
    with stream(gallery, second.last_id) as third:
        assert third.names(1) == [("d.png", "queued")]
        with gallery.database.transaction() as connection:
            drop(connection, named(gallery, "e.png"))
        assert third.names(1) == [("e.png", "queued")]


def test_a_client_without_an_event_has_an_id(gallery: GalleryRig) -> None:
    """A browser that lost the connection before the first change misses no change either."""
    with stream(gallery) as first:
        pass
    row_id = 0
    with gallery.database.transaction() as connection:
        row_id = drop(connection, named(gallery, "a.png"))
    caption_row(gallery.database, row_id)
    with stream(gallery, first.last_id) as second:
        assert second.names(1) == [("a.png", "captioned")]


def test_too_many_missed_changes_are_a_reset(gallery: GalleryRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for an id of another server, and for a text that is no id; live events follow."""
    monkeypatch.setattr("gallery.hub.MOST_MISSED", 2)
    monkeypatch.setattr(events, "MOST_MISSED", 2)
    with stream(gallery) as first:
        pass
    for name in ("a.png", "b.png", "c.png"):
        with gallery.database.transaction() as connection:
            drop(connection, named(gallery, name))
    for last_id in (first.last_id, "9000000000:9000000000:", "x"):
        with stream(gallery, last_id) as second:
            assert second.take()[0][0] == "reset"
            with gallery.database.transaction() as connection:
                drop(connection, named(gallery, f"{last_id}.png"))
            assert second.names(1) == [(f"{last_id}.png", "queued")]


@pytest.mark.parametrize(("limit", "most"), [("MOST_WAITING", 0), ("MOST_WAITING_BYTES", -1)])
def test_a_slow_client_is_disconnected(
    gallery: GalleryRig, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    """The queue of a client is bounded; the client comes back with the last id."""
    monkeypatch.setattr(feed, limit, most)
    with stream(gallery) as first:
        with gallery.database.transaction() as connection:
            drop(connection, named(gallery, "a.png"))
        assert first.block() == {}
    monkeypatch.undo()
    with stream(gallery, first.last_id) as second:
        assert second.names(1) == [("a.png", "queued")]


def test_a_client_that_reads_nothing_is_cut_off(gallery: GalleryRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ends, too, and the bytes outside of the network's buffers are dropped."""
    monkeypatch.setattr(events, "_STALLED_S", 0.5)
    address = urlsplit(gallery.url)
    with socket.socket() as client, stream(gallery) as other:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((address.hostname, address.port))
        client.sendall(f"GET /api/events HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        assert client.recv(1)
        for number in range(40):
            caption_object(gallery.database, named(gallery, f"{number}.png"), 250_000 * "x")
            other.take(2)
        while gallery.server.resources.hub.feed.streams > 1:
            threading.Event().wait(0.01)
        # The bytes in the network's buffers still arrive, without the end of the answer.
        client.settimeout(60)
        received = b"".join(iter(lambda: client.recv(1_000_000), b""))
        assert len(received) < 40 * 250_000
        assert not received.endswith(b"0\r\n\r\n")
        assert len(gallery.server.server_state.connections) == 1


def test_no_change_is_missed_when_the_listening_connection_breaks(gallery: GalleryRig, database_url: str) -> None:
    """A row changes while no connection listens. Open streams and waits get the change; a row may come twice."""
    with (
        stream(gallery) as one,
        stream(gallery) as other,
        gallery.client() as client,
        ThreadPoolExecutor() as threads,
    ):
        for name in ("a.png", "b.png"):
            with gallery.database.transaction() as connection:
                row_id = drop(connection, named(gallery, name))
            path = f"/api/captions/{caption_id.encode(named(gallery, name), TASK)}?wait=60"
            waiting = threads.submit(client.get, path)
            while not gallery.server.resources.hub.feed.waiters and not waiting.done():
                threading.Event().wait(0.01)
            end_listening(database_url)
            caption_row(gallery.database, row_id)
            assert waiting.result(120).json()["status"] == "captioned"
            for each in (one, other):
                while each.names(1) != [(name, "captioned")]:
                    pass


def test_a_fault_of_the_hub_delays_changes(gallery: GalleryRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the program stops a change; the change is sent after the next connection."""
    hub, faults = gallery.server.resources.hub, iter([ZeroDivisionError("a fault")])
    publish = hub.feed.publish

    def publish_or_fail(*arguments: Any) -> None:
        for fault in faults:
            raise fault
        publish(*arguments)

    monkeypatch.setattr(hub.feed, "publish", publish_or_fail)
    with stream(gallery) as one:
        caption_object(gallery.database, named(gallery, "a.png"))
        while one.names(1) != [("a.png", "captioned")]:
            pass
        caption_object(gallery.database, named(gallery, "b.png"))
        while one.names(1) != [("b.png", "captioned")]:
            pass
    assert next(faults, None) is None


def end_listening(database_url: str) -> None:
    """End the listening connection; the gallery makes the next one after a pause."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        ended = admin.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            " WHERE application_name = 'dropline-gallery-listen' AND datname = current_database()"
        )
        assert ended.fetchall() == [(True,)]

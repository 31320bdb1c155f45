"""Exports over HTTP."""

import csv
import io
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx2
import pytest

from db import exports
from dropline import Client
from dropline.client import Problem
from dropline.contract import ObjectVersion
from gallery import exports as route
from gallery import streaming
from gallery.limits import Overloaded
from tests.support.gallery_rig import GalleryRig
from tests.support.rows import caption_object, fail_object


@pytest.fixture
def rows(gallery: GalleryRig, monkeypatch: pytest.MonkeyPatch) -> GalleryRig:
    """Seven captions in parts of two, and a failed row."""
    monkeypatch.setattr(exports, "PART", 2)
    for number in range(7):
        caption_object(
            gallery.database, ObjectVersion("drops", f"{number % 2}/{number}.jpg", 1), f"\u2028 {number}"
        )
    fail_object(gallery.database, ObjectVersion("drops", "failed.jpg", 1), "not_an_image", "no image")
    return gallery


@pytest.mark.usefixtures("rows")
def test_rows_as_lines(client: httpx2.Client) -> None:
    """Each row once, as JSON and as CSV, with filters."""
    lines = client.get("/api/export").text.split("\n")
    assert [json.loads(line)["object_name"] for line in lines if line] == [f"{n % 2}/{n}.jpg" for n in range(7)]
    answer = client.get("/api/export", params={"format": "csv", "prefix": "1/"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert [row["object_name"] for row in csv.DictReader(io.StringIO(answer.text))] == [
        "1/1.jpg",
        "1/3.jpg",
        "1/5.jpg",
    ]
    failed = client.get("/api/export", params={"status": "failed"}).text
    assert json.loads(failed)["error_code"] == "not_an_image"
    assert client.get("/api/export", params={"task": "nonsense"}).json()["code"] == "invalid_task"


def test_the_client_reads_rows_while_they_arrive(rows: GalleryRig) -> None:
    """As values; a filter that the service refuses is a problem."""
    with Client(rows.url) as dropline:
        found = list(dropline.export(prefix="0/"))
        assert [str(caption) for caption in found] == [f"\u2028 {number}" for number in (0, 2, 4, 6)]
        with pytest.raises(Problem, match="task"):
            next(dropline.export(task="<NONSENSE>"))


def test_more_exports_than_are_allowed_are_refused(
    rows: GalleryRig, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that has ended gives its place back."""
    assert client.get("/api/export").status_code == 200
    monkeypatch.setattr(route, "_MOST_EXPORTS", 0)
    answer = client.get("/api/export")
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    monkeypatch.setattr(route, "_MOST_EXPORTS", 1)
    assert client.get("/api/export").status_code == 200
    assert client.get("/api/export").status_code == 200


def test_exports_of_one_sender_leave_room_for_others() -> None:
    """And a place that is given back is free."""
    running = route._Running()
    for _ in range(2):
        running.take("one")
    with pytest.raises(Overloaded, match="2 exports of one run"):
        running.take("one")
    running.take("other")
    running.take("third")
    with pytest.raises(Overloaded, match="4 exports run"):
        running.take("third")
    running.give_back("one")
    running.take("third")


def test_a_client_that_takes_nothing_is_cut_off(
    gallery: GalleryRig, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends, with the bytes that wait for it, and the place is free."""
    monkeypatch.setattr(streaming, "STALLED_S", 0.5)
    monkeypatch.setattr(route, "_MOST_EXPORTS", 1)
    monkeypatch.setattr(exports, "PART", 2)
    for number in range(40):
        caption_object(gallery.database, ObjectVersion("drops", f"{number}.jpg", 1), 250_000 * "x")
    address = urlsplit(gallery.url)
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect((address.hostname, address.port))
        stalled.sendall(f"GET /api/export HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        assert stalled.recv(1)
        end = time.monotonic() + 60
        while gallery.server.server_state.connections and time.monotonic() < end:
            threading.Event().wait(0.01)
        assert not gallery.server.server_state.connections
        stalled.settimeout(60)
        received = b"".join(iter(lambda: stalled.recv(1_000_000), b""))
        assert len(received) < 40 * 250_000
        assert not received.endswith(b"0\r\n\r\n")
    monkeypatch.setattr(streaming, "STALLED_S", 60.0)
    assert client.get("/api/export", params={"prefix": "none/"}).status_code == 200


@pytest.mark.usefixtures("rows")
def test_the_best_matches_first(gallery: GalleryRig, client: httpx2.Client) -> None:
    """In the list, on the page and in the client: the caption with more of the words, and no further part."""
    caption_object(gallery.database, ObjectVersion("drops", "best.jpg", 1), "a boat, a boat and a boat")
    caption_object(gallery.database, ObjectVersion("drops", "newest.jpg", 1), "a boat")
    assert client.get("/api/captions", params={"q": "boat"}).json()["captions"][0]["object_name"] == "newest.jpg"
    best = client.get("/api/captions", params={"q": "boat", "order": "best", "limit": "1"}).json()
    assert ([row["object_name"] for row in best["captions"]], best["next"]) == (["best.jpg"], None)
    page = client.get("/", params={"q": "boat", "order": "best"}).text
    assert page.index("best.jpg") < page.index("newest.jpg")
    with Client(gallery.url) as dropline:
        assert [each.object_name for each in dropline.search("boat", best_first=True)] == [
            "best.jpg",
            "newest.jpg",
        ]

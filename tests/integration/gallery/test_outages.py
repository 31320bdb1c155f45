"""Postgres, Redis and Cloud Storage away, each alone: the gallery answers each request, and recovers alone."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from db.session import Database
from dropline import caption_id
from local_emulators import gcs
from local_emulators.gcs import GcsServer
from local_emulators.ports import free_ports
from local_emulators.postgres import PostgresServer
from local_emulators.redis import RedisServer
from local_emulators.supervisor import Service, Supervisor
from tests.support.gallery_process import GalleryProcess, start_gallery
from tests.support.gallery_rig import settings_for
from tests.support.page_rig import Objects, page_application
from tests.support.processes import children, linux_only
from tests.support.rows import TASK, caption_object, database_of, settings_of

PNG = b"\x89PNG\r\n\x1a\n"
Send = Callable[[httpx2.Client], httpx2.Response]


@dataclass(frozen=True)
class Place:
    """A gallery with a captioned object, and servers that can be taken away."""

    gallery: GalleryProcess
    storage: GcsServer
    #: Path of the picture with a row and an object.
    picture: str
    uri: str
    #: Path of an object's caption without a row.
    upcoming: str


@pytest.fixture
def place(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    """A running gallery."""
    with Supervisor(tmp_path) as supervisor:
        http_port, https_port = free_ports(2)
        storage = gcs.start(supervisor, http_port, https_port)
        settings = settings_for(database_url, redis_url, storage)
        gallery = start_gallery(supervisor, settings)
        with gallery.client() as client:
            seen, unseen = (
                caption_id.decode(client.post("/api/captions", files={"file": ("a.png", PNG)}).json()["id"])[0]
                for _ in range(2)
            )
        with database_of(database_url) as database:
            caption_object(database, seen, "a cat")
        key, other = (caption_id.encode(version, TASK) for version in (seen, unseen))
        yield Place(
            gallery, storage, f"/pictures/{key}", f"gs://{seen.bucket}/{seen.name}", f"/api/captions/{other}"
        )
        assert "Traceback" not in (tmp_path / "gallery.log").read_text()


def api(place: Place) -> dict[str, Send]:
    """Requests of the API."""
    return {
        "list": lambda client: client.get("/api/captions"),
        "caption": lambda client: client.get(place.upcoming),
        "wait": lambda client: client.get(place.upcoming, params={"wait": 1}),
        "events": events,
        "request": lambda client: client.post("/api/captions", json={"uri": place.uri, "task": "<OD>"}),
        "file": lambda client: client.post("/api/captions", files={"file": ("a.png", PNG)}),
        "session": lambda client: client.post("/api/uploads", json={"size_bytes": 9, "name": "a.png"}),
    }


def page(place: Place) -> dict[str, Send]:
    """Requests of the page."""
    return {
        "pictures": lambda client: client.get("/"),
        "part": lambda client: client.get("/parts/feed"),
        "failures": lambda client: client.get("/failures"),
        "picture": lambda client: client.get(place.picture),
        "original": lambda client: client.get(f"{place.picture}/original"),
        "ask": lambda client: client.post(f"{place.picture}/ask", data={"task": "<OD>"}),
    }


def events(client: httpx2.Client) -> httpx2.Response:
    """The beginning of a stream, or the refusal."""
    with client.stream("GET", "/api/events") as answer:
        if answer.status_code != 200:
            answer.read()
        return answer


def check(place: Place, away: set[str], server: str = "", unsent: str = "") -> None:
    """Send all requests at once but `unsent`: requests in `away` are answered 503, all others are served."""
    requests = {name: send for name, send in (api(place) | page(place)).items() if name != unsent}
    with place.gallery.client() as client, ThreadPoolExecutor(len(requests)) as threads:
        assert client.get("/healthz").status_code == 200
        answers = dict(zip(requests, threads.map(lambda send: send(client), requests.values()), strict=True))
    away = away - {unsent}
    assert {name for name, answer in answers.items() if answer.status_code == 503} == away
    assert all(answer.status_code < 400 for name, answer in answers.items() if name not in away)
    for name in away:
        answer = answers[name]
        assert int(answer.headers["retry-after"]) >= 1
        if name in api(place):
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"].endswith("_unavailable"), answer.text
        else:
            assert answer.headers["content-type"].startswith("text/html")
            assert server in answer.text


def wait_until_served(place: Place, names: set[str]) -> None:
    """Until these requests are served again."""
    requests = api(place) | page(place)
    with place.gallery.client() as client:
        for send in map(requests.__getitem__, sorted(names)):
            while send(client).status_code >= 400:
                threading.Event().wait(0.1)


NEEDS_POSTGRES = {
    "list",
    "caption",
    "wait",
    "events",
    "request",
    "pictures",
    "part",
    "failures",
    "picture",
    "original",
    "ask",
}
NEEDS_STORAGE = {"caption", "wait", "request", "file", "session", "original", "ask"}


@contextmanager
def down(service: Service) -> Iterator[None]:
    """A server that refuses connections."""
    service.kill()
    try:
        yield
    finally:
        service.restart()


@contextmanager
def frozen(service: Service) -> Iterator[None]:
    """A server, with child processes, that takes connections and never answers."""
    pids = [service.pid, *children(service.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@linux_only
def test_postgres(place: Place, postgres_server: PostgresServer) -> None:
    """Uploads are still taken."""
    check(place, set())
    for outage in (down, frozen):
        with outage(postgres_server.service):
            check(place, NEEDS_POSTGRES, "Postgres")
        wait_until_served(place, NEEDS_POSTGRES)


@pytest.fixture
def started(database: Database, tmp_path: Path) -> Callable[[str], int]:
    """The status of the start-up probe of a gallery, by the URL of its Postgres."""

    def status_of(url: str) -> int:
        with (
            page_application(database, tmp_path, Objects(), listening=settings_of(url)) as application,
            TestClient(application, base_url="http://127.0.0.1") as client,
        ):
            assert client.get("/healthz").status_code == 200
            return client.get("/started").status_code

    return status_of


def test_it_starts_with_its_network(
    started: Callable[[str], int], database_url: str, postgres_server: PostgresServer
) -> None:
    """503 without an answer of Postgres. A database without Dropline's tables is an answer."""
    assert started(database_url) == 200
    assert started(postgres_server.url) == 200
    assert started(f"postgresql://login@127.0.0.1:{free_ports(1)[0]}/dropline") == 503


def test_it_starts_in_an_outage(started: Callable[[str], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """After some time the answer is 200 without Postgres: an outage must not keep a gallery from starting."""
    monkeypatch.setattr("gallery.app.START_WAIT_S", 0.0)
    assert started(f"postgresql://login@127.0.0.1:{free_ports(1)[0]}/dropline") == 200


@linux_only
def test_redis(place: Place, redis_server: RedisServer) -> None:
    """Everything but requests for further captions is served."""
    for outage in (down, frozen):
        with outage(redis_server.service):
            check(place, {"request", "ask"}, "Redis")
        wait_until_served(place, {"request", "ask"})


@linux_only
def test_cloud_storage(place: Place) -> None:
    """Rows are still served."""
    with frozen(place.storage.service):
        # The upload of a file to a frozen server ends after 30 seconds.
        check(place, NEEDS_STORAGE, "Cloud Storage", unsent="file")
    wait_until_served(place, NEEDS_STORAGE)
    with down(place.storage.service):
        check(place, NEEDS_STORAGE, "Cloud Storage")
    # The objects of a killed server are lost.
    gcs.create_bucket(place.storage.url, "test", place.gallery.settings.bucket)
    wait_until_served(place, {"file", "session"})

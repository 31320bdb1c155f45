"""`python -m gallery` as a process: serving, the end on SIGTERM, and no service for strangers."""

import json
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from benchmarks.gallery_load import unread_stream
from dropline import Client, caption_id
from dropline.client import Problem
from dropline.contract import ObjectVersion
from gallery.access import Scope, TokenEntry, digest_of
from local_emulators.gcs import GcsServer
from local_emulators.supervisor import Supervisor
from tests.support.gallery_process import DEADLINE_S, GalleryProcess, command_of, start_gallery
from tests.support.gallery_rig import settings_for
from tests.support.rows import TASK, caption_object, database_of, drop
from tests.support.web import ok, serving
from tests.support.worker_rig import png

STREAMS = 5
#: Answers to a form that redrives, by token.
REDRIVES: dict[str | None, tuple[int, str]] = {
    None: (303, "/login"),
    "unknown": (401, ""),
    Scope.EDIT: (303, "/failures"),
}
REFUSALS: dict[str | None, tuple[int, str]] = {None: (401, "missing_token"), "unknown": (401, "token_refused")}


def test_it_serves_and_ends_on_sigterm(
    database_url: str, redis_url: str, gcs_server: GcsServer, tmp_path: Path
) -> None:
    """With open streams, of which a client reads none, and with waits, the exit takes seconds and has status 0."""
    settings = settings_for(database_url, redis_url, gcs_server)
    version = ObjectVersion(settings.bucket, "queued.png", 1)
    with database_of(database_url) as database, Supervisor(tmp_path) as supervisor, ExitStack() as opened:
        caption_object(database, ObjectVersion(settings.bucket, "a.png", 1), "a cat")
        with database.transaction() as connection:
            drop(connection, version)
        gallery = start_gallery(supervisor, settings)
        with gallery.client() as client:
            assert client.get("/healthz").text == "ok\n"
            assert len(client.get("/api/captions").json()["captions"]) == 2
            assert "a cat" in client.get("/").text
        opened.enter_context(unread_stream(gallery.url))
        for number in range(40):
            caption_object(database, ObjectVersion(settings.bucket, f"{number}.png", 1), 250_000 * "x")
        waiting = opened.enter_context(closing(HTTPConnection(urlsplit(gallery.url).netloc, timeout=DEADLINE_S)))
        waiting.request("GET", f"/api/captions/{caption_id.encode(version, TASK)}?wait=60")
        # Each stream begins after a read of Postgres, so the wait has begun before.
        streams = [open_stream(gallery, opened) for _ in range(STREAMS)]
        gallery.service.signal(signal.SIGTERM)
        assert gallery.service.wait_for_exit(30)
        for stream in streams:
            stream.read()
        answer = waiting.getresponse()
        assert (answer.status, json.load(answer)["status"]) == (202, "queued")
        assert "ended with exit status 0." in gallery.service.describe_death()
        assert "Traceback" not in (tmp_path / "gallery.log").read_text()


def open_stream(gallery: GalleryProcess, opened: ExitStack) -> httpx2.Response:
    """An event stream after its first bytes."""
    client = opened.enter_context(gallery.client())
    answer = opened.enter_context(client.stream("GET", "/api/events"))
    assert answer.status_code == 200
    return answer


def test_it_refuses_to_serve_strangers(database_url: str, redis_url: str, gcs_server: GcsServer) -> None:
    """An address that other machines reach, without tokens and without a proxy: one line, no traceback."""
    settings = settings_for(database_url, redis_url, gcs_server, host="0.0.0.0")
    command = command_of(settings)
    ended = subprocess.run(
        command.argv,
        env=dict(command.environment),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert ended.returncode == 1
    assert "dropline gallery token" in json.loads(line)["error"]


def test_each_scope_through_the_client(
    database_url: str, redis_url: str, gcs_server: GcsServer, tmp_path: Path
) -> None:
    """On an address for other machines a token does what its scope allows; all else is a problem with a code.

    The image behind an address of this machine is fetched: a setting allows private places.
    """
    tokens = [str(TokenEntry(scope, frozenset({scope}), digest_of(scope))) for scope in Scope]
    settings = settings_for(database_url, redis_url, gcs_server, host="0.0.0.0", tokens=tokens)
    with ExitStack() as opened:
        database = opened.enter_context(database_of(database_url))
        web = opened.enter_context(serving("127.0.0.1"))
        web.answers["/cat.png"] = ok(png((1, 2, 3)))
        supervisor = opened.enter_context(Supervisor(tmp_path))
        gallery = start_gallery(supervisor, settings, DROPLINE_FETCH__ALLOW_PRIVATE="true")
        clients = {token: opened.enter_context(Client(gallery.url, token)) for token in (None, "unknown", *Scope)}
        submitted = clients[Scope.SUBMIT].submit(web.url())
        calls: dict[Scope, list[Callable[[Client], object]]] = {
            Scope.READ: [
                lambda client: client.wait(submitted, timeout=DEADLINE_S),
                lambda client: list(client.search("cat")),
                # Number 0 is no change: the events begin with the present state.
                lambda client: next(client.events("0")),
            ],
            Scope.SUBMIT: [
                lambda client: client.submit(png((4, 5, 6))),
                lambda client: client.submit(submitted.uri, task="od"),
            ],
        }
        caption_object(database, caption_id.decode(submitted.id)[0], "a cat")
        for needed, call in [(scope, call) for scope in calls for call in calls[scope]]:
            assert call(clients[needed])
            for token, client in clients.items():
                if token != needed:
                    with pytest.raises(Problem) as refused:
                        call(client)
                    assert (refused.value.status, refused.value.code) == REFUSALS.get(
                        token, (403, "scope_missing")
                    )
        for token in clients:
            with gallery.client(headers={"authorization": f"Bearer {token}"} if token else {}) as http:
                answer = http.post("/redrive", data={"code": "worker_lost"})
                place = answer.headers.get("location", "").partition("?")[0]
                assert (answer.status_code, place) == REDRIVES.get(token, (403, ""))
                foreign = http.get("/api/captions", headers={"origin": "http://evil.example"})
                assert foreign.json()["code"] == "foreign_site"
        assert clients[Scope.READ].wait(submitted.id).caption == "a cat"

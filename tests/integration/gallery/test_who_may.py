"""Rights over HTTP: requests outside of each scope, foreign Hosts and Origins, and the limits."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dropline import caption_id
from dropline.contract import FilterReason
from gallery.access import Scope, TokenEntry, digest_of
from local_emulators.gcs import GcsServer
from tests.support.gallery_rig import GalleryRig, open_gallery, settings_for
from tests.support.rows import filter_object

#: A request for each scope; unusable, so that a request that is let in changes nothing.
REQUESTS = {
    Scope.READ: [("GET", "/api/captions/x"), ("GET", "/api/captions?cursor=x")],
    Scope.SUBMIT: [("POST", "/api/captions"), ("POST", "/api/uploads")],
    Scope.EDIT: [("PATCH", "/api/captions/x"), ("POST", "/api/captions/x/revert")],
}


@pytest.fixture
def guarded(database_url: str, redis_url: str, gcs_server: GcsServer) -> Iterator[GalleryRig]:
    """A gallery with a token of each scope, named as the scope."""
    tokens = [str(TokenEntry(scope, frozenset({scope}), digest_of(scope))) for scope in Scope]
    limits = {"submissions_per_minute": 3, "max_streams": 1, "max_waits": 1}
    settings = settings_for(database_url, redis_url, gcs_server, tokens=tokens, **limits)
    with open_gallery(settings, database_url) as rig:
        yield rig


def test_a_scope_allows_its_requests_alone(guarded: GalleryRig) -> None:
    """401 without a valid token, 403 with another scope; then 429 for too many submissions."""
    for needed, requests in REQUESTS.items():
        for method, path in requests:
            for token in (None, "unknown", *Scope):
                with guarded.client(token) as client:
                    answer = client.request(method, path)
                expected = {404, 422} if token == needed else {403} if token in set(Scope) else {401}
                assert answer.status_code in expected, (method, path, token, answer.text)
                assert answer.headers["content-type"] == "application/problem+json"
    with guarded.client("submit") as client:
        answers = [client.post("/api/captions") for _ in range(3)]
    assert answers[-1].json()["code"] == "too_many_requests"
    assert int(answers[-1].headers["retry-after"]) >= 1
    with guarded.client("read") as client, client.stream("GET", "/api/events") as events:
        assert events.status_code == 200
    with guarded.client("edit") as client:
        assert client.get("/api/events").status_code == 403


def test_streams_and_waits_are_limited(guarded: GalleryRig) -> None:
    """A second stream and a second wait are answered 503, and may be repeated."""
    feed = guarded.server.resources.hub.feed
    with guarded.client("read") as reader, guarded.client("submit") as submitter:
        with reader.stream("GET", "/api/events"), reader.stream("GET", "/api/events") as second:
            assert second.status_code == 503
            second.read()
        refused = [second]
        submitted = submitter.post("/api/captions", files={"file": ("a.png", b"png")}).json()
        path = f"/api/captions/{submitted['id']}"
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(reader.get, path, params={"wait": 60})
            while not feed.waiters and not waiting.done():
                threading.Event().wait(0.01)
            refused.append(reader.get(path, params={"wait": 1}))
            assert reader.get(path).status_code == 202
            filter_object(guarded.database, caption_id.decode(submitted["id"])[0], FilterReason.EXCLUDED)
            assert waiting.result(120).json()["code"] == "object_filtered"
    assert [(each.status_code, each.json()["code"]) for each in refused] == [(503, "overloaded")] * 2
    assert all(each.headers["retry-after"] for each in refused)


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}]
)
def test_a_foreign_host_and_origin_are_refused(gallery: GalleryRig, headers: dict[str, str]) -> None:
    """Before any route: reads, submissions and events."""
    with gallery.client() as client:
        for method, path in (*REQUESTS[Scope.READ], *REQUESTS[Scope.SUBMIT], ("GET", "/api/events")):
            answer = client.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "foreign_site")

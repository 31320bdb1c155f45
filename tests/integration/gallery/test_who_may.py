"""Who may, over HTTP: each scope tried for what it must not do, foreign Hosts and Origins, and the rate."""

from collections.abc import Iterator

import pytest

from gallery.access import Scope, TokenEntry, digest_of
from local_emulators.gcs import GcsServer
from tests.support.gallery_rig import GalleryRig, open_gallery, settings_for

#: A request for each scope; unusable, so that a request that is let in changes nothing.
REQUESTS = {
    Scope.READ: [("GET", "/api/captions/x"), ("GET", "/api/captions?cursor=x")],
    Scope.SUBMIT: [("POST", "/api/captions"), ("POST", "/api/uploads")],
}


@pytest.fixture
def guarded(database_url: str, redis_url: str, gcs_server: GcsServer) -> Iterator[GalleryRig]:
    """A gallery with a token of each scope, named as the scope."""
    tokens = [str(TokenEntry(scope, frozenset({scope}), digest_of(scope))) for scope in Scope]
    settings = settings_for(database_url, redis_url, gcs_server, tokens=tokens, submissions_per_minute=3)
    with open_gallery(settings, database_url) as rig:
        yield rig


def test_a_scope_allows_its_requests_alone(guarded: GalleryRig) -> None:
    """401 without a token or with an unknown one, 403 with another scope; then 429 for too many submissions."""
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


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}]
)
def test_a_foreign_host_and_origin_are_refused(gallery: GalleryRig, headers: dict[str, str]) -> None:
    """Before any route: reads, submissions and events."""
    with gallery.client() as client:
        for method, path in (*REQUESTS[Scope.READ], *REQUESTS[Scope.SUBMIT], ("GET", "/api/events")):
            answer = client.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "foreign_site")

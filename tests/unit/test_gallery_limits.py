"""Cursors, keys, rates, and the statuses of problems."""

import json
from types import SimpleNamespace

import pytest
from fastapi import Depends, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from dropline.errors import DatabaseUnavailable, ForeignBucket, ImageRefused, ObjectMissing
from gallery.access import Access, MissingCredentials, Scope, ScopeMissing, TokenEntry, digest_of, requires
from gallery.cursor import InvalidCursor, decode_cursor, encode_cursor
from gallery.limits import Limits, RateLimit, TooManyRequests
from gallery.problems import add_problem_handlers, problem_of
from gallery.submission import read_key


@given(st.integers(1, 2**63 - 1))
def test_a_cursor_is_read_as_written(row_id: int) -> None:
    """Every id of a row."""
    assert decode_cursor(encode_cursor(row_id)) == row_id


@pytest.mark.parametrize("text", ["", "x", "AQ==", encode_cursor(7) + "A", "AgAAAAAAAAAH", "AQAAAAAAAAAA", "ÄÖ"])
def test_other_texts_are_no_cursors(text: str) -> None:
    """Wrong lengths, another version, and no row."""
    with pytest.raises(InvalidCursor):
        decode_cursor(text)


def test_an_idempotency_key_belongs_to_its_sender() -> None:
    """Two senders with one key have two objects: neither reads or replaces that of the other."""
    keys = [read_key("k", sender) for sender in ("ana", "bo", "ana")]
    assert keys[0] == keys[2] != keys[1]
    assert read_key(None, "ana") is None


def test_a_rate_is_used_up_and_comes_back() -> None:
    """Each name for itself; the error has the time to wait."""
    now = 0.0
    limit = RateLimit(60, "requests", lambda: now)
    for _ in range(60):
        limit.take("a")
    with pytest.raises(TooManyRequests) as caught:
        limit.take("a")
    assert caught.value.retry_after_s == pytest.approx(1)
    limit.take("b")
    now = 1.0
    limit.take("a")
    with pytest.raises(TooManyRequests):
        limit.take("a")


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (MissingCredentials("m"), 401, "www-authenticate"),
        (ScopeMissing("m"), 403, None),
        (ObjectMissing("m"), 404, None),
        (ImageRefused("m", code="object_too_large"), 413, None),
        (ForeignBucket("m"), 422, None),
        (TooManyRequests("m", retry_after_s=2.4), 429, "retry-after"),
        (DatabaseUnavailable("m"), 503, "retry-after"),
    ],
)
def test_an_error_is_a_problem(error: Exception, status: int, header: str | None) -> None:
    """Status, code, words and headers."""
    answer = problem_of(error)  # type: ignore[arg-type]
    document = json.loads(bytes(answer.body))
    assert (answer.status_code, document["status"], document["detail"]) == (status, status, "m")
    assert document["code"] == error.code  # type: ignore[attr-defined]
    assert header is None or answer.headers[header]


def test_each_sender_has_a_rate_of_requests_and_one_of_submissions() -> None:
    """A submission is a request too, and a refused request of another scope uses up nothing."""
    entries = [TokenEntry(name, frozenset({Scope.READ, Scope.SUBMIT}), digest_of(name)) for name in ("ana", "bo")]
    app = FastAPI()
    app.state.resources = SimpleNamespace(access=Access(entries, None, open_to_machine=False))
    app.state.limits = Limits(RateLimit(3, "requests"), RateLimit(1, "submissions"))
    for method, scope in (("GET", Scope.READ), ("POST", Scope.SUBMIT), ("PUT", Scope.EDIT)):
        app.add_api_route("/", lambda: "", methods=[method], dependencies=[Depends(requires(scope))])
    add_problem_handlers(app)
    client = TestClient(app)

    def statuses(token: str, *methods: str) -> list[int]:
        headers = {"authorization": f"Bearer {token}"}
        return [client.request(method, "/", headers=headers).status_code for method in methods]

    assert statuses("ana", "POST", "POST", "PUT", "GET", "GET") == [200, 429, 403, 200, 429]
    assert statuses("bo", "GET", "GET", "GET", "GET") == [200, 200, 200, 429]

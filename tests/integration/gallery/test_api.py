"""The JSON API over HTTP: submissions, one caption, lists, problems."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore
from typing import Any

import httpx2
import pytest

from db import object_rows
from dropline import Client, caption_id
from dropline.client import Problem
from dropline.contract import FilterReason, ObjectFacts, ObjectVersion, TaskRequest
from dropline.fetch import connections
from dropline.fetch.addresses import why_refused
from tests.support.gallery_rig import GalleryRig
from tests.support.rows import TASK, caption_object, caption_row, drop, fail_object, filter_object
from tests.support.web import ok, redirect, serving

#: A form without a stated size, with a file larger than the limit.
ENDLESS = [b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n', *20 * [bytes(100_000)]]
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'
PNG = b"\x89PNG\r\n\x1a\n"
DETECTION = TaskRequest.parse("<OD>")


def submit(
    client: httpx2.Client, content: bytes = PNG, headers: dict[str, str] | None = None, **fields: Any
) -> Any:
    """Submit a file; the document of the answer."""
    answer = client.post(
        "/api/captions", files={"file": ("a.png", content, "image/png")}, data=fields, headers=headers
    )
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/api/captions/{answer.json()['id']}"
    return answer.json()


def version_of(document: dict[str, Any]) -> ObjectVersion:
    """The object version of a submission."""
    return caption_id.decode(document["id"])[0]


def register(gallery: GalleryRig, document: dict[str, Any]) -> int:
    """Make the row of a submission, as the function does: its id."""
    version, task = caption_id.decode(document["id"])
    with gallery.database.transaction() as connection:
        return object_rows.register_object(connection, version, ObjectFacts("image/png", 8), task).row_id


def problem(answer: httpx2.Response, status: int, code: str) -> str:
    """Check a problem; its words."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert (answer.status_code, document["status"], document["code"]) == (status, status, code), answer.text
    assert document["type"] == "about:blank"
    return str(document["detail"])


def test_a_file_is_submitted_and_its_caption_awaited(gallery: GalleryRig, client: httpx2.Client) -> None:
    """The id exists before the row. A notification ends the wait, with the caption."""
    document = submit(client, task="od")
    assert (document["task"], document["status"]) == ("<OD>", "queued")
    assert document["uri"].startswith(f"gs://{gallery.settings.bucket}/submitted/")
    path = f"/api/captions/{document['id']}"
    assert client.get(path).status_code == 202
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(client.get, path, params={"wait": 60})
        row_id = register(gallery, document)
        caption_row(gallery.database, row_id, "a cat")
        answer = waiting.result(120)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["id"], found["caption"], found["status"]) == (document["id"], "a cat", "captioned")
    assert "lease_until" not in found


def one_public(address: str, *, allow_private: bool = False) -> str | None:
    """The rule of addresses, with 127.0.0.2 as a public one."""
    return None if address == "127.0.0.2" else why_refused(address, allow_private=allow_private)


def test_the_image_behind_an_address_is_uploaded(gallery: GalleryRig, client: httpx2.Client) -> None:
    """From a public place, once for a key; a private place has no connection, by a redirect neither."""

    def send(uri: str, **headers: str) -> httpx2.Response:
        return client.post("/api/captions", json={"uri": uri, "task": "od"}, headers=headers)

    patch = pytest.MonkeyPatch.context()
    with serving("127.0.0.2") as public, serving("127.0.0.1") as private, patch as patched:
        patched.setattr(connections, "why_refused", one_public)
        public.answers["/photos/cat.png"] = ok(PNG, "Content-Type: image/png")
        public.answers["/to-private"] = redirect(private.url())
        public.answers["/none"] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        key = {"idempotency-key": "one"}
        accepted = send(public.url("/photos/cat.png"), **key)
        assert (accepted.status_code, accepted.json()["task"]) == (202, "<OD>"), accepted.text
        assert send(public.url("/photos/cat.png"), **key).json() == accepted.json()
        for other in ({"uri": public.url("/none"), "task": "od"}, {"uri": public.url("/photos/cat.png")}):
            answer = client.post("/api/captions", json=other, headers=key)
            problem(answer, 422, "idempotency_key_reused")
        assert public.connections == 1
        assert send(public.url("/photos/cat.png")).json()["uri"].endswith("/cat.png")
        problem(send(public.url("/none")), 422, "fetch_failed")
        for refused in (private.url(), private.url(host="localhost"), public.url("/to-private")):
            assert "DROPLINE_FETCH__ALLOW_PRIVATE" in problem(send(refused), 422, "address_refused")
        with Client(gallery.url) as dropline:
            with pytest.raises(Problem) as refusal:
                dropline.caption(private.url())
            assert (refusal.value.status, refusal.value.code) == (422, "address_refused")
            assert private.connections == 0
            found = dropline.submit(public.url("/photos/cat.png"), task="od")
        assert (found.task, found.status) == ("<OD>", "queued")
        assert public.requests[-1].startswith("GET /photos/cat.png ")


def test_slow_addresses_do_not_delay_a_file(
    gallery: GalleryRig, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is uploaded while every thread for addresses waits for a server."""
    monkeypatch.setattr(connections, "why_refused", one_public)
    arrived, may_answer = Semaphore(0), Event()

    def answer_late(stream: socket.socket) -> None:
        arrived.release()
        may_answer.wait(120)
        stream.sendall(ok(PNG))

    most = gallery.settings.gallery.threads
    with serving("127.0.0.2") as public, ThreadPoolExecutor(most) as threads:
        public.answers["/cat.png"] = answer_late
        waiting = [threads.submit(client.post, "/api/captions", json={"uri": public.url()}) for _ in range(most)]
        try:
            assert all(arrived.acquire(timeout=60) for _ in waiting)
            submit(client)
            assert not any(each.done() for each in waiting)
        finally:
            may_answer.set()
        assert [each.result(120).status_code for each in waiting] == [202] * most


def test_a_wait_ends_without_a_caption(client: httpx2.Client) -> None:
    """202 with the status, after the time."""
    document = submit(client)
    answer = client.get(f"/api/captions/{document['id']}", params={"wait": 0.1})
    assert (answer.status_code, answer.json()) == (202, document)


def test_a_failed_row_is_an_answer(gallery: GalleryRig, client: httpx2.Client) -> None:
    """A wait ends at once, with the reason of the failure."""
    version = ObjectVersion(gallery.settings.bucket, "a.png", 5)
    fail_object(gallery.database, version, "corrupt_image", "damaged")
    answer = client.get(f"/api/captions/{caption_id.encode(version, TASK)}", params={"wait": 60})
    assert (answer.status_code, answer.json()["error_code"]) == (200, "corrupt_image")


def test_a_filtered_object_ends_the_wait(gallery: GalleryRig, client: httpx2.Client) -> None:
    """The function's rules differ from the gallery's, and exclude the object: no row will come."""
    document = submit(client)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(client.get, f"/api/captions/{document['id']}", params={"wait": 60})
        while not gallery.server.resources.hub.feed.waiters and not waiting.done():
            threading.Event().wait(0.01)
        filter_object(gallery.database, version_of(document), FilterReason.EXCLUDED)
        assert "DROPLINE_EVENTS__EXCLUDE" in problem(waiting.result(120), 422, "object_filtered")


def test_ids_without_an_object(gallery: GalleryRig, client: httpx2.Client) -> None:
    """No id, another generation, another task, and a bucket that is not ours."""
    problem(client.get("/api/captions/x"), 404, "invalid_caption_id")
    version = version_of(submit(client))
    older = ObjectVersion(version.bucket, version.name, version.generation - 1)
    for missing, task, code in (
        (older, TASK, "object_missing"),
        (ObjectVersion(version.bucket, "none.png", 1), TASK, "object_missing"),
        (version, DETECTION, "object_missing"),
    ):
        problem(client.get(f"/api/captions/{caption_id.encode(missing, task)}"), 404, code)
    foreign = ObjectVersion("foreign-bucket", "a.png", 1)
    problem(client.get(f"/api/captions/{caption_id.encode(foreign, TASK)}"), 404, "object_missing")


def test_a_key_names_the_object(client: httpx2.Client) -> None:
    """A repeated key gives the first object, or a refusal of another image; other requests make objects."""
    key = {"idempotency-key": "one"}
    first = submit(client, headers=key)
    assert submit(client, headers=key) == first
    other = client.post("/api/captions", files={"file": ("a.png", PNG + b"other", "image/png")}, headers=key)
    problem(other, 422, "idempotency_key_reused")
    assert submit(client, headers={"idempotency-key": "two"})["uri"] != first["uri"]
    assert submit(client)["uri"] != first["uri"]
    answer = client.post("/api/captions", files={"file": ("a.png", PNG)}, headers={"idempotency-key": "x" * 201})
    problem(answer, 422, "invalid_request")


def test_an_object_of_the_bucket_is_captioned_where_it_is(gallery: GalleryRig, client: httpx2.Client) -> None:
    """A further task makes a further row, by the second connection; a repetition finds the row."""
    uri = submit(client)["uri"]
    for _ in range(2):
        answer = client.post(
            "/api/captions", json={"uri": uri, "task": "open-vocabulary-detection", "text": "a cat"}
        )
        assert answer.status_code == 202, answer.text
        assert answer.json()["task"] == "<OPEN_VOCABULARY_DETECTION>a cat"
    listed = client.get("/api/captions").json()["captions"]
    assert [row["id"] for row in listed] == [answer.json()["id"]]


def test_a_large_file_goes_to_cloud_storage_directly(gallery: GalleryRig, client: httpx2.Client) -> None:
    """The session takes exactly the stated bytes, with the task; the uri then gives the id."""
    content = PNG + bytes(500_000)
    answer = client.post("/api/uploads", json={"name": "big.png", "size_bytes": len(content), "task": "<OD>"})
    assert answer.status_code == 201, answer.text
    session = answer.json()
    sent = httpx2.put(session["session"], content=content, timeout=120, verify=False)
    assert sent.status_code == 200, sent.text
    submitted = client.post("/api/captions", json={"uri": session["uri"]})
    assert (submitted.status_code, submitted.json()["task"]) == (202, "<OD>")
    assert str(version_of(submitted.json()).generation) == sent.json()["generation"]
    problem(client.post("/api/uploads", json={"size_bytes": 1_000_001}), 413, "object_too_large")


def test_a_key_names_the_object_of_a_session(client: httpx2.Client) -> None:
    """Each repetition begins a session until the object exists; then no session is needed."""

    def begin(size: int = len(PNG)) -> httpx2.Response:
        return client.post("/api/uploads", json={"size_bytes": size}, headers={"idempotency-key": "one"})

    first, second = begin(), begin()
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["uri"] == second.json()["uri"]
    assert httpx2.put(second.json()["session"], content=PNG, timeout=120, verify=False).status_code == 200
    third = begin()
    assert (third.status_code, third.json()) == (200, {"session": None, "uri": first.json()["uri"]})
    problem(begin(len(PNG) + 1), 422, "idempotency_key_reused")
    headers = {"content-type": "application/json"}
    problem(
        client.post("/api/uploads", content=iter([b"[", *20 * [bytes(10_000)]]), headers=headers),
        413,
        "request_too_large",
    )
    unusual = client.post("/api/uploads", json={"size_bytes": 1, "content_type": "image/x\r\nX-Other: 1"})
    assert unusual.status_code == 201, unusual.text


@pytest.mark.parametrize(
    ("request_options", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 422, "invalid_request"),
        ({"json": {"uri": ""}}, 422, "invalid_request"),
        ({"json": {"uri": "ftp://x/y"}}, 422, "client"),
        ({"json": {"uri": "http://169.254.169.254/latest/meta-data"}}, 422, "address_refused"),
        ({"json": {"uri": "gs://foreign-bucket/a.png"}}, 422, "foreign_bucket"),
        ({"json": {"uri": "gs://BUCKET/none.png"}}, 404, "object_missing"),
        ({"json": {"uri": "gs://BUCKET/private/a.png"}}, 404, "object_missing"),
        ({"json": {"uri": "gs://BUCKET/a.png", "task": "none"}}, 422, "invalid_task"),
        ({"json": {"uri": "gs://BUCKET/a.png", "text": "a cat"}}, 422, "invalid_task"),
        ({"json": {"uri": "gs://BUCKET/" + 70_000 * "a"}}, 413, "request_too_large"),
        ({"files": {"other": ("a.png", PNG)}}, 422, "invalid_request"),
        ({"files": {"file": ("a.png", b"")}}, 422, "empty_object"),
        ({"files": {"file": ("a.png", PNG), "second": ("b.png", PNG)}}, 400, "bad_request"),
        ({"files": {"file": ("a.png", bytes(1_000_001))}}, 413, "object_too_large"),
        ({"files": {"file": ("a.png", bytes(1_100_000))}}, 413, "request_too_large"),
        (
            {"content": ENDLESS, "headers": {"content-type": "multipart/form-data; boundary=b"}},
            413,
            "request_too_large",
        ),
        (
            {"content": FORM, "headers": {"content-type": "multipart/form-data; boundary=b; charset=undefined"}},
            422,
            "invalid_request",
        ),
    ],
)
def test_unusable_submissions(
    gallery: GalleryRig, client: httpx2.Client, request_options: dict[str, Any], status: int, code: str
) -> None:
    """Each has a code, and words with the reason."""
    if content := request_options.get("content"):
        request_options = request_options | {"content": iter(content) if isinstance(content, list) else content}
    if json := request_options.get("json"):
        request_options = {"json": json | {"uri": json["uri"].replace("BUCKET", gallery.settings.bucket)}}
    assert problem(client.post("/api/captions", **request_options), status, code)


def test_lists(gallery: GalleryRig, client: httpx2.Client) -> None:
    """Filters, words, and every row once over the parts of a list."""
    bucket = gallery.settings.bucket
    for number in range(5):
        caption_object(gallery.database, ObjectVersion(bucket, f"cats/{number}.png", 1), f"cat number {number}")
    fail_object(gallery.database, ObjectVersion(bucket, "dogs/1.png", 1), "corrupt_image", "damaged")
    with gallery.database.transaction() as connection:
        drop(connection, ObjectVersion(bucket, "dogs/2.png", 1), DETECTION)
        object_rows.tombstone(connection, ObjectVersion(bucket, "gone.png", 1))

    def names(**params: Any) -> list[str]:
        return [row["object_name"] for row in client.get("/api/captions", params=params).json()["captions"]]

    assert len(names()) == 7
    assert names(q="numb 3", status="", task="") == ["cats/3.png"]
    assert names(status="failed") == ["dogs/1.png"]
    assert names(task="od") == names(task="<OD>") == ["dogs/2.png"]
    assert names(prefix="dogs/") == names(prefix=f"gs://{bucket}/dogs/") == ["dogs/2.png", "dogs/1.png"]
    assert names(model="demo", limit=1) == ["cats/4.png"]
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        part = client.get("/api/captions", params={"limit": 3, "cursor": cursor}).json()
        found += [row["object_name"] for row in part["captions"]]
        cursor = part["next"]
    assert found == names()
    problem(client.get("/api/captions", params={"cursor": "x"}), 422, "invalid_cursor")
    problem(client.get("/api/captions", params={"status": "lost"}), 422, "invalid_request")
    problem(client.get("/api/captions", params={"limit": 0}), 422, "invalid_request")


def test_paths_and_methods_that_do_not_exist(client: httpx2.Client) -> None:
    """Problems too, with the security headers."""
    answer = client.get("/api/none")
    problem(answer, 404, "not_found")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    answer = client.delete("/api/captions")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"]


def test_a_fault_is_a_problem_too(
    gallery: GalleryRig, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the security headers, and without words of the error."""
    monkeypatch.setattr("gallery.api.search.newest", lambda *_: 1 / 0)
    answer = client.get("/api/captions")
    assert "division" not in problem(answer, 500, "internal_error")
    assert answer.headers["x-content-type-options"] == "nosniff"

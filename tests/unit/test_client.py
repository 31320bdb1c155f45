"""Both clients against prepared answers: results, errors, repetitions, large files, pages and events."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dropline import Client
from dropline.client import (
    Box,
    Caption,
    CaptionFailed,
    Change,
    ClientError,
    NoAnswerYet,
    Problem,
    Reset,
    ServiceTimeout,
    ServiceUnreachable,
    Status,
    UnexpectedAnswer,
    flows,
    uploads,
)
from tests.support.client_script import BASE, BOTH, ROW, SUBMITTED, Script, answer, plain, refusal, stream

Call = Callable[..., Any]
both = pytest.mark.parametrize("call", BOTH)
DETECTED = ROW | {"task": "<OD>", "caption": "cat", "result": {"bboxes": [[1, 2, 3, 4]], "labels": ["cat"]}}


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of the client, which take no time."""
    taken: list[float] = []

    async def pause(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr("dropline.client.plain.time.sleep", taken.append)
    monkeypatch.setattr("dropline.client.asynchronous.asyncio.sleep", pause)
    return taken


@both
def test_a_file_is_submitted_and_its_caption_awaited(call: Call, tmp_path: Path) -> None:
    """One call; the wait is answered later than once; `str` is the caption."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"jpeg")
    script = Script([answer(202, SUBMITTED), answer(202, {"status": "running"}), answer(200, DETECTED)])
    found = call(script, "caption", photo, task="od", token="secret")
    assert isinstance(found, Caption)
    assert (str(found), found.boxes, found.status) == ("cat", (Box(1, 2, 3, 4, "cat"),), Status.CAPTIONED)
    assert found.queued_at is not None
    assert found.queued_at.year == 2026
    post, wait, _ = script.requests
    assert {each.headers["authorization"] for each in script.requests} == {"Bearer secret"}
    assert b'filename="photo.jpg"\r\nContent-Type: image/jpeg\r\n\r\njpeg' in post.content
    assert b'name="task"\r\n\r\nod' in post.content
    assert (wait.url.path, wait.url.params["wait"]) == ("/api/captions/AQID", "60.0")


@both
@pytest.mark.parametrize("uri", ["gs://drops/a.jpg", "https://example.org/a.jpg"])
def test_an_address_is_sent_as_json(call: Call, uri: str) -> None:
    """An address is no path."""
    script = Script([answer(202, SUBMITTED), answer(200, ROW | {"copied_from": 3})])
    found = call(script, "caption", uri, task="<OPEN_VOCABULARY_DETECTION>", text="a cat")
    assert (str(found), found.copied_from) == ("a cat", 3)
    assert json.loads(script.requests[0].content) == {
        "uri": uri,
        "task": "<OPEN_VOCABULARY_DETECTION>",
        "text": "a cat",
    }


@both
def test_a_submission_is_repeated_with_its_key(call: Call, pauses: list[float]) -> None:
    """After a lost answer, an outage and a limit; never sooner than `Retry-After`."""
    outages: list[httpx2.Response | Exception] = [
        httpx2.ReadError("reset"),
        refusal(503, "broker_unavailable", "Redis is away", retry_after="5"),
        answer(502),
        refusal(429, "too_many_requests", "too many", retry_after="Wed, 01 Jan 2020 00:00:00 GMT"),
    ]
    script = Script([*outages, answer(202, SUBMITTED)])
    assert call(script, "submit", b"png").id == "AQID"
    keys = {each.headers["idempotency-key"] for each in script.requests}
    assert len(script.requests) == 5
    assert len(keys) == 1
    assert [seconds >= 5 for seconds in pauses] == [False, True, False, False]
    other = Script([answer(202, SUBMITTED), answer(202, SUBMITTED)])
    call(other, "submit", b"png", key="mine")
    call(other, "submit", b"png")
    assert other.requests[0].headers["idempotency-key"] == "mine"
    assert other.requests[1].headers["idempotency-key"] not in {"mine", *keys}


@both
def test_a_pause_beyond_the_timeout_ends_at_once(call: Call, pauses: list[float]) -> None:
    """`Retry-After` is longer than the caller waits."""
    script = Script([refusal(503, "database_unavailable", "Postgres is away", retry_after="3600")])
    with pytest.raises(Problem, match="Postgres is away"):
        call(script, "submit", b"png", timeout=60)
    assert pauses == []


@both
def test_a_refusal_is_not_repeated(call: Call) -> None:
    """The problem document's status, code and words."""
    script = Script([refusal(403, "scope_missing", "the token a lacks the scope submit")])
    with pytest.raises(Problem, match="lacks the scope submit") as refused:
        call(script, "caption", b"png")
    error = pickle.loads(pickle.dumps(refused.value))
    assert (error.status, error.code, str(error)) == (403, "scope_missing", str(refused.value))
    assert len(script.requests) == 1


@both
@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (
            httpx2.ConnectError("Connection refused"),
            ServiceUnreachable,
            "cannot connect to http://127.0.0.1:18406",
        ),
        (httpx2.ReadTimeout("timed out"), ServiceTimeout, "did not answer in time"),
        (httpx2.RemoteProtocolError("cut"), ServiceUnreachable, "was lost"),
    ],
)
def test_a_service_that_stays_away(call: Call, failure: Exception, kind: type[Exception], words: str) -> None:
    """Four repetitions; then an error that names the address."""
    script = Script([failure] * 5)
    with pytest.raises(kind, match=words):
        call(script, "caption", b"png")
    assert script.answers == []


@both
@pytest.mark.parametrize(
    "other",
    [
        httpx2.Response(200, html="<html>"),
        httpx2.Response(302, headers={"location": "https://accounts.google.com"}),
        answer(200, ["no object"]),
        answer(200, {"id": "AQID"}),
        answer(200, SUBMITTED | {"status": "unheard of"}),
        answer(200, SUBMITTED | {"uri": 7}),
    ],
)
def test_another_service_is_found_out(call: Call, other: httpx2.Response) -> None:
    """A login page, a redirect, JSON of another kind."""
    with pytest.raises(UnexpectedAnswer):
        call(Script([other]), "submit", b"png")


@both
def test_a_failed_row_is_an_error_with_its_reason(call: Call) -> None:
    """The code and the words of the row."""
    failed = ROW | {"status": "failed", "caption": None, "error_code": "not_an_image", "error": "it is text"}
    with pytest.raises(CaptionFailed, match="it is text") as found:
        call(Script([answer(200, failed)]), "wait", "AQID")
    assert (found.value.code, found.value.caption.status) == ("not_an_image", Status.FAILED)
    assert str(found.value.caption) == ""


@both
def test_an_answer_that_does_not_come_in_time(call: Call) -> None:
    """The error has the id, to wait again; it is a TimeoutError."""
    script = Script([answer(202, SUBMITTED | {"status": "running"})])
    with pytest.raises(TimeoutError) as late:
        call(script, "wait", "AQID", timeout=0)
    assert isinstance(late.value, NoAnswerYet)
    assert (late.value.id, late.value.status) == ("AQID", Status.RUNNING)
    assert script.requests[0].url.params["wait"] == "0.0"


@both
def test_a_large_file_goes_to_cloud_storage_in_parts(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a lost answer Cloud Storage is asked for what it has. The token stays with the service."""
    monkeypatch.setattr(flows, "LARGE_BYTES", 5)
    monkeypatch.setattr(uploads, "PART_BYTES", 4)
    session = {"session": "https://storage.test/up?upload_id=S", "uri": "gs://drops/submitted/1"}
    script = Script(
        [
            answer(201, session),
            httpx2.Response(308, headers={"range": "bytes=0-3"}),
            httpx2.ReadError("reset"),
            httpx2.Response(308, headers={"range": "bytes=0-5"}),
            httpx2.Response(200),
            answer(202, SUBMITTED),
        ]
    )
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"0123456789")
    call(script, "submit", photo, task="od", token="secret")
    begin, *parts, end = script.requests
    assert json.loads(begin.content)["size_bytes"] == 10
    assert [(part.headers["content-range"], part.content) for part in parts] == [
        ("bytes 0-3/10", b"0123"),
        ("bytes 4-7/10", b"4567"),
        ("bytes */10", b""),
        ("bytes 6-9/10", b"6789"),
    ]
    assert all("authorization" not in part.headers for part in parts)
    assert json.loads(end.content) == {"uri": "gs://drops/submitted/1", "task": "od"}
    assert begin.headers["idempotency-key"] == end.headers["idempotency-key"]


@both
def test_an_upload_that_was_ended_before(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """412: the object of the key exists. Another refusal is an error without the secret address."""
    monkeypatch.setattr(flows, "LARGE_BYTES", 5)
    session = answer(201, {"session": "https://storage.test/up?upload_id=SECRET", "uri": "gs://drops/1"})
    assert call(Script([session, httpx2.Response(412), answer(202, SUBMITTED)]), "submit", b"0123456789")
    with pytest.raises(Problem) as refused:
        call(Script([session, httpx2.Response(410)]), "submit", b"0123456789")
    assert refused.value.status == 410
    assert "SECRET" not in str(refused.value)


@both
@pytest.mark.parametrize(
    "no_progress",
    [
        [httpx2.Response(308)],
        [httpx2.Response(308, headers={"range": "bytes=0-3"})],
        [httpx2.Response(503), httpx2.Response(308, headers={"range": "bytes=0-3"})],
    ],
)
def test_an_upload_that_makes_no_progress_ends(
    call: Call, monkeypatch: pytest.MonkeyPatch, pauses: list[float], no_progress: list[Any]
) -> None:
    """After pauses; progress in between allows as many repetitions as before."""
    monkeypatch.setattr(flows, "LARGE_BYTES", 5)
    monkeypatch.setattr(uploads, "PART_BYTES", 4)
    session = answer(201, {"session": "https://storage.test/up", "uri": "gs://drops/1"})
    begin = [httpx2.Response(308), httpx2.Response(308), httpx2.Response(308, headers={"range": "bytes=0-3"})]
    script = Script([session, *begin, *no_progress * 5])
    with pytest.raises(ServiceTimeout, match="no further byte"):
        call(script, "submit", b"0123456789")
    assert script.answers == []
    assert len(pauses) == 2 + 4


@both
def test_an_upload_ends_at_the_timeout(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two parts."""
    monkeypatch.setattr(flows, "LARGE_BYTES", 5)
    monkeypatch.setattr(uploads, "PART_BYTES", 4)
    session = answer(201, {"session": "https://storage.test/up", "uri": "gs://drops/1"})
    script = Script([session, httpx2.Response(308, headers={"range": "bytes=0-3"})])
    with pytest.raises(ServiceTimeout, match="only 4 of 10 bytes"):
        call(script, "submit", b"0123456789", timeout=0)


@both
def test_an_answer_before_the_end_of_its_wait_is_followed_by_a_pause(call: Call, pauses: list[float]) -> None:
    """A service that stops answers at once; the client must not ask a thousand times a second."""
    early = answer(202, SUBMITTED)
    call(Script([early, early, answer(200, ROW)]), "wait", "AQID")
    assert pauses == [1.0, 1.0]


@both
def test_a_file_whose_name_is_no_utf_8(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a form and as an upload session."""
    photo = tmp_path / os.fsdecode(b"\xff.png")
    photo.write_bytes(b"0123456789")
    form = Script([answer(202, SUBMITTED)])
    call(form, "submit", photo)
    assert 'filename="\N{REPLACEMENT CHARACTER}.png"'.encode() in form.requests[0].content
    monkeypatch.setattr(flows, "LARGE_BYTES", 5)
    session = answer(201, {"session": "https://storage.test/up", "uri": "gs://drops/1"})
    large = Script([session, httpx2.Response(200), answer(202, SUBMITTED)])
    call(large, "submit", photo)
    assert json.loads(large.requests[0].content)["name"] == "\N{REPLACEMENT CHARACTER}.png"


@both
def test_a_search_reads_page_after_page(call: Call) -> None:
    """Conditions that are not given are not sent; the cursor of the last page is null."""
    rows = [ROW | {"generation": number} for number in (3, 2, 1)]
    script = Script(
        [answer(200, {"captions": rows[:2], "next": "c1"}), answer(200, {"captions": rows[2:], "next": None})]
    )
    found = call(script, "search", "cat", status="captioned")
    assert [each.generation for each in found] == [3, 2, 1]
    assert [dict(each.url.params) for each in script.requests] == [
        {"q": "cat", "status": "captioned"},
        {"q": "cat", "status": "captioned", "cursor": "c1"},
    ]


@both
def test_a_backfill_is_repeated_until_it_has_finished(call: Call) -> None:
    """One request a step, always the same; an outage is no end."""
    state = {"id": 7, "source": "gs://drops/", "listed": 10, "existing": 1, "queued": 8, "failed": 1}
    going, done = state | {"finished_at": None}, state | {"finished_at": "2026-11-27T09:12:24+00:00"}
    script = Script([answer(200, going), refusal(503, "database_unavailable", "away"), answer(200, done)])
    found = call(script, "backfill", "gs://drops", task="od", max=8)
    assert [(each.queued, each.is_finished) for each in found] == [(8, False), (8, True)]
    bodies = [json.loads(each.content) for each in script.requests]
    assert bodies == [{"source": "gs://drops", "task": "od", "archived": False, "max": 8}] * 3


def event(number: int, **members: Any) -> str:
    """An event `caption`."""
    return f"id: {number}\nevent: caption\ndata: {json.dumps(ROW | members)}\n\n"


@both
def test_events_go_on_after_the_last_one(call: Call, pauses: list[float]) -> None:
    """After an end, a lost connection and an outage; an id without an event counts; events of later kinds pass."""
    script = Script(
        [
            stream("retry: 2000\nid: 1\n\n" + event(2, generation=2) + ": heartbeat\n\n"),
            httpx2.ConnectError("refused"),
            refusal(503, "overloaded", "full", retry_after="9"),
            stream("event: caption\ndata: " + json.dumps(ROW | {"generation": 3}) + "\n\nid: 4\n\n"),
            stream("event: of_a_later_release\ndata: x\n\nid: 5\nevent: reset\ndata: {}\n\n"),
        ]
    )
    first, second, reset = call(script, "events", most=3)
    assert isinstance(first, Change)
    assert (first.caption.generation, first.event_id) == (2, "2")
    assert (second.caption.generation, second.event_id) == (3, "2")
    assert reset == Reset("5")
    sent = [each.headers.get("last-event-id") for each in script.requests]
    assert sent == [None, "2", "2", "2", "4"]
    assert pauses[2] >= 9


@both
def test_events_from_an_earlier_run(call: Call) -> None:
    """A given id is sent with the first request."""
    script = Script([stream(event(2))])
    call(script, "events", "1", most=1)
    assert script.requests[0].headers["last-event-id"] == "1"


@both
@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([refusal(401, "missing_token", "send a token")], Problem),
        ([httpx2.Response(200, html="<html>")], UnexpectedAnswer),
        ([stream("event: caption\ndata: no JSON\n\n")], UnexpectedAnswer),
        ([httpx2.ConnectError("refused")] * 5, ServiceUnreachable),
        ([stream(event(1)), *[httpx2.ReadError("reset")] * 12], ServiceUnreachable),
    ],
)
def test_events_end_where_another_connection_cannot_help(
    call: Call, answers: list[Any], kind: type[Exception]
) -> None:
    """A refusal ends at once; an outage after more attempts if there were events before."""
    script = Script(list(answers))
    with pytest.raises(kind):
        call(script, "events")
    assert script.answers == []


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:18406", "ftp://127.0.0.1", "http://", "http://[::1", "http://host/?q=1"]
)
def test_an_address_that_is_none(address: str) -> None:
    """Refused before the first request, with an example."""
    with pytest.raises(ClientError, match=r"such as http://127\.0\.0\.1:18406"):
        Client(address)


def test_wrong_arguments() -> None:
    """A token and a key that no header can carry, a text that no request can carry, an image of no known type."""
    with pytest.raises(ClientError, match="token"):
        Client(BASE, "a\r\nb")
    for key in ("a b", "a\r\nb", "\N{SNOWMAN}"):
        with pytest.raises(ClientError, match="idempotency key"):
            plain(Script([]), "submit", b"png", key=key)
    with pytest.raises(ClientError, match="text has a character"):
        plain(Script([]), "submit", b"png", task="od", text="\ud800")
    with pytest.raises(ClientError, match="not int"):
        plain(Script([]), "caption", 7)
    with pytest.raises(FileNotFoundError):
        plain(Script([]), "caption", "/no/such/photo.jpg")
    assert repr(Client(BASE, "secret")) == "Client('http://127.0.0.1:18406')"


def test_a_base_url_may_have_a_path() -> None:
    """Behind a proxy with a prefix; a slash at the end changes nothing."""
    script = Script([answer(202, SUBMITTED)])
    with Client("https://host/dropline/", transport=httpx2.MockTransport(script)) as client:
        client.submit("gs://drops/a.jpg")
    assert str(script.requests[0].url) == "https://host/dropline/api/captions"


def test_the_client_needs_httpx2_alone() -> None:
    """In a new interpreter `import dropline` loads no library, and the client httpx2 with its requirements."""
    script = """
import sys
import dropline
before = {name.partition(".")[0] for name in sys.modules}
assert not any(name.startswith("dropline.") for name in sys.modules)
from dropline import AsyncClient, Client
after = {name.partition(".")[0] for name in sys.modules} - before
print(*sorted(after - set(sys.stdlib_module_names)))
print(*sorted(name for name in sys.modules if name.startswith("dropline.") and name.count(".") == 1))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    libraries, modules = (set(line.split()) for line in run.stdout.splitlines())
    allowed = {
        "httpx2",
        "httpcore2",
        "anyio",
        "h11",
        "idna",
        "truststore",
        "certifi",
        "typing_extensions",
        "sniffio",
    }
    assert "httpx2" in libraries
    assert {name for name in libraries if not name.startswith("_")} <= allowed
    needed = ("caption_tag", "client", "contract", "deadline", "errors", "regions")
    assert modules == {f"dropline.{name}" for name in needed}


def test_without_httpx2_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """`from dropline import Client` on a machine without the extra."""
    script = "import sys; sys.modules['httpx2'] = None; from dropline import Client"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'dropline[client]'" in run.stderr


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    """As of any module."""
    import dropline

    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        dropline.Clint  # type: ignore[attr-defined] # noqa: B018

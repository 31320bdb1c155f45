"""Forms of the gallery: another task for a picture, failed pictures once more, and who may use the forms."""

from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from db.session import Database
from dropline import caption_id
from dropline.contract import TaskPrompt, TaskRequest
from gallery import forms
from gallery.access import Scope, TokenEntry, digest_of
from tests.support.page_rig import Objects, page_client
from tests.support.rows import G1, G2, TASK, caption_object, fail_object

_PICTURE = f"/pictures/{caption_id.encode(G1, TASK)}"


def rows(connection: Connection) -> list[tuple[str, str]]:
    """Task and status of all rows."""
    found = connection.execute(text("SELECT task, status FROM captions ORDER BY id"))
    return [(row.task, row.status) for row in found]


@pytest.mark.parametrize(
    ("form", "task"),
    [
        ({"task": "<OD>"}, TaskRequest(TaskPrompt.OD)),
        (
            {"task": "<OPEN_VOCABULARY_DETECTION>", "text": "a red car"},
            TaskRequest(TaskPrompt.OPEN_VOCABULARY_DETECTION, "a red car"),
        ),
        (
            {"task": "<REGION_TO_OCR>", "text": "<loc_1><loc_2><loc_3><loc_4>"},
            TaskRequest(TaskPrompt.REGION_TO_OCR, "<loc_1><loc_2><loc_3><loc_4>"),
        ),
    ],
)
def test_asking_makes_a_row_and_leads_to_its_page(
    database: Database, connection: Connection, tmp_path: Path, form: dict[str, str], task: TaskRequest
) -> None:
    """The row is queued and has its message before the person sees the page."""
    caption_object(database, G1)
    objects = Objects({G1: b""})
    with page_client(database, tmp_path, objects) as client:
        answer = client.post(f"{_PICTURE}/ask", data=form)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/pictures/{caption_id.encode(G1, task)}"
        assert client.get(answer.headers["location"]).status_code == 200
    assert rows(connection)[1:] == [(str(task), "queued")]
    assert len(objects.enqueued) == 1


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"task": "<OPEN_VOCABULARY_DETECTION>"}, "needs text"),
        ({"task": "<OD>", "text": "<script>"}, "takes no text"),
        ({"task": "<NO_TASK>"}, "is not a task"),
    ],
)
def test_a_refused_form_says_why_on_the_same_page(
    database: Database, connection: Connection, tmp_path: Path, form: dict[str, str], words: str
) -> None:
    """No row is made, and the words of the person are no HTML."""
    caption_object(database, G1)
    with page_client(database, tmp_path, Objects({G1: b""})) as client:
        answer = client.post(f"{_PICTURE}/ask", data=form)
        assert answer.status_code == 400
        assert words in answer.text
        assert "<script>" not in answer.text
    assert len(rows(connection)) == 1


def test_an_overwritten_picture_is_not_asked_about(
    database: Database, connection: Connection, tmp_path: Path
) -> None:
    """The answer would be that of another image."""
    caption_object(database, G1)
    with page_client(database, tmp_path, Objects({G1: b"", G2: b""})) as client:
        answer = client.post(f"{_PICTURE}/ask", data={"task": "<OD>"})
        assert answer.status_code == 400
        assert "is not the live generation" in answer.text
    assert len(rows(connection)) == 1


def test_failed_pictures_are_queued_again(
    database: Database, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by its page, or those with one error code up to a limit; the others stay."""
    monkeypatch.setattr(forms, "MAX_ROWS", 2)
    for number in range(1, 6):
        version = type(G1)("drops", "a.jpg" if number == 1 else f"{number}.jpg", 1)
        fail_object(database, version, "corrupt_image" if number == 3 else "worker_lost", "x")
    objects = Objects()
    with page_client(database, tmp_path, objects) as client:
        one = client.post("/redrive", data={"id": caption_id.encode(G1, TASK)})
        assert (one.status_code, one.headers["location"]) == (303, f"{_PICTURE}?queued=1")
        assert "1 queued again" in client.get(one.headers["location"]).text
        rest = client.post("/redrive", data={"code": "worker_lost"})
        assert rest.headers["location"] == "/failures?queued=2"
    assert [status for _, status in rows(connection)] == ["queued", "queued", "failed", "queued", "failed"]
    # One message for each form wakes the workers.
    assert len(objects.enqueued) == 2


@pytest.mark.parametrize("scope", Scope)
def test_a_form_needs_its_scope(database: Database, connection: Connection, tmp_path: Path, scope: Scope) -> None:
    """A token without the scope has neither the form nor its effect."""
    fail_object(database, G1, "worker_lost", "x")
    entry = TokenEntry("ann", frozenset({Scope.READ, scope}), digest_of("right"))
    with page_client(database, tmp_path, Objects({G1: b""}), (entry,)) as client:
        client.cookies.set("dropline_token", "right")
        assert client.post(f"{_PICTURE}/ask", data={"task": "<OD>"}).status_code == expected(scope, Scope.SUBMIT)
        assert client.post("/redrive", data={"code": "worker_lost"}).status_code == expected(scope, Scope.EDIT)
        page, start = client.get(_PICTURE).text, client.get("/").text
        assert ("/ask" in page, "data-upload" in start) == (scope is Scope.SUBMIT, scope is Scope.SUBMIT)
    assert ("queued" in dict(rows(connection)).values()) is (scope is not Scope.READ)


def expected(scope: Scope, needed: Scope) -> int:
    """The status of an answer to a token with this scope."""
    return 303 if scope is needed else 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:99"])
def test_a_page_of_another_site_posts_nothing(
    database: Database, connection: Connection, tmp_path: Path, origin: str
) -> None:
    """A browser names the site whose page sends a form."""
    fail_object(database, G1, "worker_lost", "x")
    with page_client(database, tmp_path, Objects()) as client:
        answer = client.post("/redrive", data={"code": "worker_lost"}, headers={"origin": origin})
        assert answer.status_code == 403
    assert rows(connection) == [(str(TASK), "failed")]

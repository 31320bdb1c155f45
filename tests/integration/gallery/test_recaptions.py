"""Recaptions by the API and by the page: steps, one caption, the history, the client."""

import asyncio

import httpx2
import pytest
from sqlalchemy import text

from db import attempts
from dropline import AsyncClient, Client, caption_id
from dropline.contract import ObjectVersion, TaskRequest
from operations import recaption as operation
from tests.support.gallery_rig import GalleryRig
from tests.support.recaptions import insert_captioned, start_worker, to_redo
from tests.support.rows import TASK, caption_object, fail_object, history_of, record, row_of, take


def rows_of(gallery: GalleryRig, rows: int) -> None:
    """A worker of a new model, and captions of an old one."""
    with gallery.database.transaction() as connection:
        start_worker(connection)
        insert_captioned(connection, 1, rows)


def test_a_client_recaptions_step_by_step(gallery: GalleryRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step has a window, and the next one continues; the role is the gallery's. Twice does nothing twice."""
    for name in ("_FIRST_WINDOW", "_WINDOW_OF_A_STEP"):
        monkeypatch.setattr(operation, name, 700)
    rows_of(gallery, 1300)
    with Client(gallery.url) as api:
        states = list(api.recaption(bucket="drops", prefix="000"))
        assert [(state.taken, state.next is None) for state in states] == [(700, False), (1300, True)]
        again = list(api.recaption(bucket="drops"))[-1]
        assert (again.taken, again.left) == (0, {"pending": 1300})
        (added,) = api.recaption(prefix="0000001", to_task="<OD>")
        assert added.taken == 1
    with gallery.database.transaction() as connection:
        assert len(to_redo(connection)) == 1300
        assert connection.execute(text("SELECT count(*) FROM captions WHERE task = '<OD>'")).scalar_one() == 1


def test_a_maximum_ends_the_steps(gallery: GalleryRig) -> None:
    """The plain client and the other one."""
    rows_of(gallery, 20)

    async def recaption() -> list[int]:
        async with AsyncClient(gallery.url) as api:
            return [state.taken async for state in api.recaption(max=7, model="old")]

    assert asyncio.run(recaption()) == [7]
    with gallery.database.transaction() as connection:
        assert to_redo(connection) == list(range(1, 8))


def test_what_cannot_be_recaptioned_is_a_problem(gallery: GalleryRig, client: httpx2.Client) -> None:
    """422 with what to do."""
    answer = client.post("/api/recaptions", json={"status": ["failed"], "target_model": "x"})
    assert answer.status_code == 422
    assert "redrive" in answer.json()["detail"]
    for wrong in (
        {"objects": ["drops/a"]},
        {"task": "cartoon"},
        {"force": True},
        {"cursor": "x"},
        {"max": 0},
        {"p": 1},
    ):
        assert client.post("/api/recaptions", json=wrong).status_code == 422, wrong
    assert "no worker has started" in client.post("/api/recaptions", json={}).json()["detail"]


def test_one_caption_is_redone_and_its_history_read(gallery: GalleryRig, client: httpx2.Client) -> None:
    """By its id, whatever made it; the old caption stays meanwhile. A second request changes nothing."""
    version = ObjectVersion(gallery.settings.bucket, "a.png", 1)
    row_id = caption_object(gallery.database, version, "an old cat")
    path = f"/api/captions/{caption_id.encode(version, TASK)}"
    assert client.get(f"{path}/history").json() == {"history": []}
    for _ in range(2):
        answer = client.post(f"{path}/redo")
        assert (answer.status_code, answer.json()["status"]) == (202, "captioned"), answer.text
    found = client.get(path).json()
    assert (found["caption"], found["redo"], found["redo_failed_at"]) == ("an old cat", True, None)
    with gallery.database.transaction() as connection:
        assert row_of(connection, row_id)["attempts"] == 1
        assert record(connection, take(connection, row_id), "a new cat")
    (replaced,) = client.get(f"{path}/history").json()["history"]
    assert (replaced["caption"], replaced["model"], replaced["edited_by"]) == ("an old cat", "demo", None)
    assert replaced["replaced_at"] > replaced["captioned_at"]
    assert client.get(path).json()["redo"] is False


def test_a_row_that_cannot_be_redone_is_refused(gallery: GalleryRig, client: httpx2.Client) -> None:
    """A failed row, an overwritten one, one at work, and none."""
    bucket = gallery.settings.bucket
    failed, old, busy = (ObjectVersion(bucket, name, 1) for name in ("failed.png", "old.png", "busy.png"))
    fail_object(gallery.database, failed, "bad", "words")
    caption_object(gallery.database, old)
    caption_object(gallery.database, ObjectVersion(bucket, "old.png", 2))
    row_id = caption_object(gallery.database, busy)
    with gallery.database.transaction() as connection:
        connection.execute(
            text("UPDATE captions SET lease_until = now() + interval '1 h' WHERE id = :id"), {"id": row_id}
        )
    for version, words in ((failed, "is failed"), (old, "newer generation"), (busy, "being written")):
        answer = client.post(f"/api/captions/{caption_id.encode(version, TASK)}/redo")
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
    other = caption_id.encode(failed, TaskRequest.parse("<OD>"))
    assert client.post(f"/api/captions/{other}/redo").status_code == 404
    assert client.get(f"/api/captions/{other}/history").status_code == 404


def test_the_page_redoes_a_caption_and_shows_earlier_ones(gallery: GalleryRig, client: httpx2.Client) -> None:
    """The form leads back to the page; a redo that failed is shown there, with the old caption."""
    version = ObjectVersion(gallery.settings.bucket, "a.png", 1)
    row_id = caption_object(gallery.database, version, "an old <b>cat</b>")
    path = f"/pictures/{caption_id.encode(version, TASK)}"
    sent = client.post(f"{path}/redo", headers={"sec-fetch-site": "same-origin"}, follow_redirects=False)
    assert (sent.status_code, sent.headers["location"]) == (303, f"{path}?queued=1")
    page = client.get(path).text
    assert "A new caption is on the way" in page
    assert "Caption again" not in page
    with gallery.database.transaction() as connection:
        assert attempts.fail(connection, take(connection, row_id), "bad", "the reason").held
    page = client.get(path).text
    assert "The last try for a new caption failed at" in page
    assert "the reason" in page
    assert "an old &lt;b&gt;cat" in page
    client.post(f"{path}/redo", headers={"sec-fetch-site": "same-origin"})
    with gallery.database.transaction() as connection:
        assert record(connection, take(connection, row_id), "a new cat")
        assert history_of(connection, row_id) == ["an old <b>cat</b>"]
    page = client.get(path).text
    assert "Earlier captions" in page
    assert "an old &lt;b&gt;cat" in page

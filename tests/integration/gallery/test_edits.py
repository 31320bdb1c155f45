"""Edits over HTTP: the API, its client, and server-sent events."""

import json

import httpx2
import pytest

from db import object_rows
from dropline import Client, caption_id
from dropline.caption_tag import caption_tag
from dropline.client import Problem
from dropline.contract import ObjectVersion
from tests.support.gallery_rig import GalleryRig
from tests.support.rows import TASK, caption_object, fail_object

VERSION = ObjectVersion("drops", "a.png", 1)
PATH = f"/api/captions/{caption_id.encode(VERSION, TASK)}"
ANY = {"if-match": "*"}


def test_a_caption_is_edited_and_reverted_by_who_has_read_it(gallery: GalleryRig, client: httpx2.Client) -> None:
    """The answer is the row, with the tag for the next edit. Search finds the new words, and a stream has them."""
    caption_object(gallery.database, VERSION)
    tag = client.get(PATH).headers["etag"]
    assert tag == f'"{caption_tag("a red circle")}"'
    with client.stream("GET", "/api/events") as events:
        lines = events.iter_lines()
        next(lines)
        answer = client.patch(PATH, json={"caption": " Grandma, 1962 "}, headers={"if-match": tag})
        data = next(line for line in lines if line.startswith("data: "))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["caption"], found["model"], found["edited_by"]) == ("Grandma, 1962", "person", "local")
    assert (json.loads(data[6:])["caption"], found["model_revision"]) == ("Grandma, 1962", None)
    assert client.get(PATH).json() == found
    assert [row["id"] for row in client.get("/api/captions?q=grandma").json()["captions"]] == [found["id"]]
    assert client.get("/api/captions?q=circle").json()["captions"] == []
    again = client.patch(PATH, json={"caption": "Grandma, 1962"}, headers={"if-match": tag})
    assert (again.status_code, again.json()) == (200, found)
    reverted = client.post(f"{PATH}/revert", headers={"if-match": answer.headers["etag"]}).json()
    assert (reverted["caption"], reverted["edited_by"], reverted["edited_at"]) == ("a red circle", None, None)


@pytest.mark.parametrize(
    ("headers", "caption", "status", "code"),
    [
        ({}, "x", 428, "tag_missing"),
        ({"if-match": "x"}, "x", 422, "invalid_request"),
        ({"if-match": 'W/"x"'}, "x", 422, "invalid_request"),
        ({"if-match": '"x"'}, "x", 412, "edit_conflict"),
        (ANY, " ", 422, "caption_unusable"),
        (ANY, "ä" * 4097, 422, "caption_unusable"),
        (ANY, "a\x00", 422, "caption_unusable"),
        (ANY, None, 422, "invalid_request"),
    ],
)
def test_an_unusable_edit_changes_nothing(
    gallery: GalleryRig,
    client: httpx2.Client,
    headers: dict[str, str],
    caption: str | None,
    status: int,
    code: str,
) -> None:
    """The problem has its code; the caption stays."""
    caption_object(gallery.database, VERSION)
    answer = client.patch(PATH, json={"caption": caption}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert client.get(PATH).json()["caption"] == "a red circle"


def test_rows_that_are_not_there_or_have_ended_are_refused(gallery: GalleryRig, client: httpx2.Client) -> None:
    """404 and 409."""
    assert client.patch(PATH, json={"caption": "x"}, headers=ANY).json()["code"] == "no_such_caption"
    assert client.patch("/api/captions/x", json={"caption": "x"}, headers=ANY).status_code == 404
    caption_object(gallery.database, VERSION)
    with gallery.database.transaction() as connection:
        object_rows.tombstone(connection, VERSION)
    for answer in (
        client.patch(PATH, json={"caption": "x"}, headers=ANY),
        client.post(f"{PATH}/revert", headers=ANY),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "row_ended")


def test_the_client_edits_what_it_has_read(gallery: GalleryRig) -> None:
    """The second of two people gets the problem; an id replaces any caption; a failed row has one afterwards."""
    caption_object(gallery.database, VERSION)
    fail_object(gallery.database, ObjectVersion("drops", "b.png", 1), "invalid_image", "no image")
    with Client(gallery.url) as dropline:
        (read,) = dropline.search("circle")
        edited = dropline.edit(read, "Grandma, 1962")
        assert (str(edited), edited.edited_by, edited.model) == ("Grandma, 1962", "local", "person")
        assert edited.edited_at is not None
        with pytest.raises(Problem) as refused:
            dropline.edit(read, "Grandpa")
        assert (refused.value.status, refused.value.code) == (412, "edit_conflict")
        assert read.id is not None
        assert str(dropline.edit(read.id, "Grandpa")) == "Grandpa"
        assert str(dropline.revert(dropline.wait(read.id))) == "a red circle"
        (failed,) = dropline.search(status="failed")
        assert dropline.edit(failed, "no picture").status == "captioned"

"""The rows and messages of events, with a real Postgres and a real Redis."""

import itertools
import random
from typing import Any

import psycopg
import pytest
from flask import Flask

from dropline.contract import CAPTION_TASK, MAX_PROMPT_TEXT
from tests.support.deliveries import BUCKET, GENERATION, Delivery, binary_cloud_event, md5_of, push
from tests.support.function import deliver, deliver_all
from tests.support.intake import Queue, statuses

DELETE = "OBJECT_DELETE"
ARCHIVE = "OBJECT_ARCHIVE"


def test_a_new_object_is_a_row_and_a_message(app: Flask, rows: Any, queue: Queue) -> None:
    """The row has the values of the event; the JSON message has the number of the row and no other data."""
    assert deliver(app, push(metadata={"caption-task": "od"})).status_code == 204
    (row,) = rows()
    assert (row["bucket"], row["object_name"], row["generation"]) == (BUCKET, "cat.jpg", GENERATION)
    assert (row["task"], row["status"], row["attempts"]) == ("<OD>", "queued", 0)
    assert (row["content_type"], row["size_bytes"], row["md5_hash"]) == (
        "image/jpeg",
        51200,
        md5_of(),
    )
    assert row["event_time"].isoformat().startswith("2026-11-22T13:00:00.123456")
    (message,) = queue.messages()
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == CAPTION_TASK
    assert queue.row_ids() == [row["id"]]


def test_a_list_of_tasks_is_a_row_for_each_and_one_message(app: Flask, rows: Any, queue: Queue) -> None:
    """The caption of the first task is written back; a second delivery changes nothing."""
    tasks = "ocr, <OPEN_VOCABULARY_DETECTION>a car, a cat, <OD>"
    for _ in range(2):
        assert deliver(app, push(metadata={"caption-task": tasks})).status_code == 204
    found = rows()
    assert [(row["task"], row["write_back"], row["status"]) for row in found] == [
        ("<OCR>", True, "queued"),
        ("<OPEN_VOCABULARY_DETECTION>a car, a cat", False, "queued"),
        ("<OD>", False, "queued"),
    ]
    assert {row["md5_hash"] for row in found} == {md5_of()}
    assert set(queue.row_ids()) == {found[0]["id"]}


def test_a_wrong_entry_of_a_list_is_a_failed_row_beside_the_right_ones(
    app: Flask, rows: Any, queue: Queue
) -> None:
    """The right task is queued and written back; the wrong one has the usual task and its reason."""
    assert deliver(app, push(metadata={"caption-task": "<OD>, <POEM>"})).status_code == 204
    right, wrong = rows()
    assert (right["task"], right["status"], right["write_back"]) == ("<OD>", "queued", True)
    assert (wrong["task"], wrong["status"], wrong["write_back"]) == ("<CAPTION>", "failed", False)
    assert (wrong["error_code"], "POEM" in wrong["error"]) == ("invalid_task", True)
    assert queue.row_ids() == [right["id"]]


def test_a_list_after_its_delete_and_an_overwrite(app: Flask, rows: Any, queue: Queue) -> None:
    """The tombstone stands for every task of the list; a newer generation supersedes every task."""
    two = {"caption-task": "<CAPTION>, <OD>"}
    deliver(app, push("gone.jpg", event_type=DELETE))
    deliver(app, push("gone.jpg", metadata=two))
    assert [(row["task"], row["status"]) for row in rows()] == [("*", "deleted")]
    deliver(app, push(metadata=two))
    deliver(app, push(generation=GENERATION + 1, metadata=two))
    assert [row["status"] for row in rows()[1:]] == ["superseded"] * 2 + ["queued"] * 2
    deliver(app, push(generation=GENERATION - 1, metadata=two))
    assert [row["status"] for row in rows()[5:]] == ["superseded"] * 2
    assert len(queue.row_ids()) == 2


def test_one_event_a_hundred_times_at_once(app: Flask, rows: Any, queue: Queue) -> None:
    """100 simultaneous deliveries insert one row; every message names the row, which is claimed only once."""
    assert deliver_all(app, [push()] * 100) == [204] * 100
    (row,) = rows()
    assert set(queue.row_ids()) == {row["id"]}


def test_one_event_under_ten_message_ids(app: Flask, rows: Any) -> None:
    """Deliveries of one object version share a row, whatever their message ids and envelopes."""
    deliveries = [push(message_id=str(number)) for number in range(10)] + [binary_cloud_event()]
    assert {deliver(app, delivery).status_code for delivery in deliveries} == {204}
    assert len(rows()) == 1


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])), ids=str)
def test_versions_in_any_order(app: Flask, rows: Any, database_url: str, order: tuple[int, ...]) -> None:
    """The newest generation is current, in every order of arrival."""
    for number in order:
        assert deliver(app, push(generation=number)).status_code == 204
    assert statuses(rows()) == {1: "superseded", 2: "superseded", 3: "queued"}
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT generation FROM current_captions").fetchall() == [(3,)]


def test_shuffled_versions_at_once(app: Flask, rows: Any) -> None:
    """The newest generation stays queued when versions of several objects arrive at once, twice each."""
    deliveries = [push(f"{name}.jpg", number) for name in "abcd" for number in (1, 2, 3)] * 2
    random.Random(7).shuffle(deliveries)
    assert set(deliver_all(app, deliveries)) == {204}
    for name in "abcd":
        mine = [row for row in rows() if row["object_name"] == f"{name}.jpg"]
        assert statuses(mine) == {1: "superseded", 2: "superseded", 3: "queued"}


@pytest.mark.parametrize("first", [DELETE, "OBJECT_FINALIZE"])
def test_a_late_deletion_leaves_the_newer_version_alone(app: Flask, rows: Any, first: str) -> None:
    """DELETE of g1 before or after FINALIZE of g2: g1 is deleted, g2 stays queued."""
    deliveries = [push(generation=1), push(generation=1, event_type=DELETE), push(generation=2)]
    ordered = deliveries if first == DELETE else [deliveries[0], deliveries[2], deliveries[1]]
    for delivery in ordered:
        assert deliver(app, delivery).status_code == 204
    assert statuses(rows()) == {1: "deleted", 2: "queued"}


def test_a_deletion_before_its_own_object(app: Flask, rows: Any, queue: Queue) -> None:
    """A late FINALIZE finds the tombstone, and sends no message."""
    for event_type in (DELETE, "OBJECT_FINALIZE", "OBJECT_FINALIZE"):
        assert deliver(app, push(event_type=event_type)).status_code == 204
    assert statuses(rows()) == {GENERATION: "deleted"}
    assert queue.messages() == []


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_an_overwrite_in_a_versioned_bucket(app: Flask, rows: Any, order: tuple[int, ...]) -> None:
    """In any order of ARCHIVE and FINALIZE of g1 and FINALIZE of g2, g1 is superseded, and g2 stays queued."""
    deliveries = [push(generation=1), push(generation=1, event_type=ARCHIVE), push(generation=2)]
    for number in order:
        assert deliver(app, deliveries[number]).status_code == 204
    mine = [row for row in rows() if row["task"] != "*"]
    assert statuses(mine) == {1: "superseded", 2: "queued"}
    assert deliver(app, push(generation=1, event_type=DELETE)).status_code == 204
    assert statuses(rows()) == {1: "deleted", 2: "queued"}


def test_an_archived_version_sends_no_message(app: Flask, rows: Any, queue: Queue) -> None:
    """A FINALIZE after the ARCHIVE of its version queues no row, and a DELETE is not undone by an ARCHIVE."""
    for event_type in (ARCHIVE, "OBJECT_FINALIZE", ARCHIVE):
        assert deliver(app, push(event_type=event_type)).status_code == 204
    assert {row["status"] for row in rows()} == {"superseded"}
    for event_type in (DELETE, ARCHIVE, "OBJECT_FINALIZE"):
        assert deliver(app, push(event_type=event_type)).status_code == 204
    assert {row["status"] for row in rows()} == {"deleted"}
    assert queue.messages() == []


def test_a_deletion_and_its_object_at_once(app: Flask, rows: Any) -> None:
    """A simultaneous FINALIZE and DELETE of a version always end with a deleted row."""
    names = [f"{number}.jpg" for number in range(20)]
    deliveries = [push(name, event_type=kind) for name in names for kind in ("OBJECT_FINALIZE", DELETE)]
    assert set(deliver_all(app, deliveries)) == {204}
    assert {(row["object_name"], row["status"]) for row in rows()} == {(name, "deleted") for name in names}


def test_deletions_of_what_is_left_out(app: Flask, rows: Any, counts: Any) -> None:
    """Deleted upload parts and texts leave no tombstone; a DELETE with a text type deletes an existing row."""
    assert deliver(app, push("gsutil/tmp/parallel_composite_uploads/x", event_type=DELETE)).status_code == 204
    assert deliver(app, push("note.txt", event_type=DELETE, contentType="text/plain")).status_code == 204
    assert (rows(), counts()) == ([], {})
    assert deliver(app, push()).status_code == 204
    assert deliver(app, push(event_type=DELETE, contentType="text/plain")).status_code == 204
    assert statuses(rows()) == {GENERATION: "deleted"}


def test_no_row_for_what_needs_none(app: Flask, rows: Any, queue: Queue) -> None:
    """Other events, excluded names and malformed messages are acknowledged, without a row or a message."""
    deliveries = [
        push(event_type="OBJECT_METADATA_UPDATE"),
        push(event_type="OBJECT_FUTURE"),
        binary_cloud_event("metadataUpdated"),
        push("gsutil/tmp/parallel_composite_uploads/x"),
        Delivery(b"{"),
        push(data="not base64!"),
        push(generation="minus one"),
        push(bucket=None),
    ]
    assert [deliver(app, delivery).status_code for delivery in deliveries] == [204] * len(deliveries)
    assert (rows(), queue.messages()) == ([], [])


def test_a_foreign_bucket_leaves_nothing(app: Flask, rows: Any, queue: Queue) -> None:
    """An event of a foreign bucket gets 403, without a row or a message."""
    assert deliver(app, push(bucket="somebody-elses")).status_code == 403
    assert (rows(), queue.messages()) == ([], [])


def test_payload_none(app: Flask, rows: Any, queue: Queue) -> None:
    """An event without a payload is processed from its attributes; columns without an attribute are NULL."""
    assert deliver(app, push(payload=False)).status_code == 204
    (row,) = rows()
    assert (row["status"], row["content_type"], row["size_bytes"]) == ("queued", None, None)
    assert queue.row_ids() == [row["id"]]


@pytest.mark.parametrize(
    ("delivery", "code"),
    [
        (push(size="0"), "empty_object"),
        (push(size="1000001"), "object_too_large"),
        (push(metadata={"caption-task": "<POEM>"}), "invalid_task"),
    ],
)
def test_hopeless_objects_fail_at_once(app: Flask, rows: Any, queue: Queue, delivery: Delivery, code: str) -> None:
    """Two deliveries insert one `failed` row with an error code and an error message, and send no message."""
    assert [deliver(app, delivery).status_code for _ in range(2)] == [204, 204]
    (row,) = rows()
    assert (row["status"], row["error_code"], bool(row["error"])) == ("failed", code, True)
    assert queue.messages() == []


NAMES = (
    *("é" * 512, "🐈" * 256, "\x07" * 1024, "../x", "a#b?c%2Fd", " /lead"),
    *("'; DROP TABLE captions; --", "\\N", "日本"),
)


@pytest.mark.parametrize("payload", [True, False])
def test_names_are_kept_exactly(app: Flask, rows: Any, payload: bool) -> None:
    """Any name that Cloud Storage allows is stored byte for byte, even with the longest task."""
    task = "<OPEN_VOCABULARY_DETECTION>" + "".join(random.Random(1).choices("🐕🐈🐦🐟", k=MAX_PROMPT_TEXT // 4))
    for name in NAMES:
        delivery = push(name, payload=payload, metadata={"caption-task": task})
        assert deliver(app, delivery).status_code == 204
    assert tuple(row["object_name"] for row in rows()) == NAMES
    assert {row["task"] for row in rows()} == {task if payload else "<CAPTION>"}


def test_a_crash_between_commit_and_enqueue(app: Flask, rows: Any, queue: Queue) -> None:
    """With a committed row and no message, the redelivery sends a message of the same row."""
    assert deliver(app, push()).status_code == 204
    queue.client.flushall()
    assert deliver(app, push()).status_code == 204
    assert queue.row_ids() == [row["id"] for row in rows()]


@pytest.mark.parametrize("model", [{}, {"caption-model": "person", "caption-prompt": "<CAPTION>"}])
def test_an_object_with_a_persons_caption_needs_no_worker(
    app: Flask, rows: Any, queue: Queue, model: dict[str, str]
) -> None:
    """The row has the caption by the event, and a second delivery changes nothing; a further task is queued."""
    metadata = {"caption": "Grandma", **model}
    for _ in range(2):
        assert deliver(app, push(metadata=metadata)).status_code == 204
    (row,) = rows()
    assert (row["status"], row["caption"], row["model"], row["edited_by"]) == (
        "captioned",
        "Grandma",
        "person",
        "object metadata",
    )
    assert row["edited_at"] == row["event_time"]
    assert queue.row_ids() == []
    several = push("several.jpg", metadata={**metadata, "caption-task": "caption, od"})
    assert deliver(app, several).status_code == 204
    _, first, second = rows()
    assert (first["status"], second["status"], second["edited_by"]) == ("captioned", "queued", None)
    assert queue.row_ids() == [second["id"]]

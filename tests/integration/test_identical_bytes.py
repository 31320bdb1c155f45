"""Identical bytes are captioned once: the lookup in the statements, and real workers with real services."""

import gzip
from dataclasses import replace

import pytest
from sqlalchemy import Connection, text

from db import attempts, claims, copies, object_rows
from db.claims import Claimed
from db.copies import Model, Waits
from db.session import Database
from dropline.contract import Claim, ObjectFacts, ObjectVersion, TaskPrompt, TaskRequest
from dropline.storage.encodings import Identity
from tests.support.failpoints import arm, armed, inferences, uses
from tests.support.rows import CHILD, IMAGE, LEASE_S, TASK, a_caption, end_waits, redo, row_of
from tests.support.worker_rig import Rig, png

#: The model of `a_caption`.
MODEL = Model("demo", "r1")
FACTS = ObjectFacts("image/png", 99, "bWQ1", "Y3Jj")
DETECTION = TaskRequest(TaskPrompt.OD)


def drop(connection: Connection, name: str, facts: ObjectFacts = FACTS, task: TaskRequest = TASK) -> int:
    """Insert a queued row: its id."""
    return object_rows.register_object(connection, ObjectVersion("drops", name, 1), facts, task).row_id


def claim(connection: Connection, row_id: int, model: Model | None = MODEL) -> Claimed:
    return claims.claim(connection, row_id, LEASE_S, CHILD, model)


def take(connection: Connection, row_id: int, model: Model | None = MODEL) -> Claim:
    work = claim(connection, row_id, model).work
    assert isinstance(work, Claim)
    assert work.row_id == row_id
    return work


def record(connection: Connection, work: Claim, words: str = "a red circle") -> None:
    """Record a caption: the original's, or a new one of the model."""
    original = work.original
    recorded = attempts.record_caption(
        connection,
        work,
        a_caption(words) if original is None else original.caption,
        IMAGE,
        size_bytes=99,
        write_back_lease_s=None,
        copied_from=None if original is None else original.row_id,
    )
    assert recorded.held


def caption(connection: Connection, name: str, words: str = "a red circle") -> int:
    """The id of a row that the model has captioned."""
    row_id = drop(connection, name)
    work = take(connection, row_id)
    assert work.original is None
    record(connection, work, words)
    return row_id


def test_a_claim_has_the_caption_of_identical_bytes(connection: Connection) -> None:
    """Caption, result and dimensions; a copy of a copy points to the original."""
    first = caption(connection, "a.png")
    second, third = drop(connection, "b.png"), drop(connection, "c.png")
    work = take(connection, second)
    assert work.original is not None
    assert (work.original.row_id, work.original.caption, work.original.image) == (first, a_caption(), IMAGE)
    record(connection, work)
    assert row_of(connection, second)["copied_from"] == first
    record(connection, take(connection, third))
    row = row_of(connection, third)
    assert (row["copied_from"], row["caption"], row["model"]) == (first, "a red circle", "demo")


@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, md5_hash="b3RoZXI="),
        replace(FACTS, size_bytes=98),
        replace(FACTS, crc32c="eHh4"),
        replace(FACTS, md5_hash=None),
        ObjectFacts(),
    ],
    ids=["MD5", "size", "CRC32C", "no MD5", "no facts"],
)
def test_other_bytes_have_no_original(connection: Connection, facts: ObjectFacts) -> None:
    """Each of the three values counts, and an unknown MD5 is equal to none."""
    caption(connection, "a.png")
    assert take(connection, drop(connection, "b.png", facts)).original is None


@pytest.mark.parametrize("model", [Model("demo", "r2"), Model("other", "r1"), None])
def test_another_model_has_no_original(connection: Connection, model: Model | None) -> None:
    """Nor does a worker whose setting is off."""
    caption(connection, "a.png")
    assert take(connection, drop(connection, "b.png"), model).original is None


def test_another_task_has_no_original(connection: Connection) -> None:
    """Each task of the bytes is captioned once."""
    caption(connection, "a.png")
    assert take(connection, drop(connection, "b.png", task=DETECTION)).original is None


def test_an_unknown_crc32c_is_no_difference(connection: Connection) -> None:
    """MD5 and size decide then."""
    caption(connection, "a.png")
    assert take(connection, drop(connection, "b.png", replace(FACTS, crc32c=None))).original is not None


def test_the_original_of_a_moved_object_is_found(connection: Connection) -> None:
    """A move is a copy and a deletion; the caption of the deleted row serves until it is purged or erased."""
    caption(connection, "a.png")
    object_rows.tombstone(connection, ObjectVersion("drops", "a.png", 1))
    assert take(connection, drop(connection, "b.png")).original is not None
    end_waits(connection)
    object_rows.tombstone(connection, ObjectVersion("drops", "a.png", 1), erase=True)
    assert take(connection, drop(connection, "c.png", task=TASK)).original is None


def test_a_caption_of_a_person_is_not_copied(connection: Connection) -> None:
    """The person has seen one of the pictures."""
    first = caption(connection, "a.png")
    connection.execute(
        text("UPDATE captions SET edited_by = 'ida', edited_at = now() WHERE id = :id"), {"id": first}
    )
    assert take(connection, drop(connection, "b.png")).original is None


def test_a_redo_takes_only_captions_made_since(connection: Connection) -> None:
    """By the same model, one of the identical rows is captioned anew, and the other takes the new caption.

    Both are originals, as rows from before the first lookup are.
    """
    first = caption(connection, "a.png", "old words")
    second = drop(connection, "b.png")
    record(connection, take(connection, second, model=None), "old words")
    for row_id in (first, second):
        redo(connection, row_id)
    connection.commit()
    work = take(connection, first)
    assert work.original is None
    connection.commit()
    record(connection, work, "new words")
    connection.commit()
    record(connection, take(connection, second))
    row = row_of(connection, second)
    assert (row["caption"], row["copied_from"]) == ("new words", first)


def test_a_queued_row_waits_for_one_at_work(connection: Connection) -> None:
    """Without an attempt and without a lease; the wait ends by itself, and the dead are not waited for."""
    first, second = drop(connection, "a.png"), drop(connection, "b.png")
    work = take(connection, first)
    assert work.has_rival
    waiting = claim(connection, second)
    assert (waiting.work, waiting.waits) == (None, True)
    assert waiting.others.next_in_s is not None
    assert 0 < waiting.others.next_in_s <= 30
    row = row_of(connection, second)
    assert (row["status"], row["attempts"], row["lease_until"]) == ("queued", 0, None)
    connection.execute(text("UPDATE captions SET not_before = now() WHERE id = :id"), {"id": second})
    claims.release(connection, CHILD)
    assert {take(connection, second).row_id, take(connection, first).row_id} == {first, second}


def test_a_waiting_row_takes_the_caption_when_it_is_there(connection: Connection) -> None:
    """The next claim of the row has the original."""
    first, second = drop(connection, "a.png"), drop(connection, "b.png")
    work = take(connection, first)
    claim(connection, second)
    record(connection, work)
    end_waits(connection)
    original = take(connection, second).original
    assert original is not None
    assert original.row_id == first


def test_of_two_claims_at_the_same_moment_one_gives_way(database: Database, connection: Connection) -> None:
    """Neither claim saw the other at work: under the lock, the last to look goes on."""
    with database.transaction() as inside:
        first, second = drop(inside, "a.png"), drop(inside, "b.png")
    with database.transaction() as one, database.transaction() as other:
        works = [take(one, first), take(other, second)]
    assert [work.has_rival for work in works] == [True, True]

    def settle(work: Claim) -> object:
        with database.transaction() as inside:
            return copies.settle(inside, work, MODEL, "bWQ1", 99)

    given_way = settle(works[0])
    assert isinstance(given_way, Waits)
    assert given_way.held
    assert settle(works[1]) is None
    assert (row_of(connection, first)["status"], row_of(connection, second)["status"]) == ("queued", "running")


def test_bytes_without_an_md5_get_it_before_the_model_sees_them(connection: Connection) -> None:
    """Then a row with the same bytes waits, and takes the caption."""
    unknown = ObjectFacts("image/png", 99)
    first, second = drop(connection, "a.png", unknown), drop(connection, "b.png", unknown)
    works = [take(connection, first), take(connection, second)]
    connection.commit()
    assert copies.settle(connection, works[0], MODEL, "bWQ1", 99) is None
    connection.commit()
    assert isinstance(copies.settle(connection, works[1], MODEL, "bWQ1", 99), Waits)
    record(connection, works[0])
    end_waits(connection)
    work = take(connection, second)
    assert work.original is not None
    assert (work.md5_hash, work.original.row_id) == ("bWQ1", first)


NAMES = [f"{name}.png" for name in "abcde"]
LABEL = "010203"


def facts_of(stored: bytes) -> ObjectFacts:
    """As in the event of a simple upload."""
    identity = Identity.of(stored)
    return ObjectFacts("image/png", identity.size_bytes, identity.md5_hash)


def five(rig: Rig, stored: bytes, facts: ObjectFacts, encoding: str | None = None) -> list[int]:
    """The same bytes under five names, all dropped before a message is sent: the ids of the rows."""
    versions = [rig.upload(name, stored, encoding=encoding) for name in NAMES]
    with rig.database.transaction() as connection:
        rows = [object_rows.register_object(connection, version, facts, TASK).row_id for version in versions]
    for row_id in rows:
        rig.enqueue(row_id)
    return rows


@pytest.mark.parametrize("is_known", [True, False], ids=["MD5 of the event", "hashed after the download"])
def test_the_same_picture_under_five_names_is_one_inference(rig: Rig, is_known: bool) -> None:
    """At once, by four children. With the MD5 of the event, it is one download too."""
    rig.worker(DROPLINE_WORKER__CONCURRENCY="4")
    row_ids = five(rig, png(), facts_of(png()) if is_known else ObjectFacts())
    rows = rig.wait_settled(row_ids)
    assert [(row["status"], row["caption"]) for row in rows] == [("captioned", LABEL)] * 5
    assert inferences(rig.directory) == [LABEL]
    (original,) = {row["copied_from"] for row in rows} - {None}
    assert sorted(row["id"] for row in rows if row["copied_from"] is None) == [original]
    assert all(row["metadata_written_at"] for row in rows)
    assert [(row["width"], row["height"], row["size_bytes"]) for row in rows] == [(40, 30, len(png()))] * 5
    if is_known:
        assert (uses(rig.directory, "download"), uses(rig.directory, "decode")) == (1, 1)


@pytest.mark.parametrize("is_known", [True, False], ids=["MD5 of the event", "hashed after the download"])
def test_the_same_gzip_under_five_names_is_one_inference(rig: Rig, is_known: bool) -> None:
    """MD5 and size are those of the stored bytes, as in the event; so is the recorded size."""
    stored = gzip.compress(png(), mtime=0)
    assert len(stored) != len(png())
    rig.worker(DROPLINE_WORKER__CONCURRENCY="2")
    rows = rig.wait_settled(five(rig, stored, facts_of(stored) if is_known else ObjectFacts(), "gzip"))
    assert [(row["status"], row["caption"]) for row in rows] == [("captioned", LABEL)] * 5
    assert inferences(rig.directory) == [LABEL]
    identity = Identity.of(stored)
    assert {(row["size_bytes"], row["md5_hash"]) for row in rows} == {(identity.size_bytes, identity.md5_hash)}


def test_without_the_setting_each_picture_is_captioned(rig: Rig) -> None:
    """Control: five inferences."""
    rig.worker(DROPLINE_WORKER__COPY_IDENTICAL="false")
    rows = rig.wait_settled(five(rig, png(), facts_of(png())))
    assert inferences(rig.directory) == [LABEL] * 5
    assert {row["copied_from"] for row in rows} == {None}


@pytest.mark.parametrize("stage", ["claimed", "before-commit", "committed"])
def test_identical_rows_do_not_wait_for_a_killed_child(rig: Rig, stage: str) -> None:
    """Another row goes on; at most the inference of the killed child is repeated."""
    arm(rig.directory, stage, "child")
    rig.worker(DROPLINE_WORKER__CONCURRENCY="2")
    rows = rig.wait_settled(five(rig, png(), facts_of(png())))
    assert armed(rig.directory) == []
    assert {(row["status"], row["caption"]) for row in rows} == {("captioned", LABEL)}
    assert len(inferences(rig.directory)) == (2 if stage == "before-commit" else 1)


def test_identical_files_that_are_no_images_all_fail(rig: Rig) -> None:
    """No caption is there to take: each row has its own reason, and none waits for ever."""
    rig.worker(DROPLINE_WORKER__CONCURRENCY="2")
    words = b"these are words, not pixels"
    rows = rig.wait_settled(five(rig, words, facts_of(words)))
    assert {(row["status"], row["error_code"]) for row in rows} == {("failed", "not_an_image")}

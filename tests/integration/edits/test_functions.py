"""The functions `edit_caption` and `revert_caption` in Postgres, on rows of every state."""

import hashlib
from typing import Any

import pytest
from sqlalchemy import Connection, text

from db import attempts, claims, edits, object_rows
from db.caption_filter import CaptionFilter
from db.edits import EditedRow, EditTarget
from db.listen import listening
from db.reads import CaptionRecord
from db.recaptions import Kind, Redo
from db.session import Database
from dropline.caption_tag import caption_tag
from dropline.contract import ObjectFacts, Status, TaskRequest, WriteBack, WriteOutcome
from dropline.errors import CaptionUnusable, EditConflict, NoSuchCaption, RowEnded
from dropline.selection import Accept
from operations.edit import checked_caption
from tests.support.rows import (
    CHILD,
    G1,
    G2,
    LEASE_S,
    OTHER_TASK,
    TASK,
    caption_object,
    drop,
    fail_object,
    finish_write_back,
    record,
    redo,
    row_of,
    settings_of,
    take,
)

TARGET = EditTarget(G1.bucket, G1.name)
WORDS = "Grandma, 1962"


def edit(database: Database, words: str = WORDS, target: EditTarget = TARGET, tag: str | None = None) -> EditedRow:
    """Edit as Ana."""
    with database.transaction() as connection:
        return edits.edit(connection, target, words, "Ana", tag)


def revert(database: Database, tag: str | None = None) -> EditedRow:
    """Revert as Bob."""
    with database.transaction() as connection:
        return edits.revert(connection, TARGET, "Bob", tag)


def history(connection: Connection, row_id: int) -> list[tuple[Any, ...]]:
    """Caption, model and person of the replaced captions, the oldest first."""
    found = connection.execute(
        text("SELECT caption, model, edited_by FROM caption_history WHERE caption_id = :id ORDER BY id"),
        {"id": row_id},
    )
    return [tuple(row) for row in found]


def persons(row: CaptionRecord) -> tuple[Any, ...]:
    return row.status, row.caption, row.model, row.edited_by, row.error_code, row.metadata_written_at


def test_an_edit_replaces_the_caption_and_keeps_the_models(database: Database, connection: Connection) -> None:
    """The row has text, person and time; it is due for the write-back alone, and search finds the new text."""
    row_id = caption_object(database, G1)
    edited = edit(database)
    assert (edited.is_changed, edited.is_due) == (True, True)
    assert persons(edited.row) == (Status.CAPTIONED, WORDS, "person", "Ana", None, None)
    assert edited.row.edited_at is not None
    assert history(connection, row_id) == [("a red circle", "demo", None)]
    assert connection.execute(text("SELECT caption FROM caption_search")).scalar_one() == WORDS
    work = claims.claim(connection, row_id, LEASE_S, CHILD).work
    assert isinstance(work, WriteBack)
    assert (work.caption, work.model, work.is_reverted) == (WORDS, "person", False)


def test_the_same_edit_twice_changes_nothing(database: Database, connection: Connection) -> None:
    """Neither row nor history change, also with the tag of the caption before: an answer may have been lost."""
    row_id = caption_object(database, G1)
    tag = caption_tag("a red circle")
    first = edit(database, tag=tag)
    again = edit(database, f" {WORDS}\n", tag=tag)
    assert (again.is_changed, again.is_due, again.row) == (False, True, first.row)
    assert len(history(connection, row_id)) == 1


def test_the_models_own_words_become_a_persons(database: Database) -> None:
    """A person who confirms a caption protects it."""
    caption_object(database, G1)
    assert edit(database, "a red circle").row.edited_by == "Ana"


@pytest.mark.parametrize("state", ["queued", "running", "failed"])
def test_a_row_without_a_caption_is_captioned_by_an_edit(
    database: Database, connection: Connection, state: str
) -> None:
    """The claim in flight is refused, whatever its end, and the row does not go back to the queue."""
    is_failed = state == "failed"
    row_id = fail_object(database, G1, "invalid_image", "no image") if is_failed else drop(connection, G1)
    claim = take(connection, row_id) if state == "running" else None
    edited = edit(database)
    assert persons(edited.row) == (Status.CAPTIONED, WORDS, "person", "Ana", None, None)
    assert history(connection, row_id) == []
    if claim is not None:
        assert not record(connection, claim)
        assert not attempts.fail(connection, claim, "x", "y").held
        assert not attempts.requeue(connection, claim, "x", "y", lost=True, delay_s=1).held
    before = row_of(connection, row_id)
    assert (before["caption"], before["lost_attempts"]) == (WORDS, 0)


def test_an_edit_ends_a_redo_and_its_claim(database: Database, connection: Connection) -> None:
    """The attempt of the redo cannot record; neither can a write-back of the old caption end that of the edit."""
    row_id = caption_object(database, G1)
    redo(connection, row_id)
    claim = take(connection, row_id)
    edit(database)
    assert not record(connection, claim, "a blue circle")
    assert not finish_write_back(connection, row_id, written=True)
    row = row_of(connection, row_id)
    assert (row["caption"], row["redo"], row["metadata_written_at"]) == (WORDS, False, None)


def test_a_persons_caption_is_not_overwritten_by_an_attempt_that_holds_the_row(
    database: Database, connection: Connection
) -> None:
    """The second guard: a record is refused by the person alone, also of a redo that no command begins."""
    row_id = drop(connection, G1)
    claim = take(connection, row_id)
    edit(database)
    connection.execute(text("UPDATE captions SET attempts = :n"), {"n": claim.attempt})
    assert not record(connection, claim)
    redo(connection, row_id)
    assert not record(connection, take(connection, row_id))
    assert row_of(connection, row_id)["caption"] == WORDS


def test_a_claim_from_before_an_edit_stays_refused_after_a_revert(
    database: Database, connection: Connection
) -> None:
    """The row is the model's again, and the attempt number alone refuses the late result, as of an old worker."""
    row_id = caption_object(database, G1)
    redo(connection, row_id)
    claim = take(connection, row_id)
    edit(database)
    revert(database)
    assert not record(connection, claim, "a blue circle")
    assert row_of(connection, row_id)["caption"] == "a red circle"


def test_a_redo_leaves_a_persons_caption(database: Database, connection: Connection) -> None:
    """Also by force; a caption that was reverted is the model's."""
    caption_object(database, G1)
    edit(database)
    finish_due(connection)
    work = Redo(CaptionFilter(), None, retry_failed=True)
    assert work.count(connection, 0, 100) == {Kind.EDITED: 1}
    assert work.take(connection, 0, 100, 100).row_ids == ()
    revert(database)
    finish_due(connection)
    assert work.take(connection, 0, 100, 100).row_ids == (1,)


def finish_due(connection: Connection) -> None:
    """Carry out the write-back that an edit has made due."""
    work = claims.claim(connection, 1, LEASE_S, CHILD).work
    assert isinstance(work, WriteBack)
    assert attempts.finish_write_back(connection, work, WriteOutcome(written=True)).held


def test_a_revert_puts_the_newest_caption_of_the_model_back(database: Database, connection: Connection) -> None:
    """With model and time; the metadata follow, though they have an edited caption. Twice changes nothing."""
    row_id = caption_object(database, G1)
    before = row_of(connection, row_id)
    edit(database)
    edit(database, "Grandma in 1962")
    reverted = revert(database)
    assert (reverted.is_changed, reverted.is_due) == (True, True)
    assert persons(reverted.row) == (Status.CAPTIONED, "a red circle", "demo", None, None, None)
    assert reverted.row.captioned_at == before["captioned_at"]
    assert (reverted.row.reverted_by, reverted.row.edited_at) == ("Bob", None)
    assert history(connection, row_id)[1:] == [(WORDS, "person", "Ana"), ("Grandma in 1962", "person", "Ana")]
    work = claims.claim(connection, row_id, LEASE_S, CHILD).work
    assert isinstance(work, WriteBack)
    assert (work.caption, work.model, work.is_reverted) == ("a red circle", "demo", True)
    assert not revert(database).is_changed
    assert edit(database).row.reverted_by is None


def test_a_revert_without_a_caption_of_the_model_has_the_model_make_one(
    database: Database, connection: Connection
) -> None:
    """The person's caption stays until then, also if the model fails; then it is in the history."""
    row_id = fail_object(database, G1, "invalid_image", "no image")
    edit(database)
    assert (revert(database).is_due, revert(database).is_changed) == (True, False)
    claim = take(connection, row_id)
    assert claim.is_reverted
    assert attempts.fail(connection, claim, "invalid_image", "no image").held
    row = row_of(connection, row_id)
    assert (row["status"], row["caption"], row["edited_by"]) == ("captioned", WORDS, "Ana")
    revert(database)
    assert record(connection, take(connection, row_id), "a blue circle")
    row = row_of(connection, row_id)
    assert (row["caption"], row["model"], row["edited_by"], row["edited_at"]) == (
        "a blue circle",
        "demo",
        None,
        None,
    )


@pytest.mark.parametrize("is_written", [False, True])
def test_a_persons_caption_reaches_the_metadata_after_a_revert_that_failed(
    database: Database, connection: Connection, *, is_written: bool
) -> None:
    """The revert came before the write-back of the edit. The row keeps the model's error."""
    row_id = fail_object(database, G1, "invalid_image", "no image")
    edit(database)
    if is_written:
        finish_due(connection)
    revert(database)
    ended = attempts.fail(connection, take(connection, row_id), "invalid_image", "no image")
    assert (ended.held, ended.others.next_in_s) == (True, None if is_written else 0)
    if is_written:
        assert claims.claim(connection, row_id, LEASE_S, CHILD).work is None
        return
    finish_due(connection)
    row = row_of(connection, row_id)
    assert (row["caption"], row["lease_until"], row["error_code"]) == (WORDS, None, "invalid_image")
    assert None not in (row["metadata_written_at"], row["redo_failed_at"])


def test_an_edit_takes_back_a_pending_revert(database: Database, connection: Connection) -> None:
    """The same words again: the model does not run."""
    row_id = fail_object(database, G1, "invalid_image", "no image")
    edit(database)
    revert(database)
    assert edit(database).is_changed
    assert isinstance(claims.claim(connection, row_id, LEASE_S, CHILD).work, WriteBack)


def test_the_second_of_two_people_is_refused(database: Database) -> None:
    """Edit and revert with the tag of a caption that is no longer there; nothing changes."""
    caption_object(database, G1)
    tag = caption_tag("a red circle")
    edited = edit(database, tag=tag)
    with pytest.raises(EditConflict, match=r"gs://drops/a\.jpg has changed meanwhile"):
        edit(database, "Grandpa", tag=tag)
    with pytest.raises(EditConflict):
        revert(database, tag)
    assert edit(database).row == edited.row


@pytest.mark.parametrize("words", ["", "ä", "a \N{CAT FACE}\n"])
def test_tags_are_those_of_postgres(connection: Connection, words: str) -> None:
    """Postgres and Python agree on the tag of a text."""
    assert connection.execute(text("SELECT caption_tag(:words)"), {"words": words}).scalar_one() == caption_tag(
        words
    )
    assert caption_tag(words) == hashlib.sha256(words.encode()).hexdigest()[:32]


def test_the_newest_generation_and_the_own_task_are_edited(database: Database, connection: Connection) -> None:
    """Another generation and another task are named; a further task has no write-back."""
    with database.transaction() as several:
        object_rows.register_object(several, G2, ObjectFacts(), OTHER_TASK, own_task=False)
        own = object_rows.register_object(several, G2, ObjectFacts(), TASK).row_id
    assert edit(database).row.id == own
    further = edit(database, target=EditTarget(G1.bucket, G1.name, 2, str(OTHER_TASK)))
    assert (further.row.task, further.is_due, further.row.lease_until) == (str(OTHER_TASK), False, None)


def test_rows_that_have_ended_and_missing_rows_are_refused(database: Database, connection: Connection) -> None:
    """The errors name the object, the reason and the remedy."""
    with pytest.raises(NoSuchCaption, match=r"gs://drops/a\.jpg has no row: drop the object first"):
        edit(database)
    drop(connection, G1)
    drop(connection, G2)
    with pytest.raises(RowEnded, match=r"gs://drops/a\.jpg#1 is superseded: edit the generation that is live"):
        edit(database, target=EditTarget(G1.bucket, G1.name, 1))
    with pytest.raises(NoSuchCaption, match="of the task <OD>"):
        edit(database, target=EditTarget(G1.bucket, G1.name, None, "<OD>"))
    with database.transaction() as connection_of_event:
        object_rows.tombstone(connection_of_event, G2)
    with pytest.raises(RowEnded, match="deleted"):
        edit(database)


@pytest.mark.parametrize("words", ["", " \n\t", "x\x07", "x\x7f", "x\x85", "x" * 8193, "ä" * 4097])
def test_unusable_texts_are_refused_by_postgres_and_before(database: Database, words: str) -> None:
    """Empty, too long, or with control characters; an editor of SQL has the same limits."""
    caption_object(database, G1)
    with pytest.raises(CaptionUnusable):
        edit(database, words)
    with pytest.raises(CaptionUnusable):
        checked_caption(words)


@pytest.mark.parametrize("words", ["x" * 8192, "two\nlines\tand a tab", "\N{CAT FACE}'; DROP TABLE captions; --"])
def test_usable_texts_are_kept_whole(database: Database, words: str) -> None:
    """The longest text, line breaks, and text that looks like SQL."""
    caption_object(database, G1)
    assert edit(database, checked_caption(words)).row.caption == words


def test_listeners_hear_of_edits_and_reverts(database: Database, database_url: str) -> None:
    """Also where neither status nor write-back change: a further task, of which the metadata have nothing."""
    with database.transaction() as connection:
        object_rows.register_object(connection, G1, ObjectFacts(), TASK, own_task=False)
        claim = take(connection, 1)
        assert record(connection, claim)
    with listening(settings_of(database_url), "test") as listener:
        edit(database)
        revert(database)
        notices = listener.notices(60)
        heard = [next(notices), next(notices)]
        notices.close()
    assert [(notice.id, notice.status) for notice in heard] == [(1, Status.CAPTIONED)] * 2
    assert heard[0].changed_in < heard[1].changed_in


def test_an_object_arrives_with_a_caption_of_its_own(connection: Connection) -> None:
    """It answers the object's own task for a caption: no worker has work, also after a second delivery."""
    facts = ObjectFacts(own_caption=WORDS)
    made = object_rows.register_object(connection, G1, facts, TASK)
    assert (made.status, made.created) == (Status.CAPTIONED, True)
    row = row_of(connection, made.row_id)
    assert (row["caption"], row["model"], row["edited_by"]) == (WORDS, "person", "object metadata")
    assert row["metadata_written_at"] is not None
    assert claims.claim(connection, made.row_id, LEASE_S, CHILD).work is None
    again = object_rows.register_object(connection, G1, facts, TASK)
    assert (again.row_id, again.status, again.created) == (made.row_id, Status.CAPTIONED, False)


def test_the_first_of_several_tasks_has_the_objects_caption(connection: Connection) -> None:
    """The further ones are queued."""
    tasks = Accept((TASK, OTHER_TASK, TaskRequest.parse("<DETAILED_CAPTION>")))
    rows = object_rows.register_tasks(connection, G1, ObjectFacts(own_caption=WORDS), tasks)
    assert [row.status for row in rows] == [Status.CAPTIONED, Status.QUEUED, Status.QUEUED]


def test_a_caption_of_the_object_answers_no_other_question(connection: Connection) -> None:
    """Neither that of boxes, nor that of a further task."""
    facts = ObjectFacts(own_caption=WORDS)
    assert object_rows.register_object(connection, G1, facts, OTHER_TASK).status is Status.QUEUED
    assert object_rows.register_object(connection, G2, facts, TASK, own_task=False).status is Status.QUEUED

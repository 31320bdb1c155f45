"""Changes of rows by workers, and the guards that refuse a change, on a real Postgres."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import Connection, text

from db import attempts, claims, due_rows, object_rows
from db.attempts import Ended
from db.claims import Claimed
from db.due_rows import Due
from dropline.contract import (
    Claim,
    ObjectFacts,
    ObjectVersion,
    Status,
    TaskPrompt,
    TaskRequest,
    WriteBack,
    WriteOutcome,
)
from tests.support.rows import (
    CHILD,
    G1,
    G2,
    IMAGE,
    LEASE_S,
    OTHER_TASK,
    TASK,
    a_caption,
    drop,
    end_waits,
    finish_write_back,
    history_of,
    record,
    redo,
    row_of,
    status_of,
    take,
)

OTHER_CHILD = "test/2"
G1_OF_B, G1_OF_C = (ObjectVersion("drops", name, 1) for name in ("b.jpg", "c.jpg"))


def claim(connection: Connection, hint: int = 0, child: str = CHILD) -> Claimed:
    return claims.claim(connection, hint, LEASE_S, child)


def requeue(connection: Connection, claim: Claim, *, lost: bool = False, delay_s: float = 0.0) -> Ended:
    return attempts.requeue(connection, claim, "storage_unavailable", "429", lost=lost, delay_s=delay_s)


def seconds_to(connection: Connection, row_id: int, column: str) -> float:
    """Seconds from now to the time in a column."""
    found = text(f"SELECT EXTRACT(EPOCH FROM {column} - clock_timestamp())::float8 FROM captions WHERE id = :id")
    return float(connection.execute(found, {"id": row_id}).scalar_one())


def test_a_claim_takes_the_row_and_numbers_the_attempt(connection: Connection) -> None:
    """The row is running under a lease of the child; the claim has version, task and attempt number."""
    row_id = drop(connection, G1, OTHER_TASK)
    taken = Claim(row_id, G1, OTHER_TASK, attempt=1, lost_attempts=0, size_bytes=99)
    assert claim(connection, row_id) == Claimed(taken, Due())
    row = row_of(connection, row_id)
    assert (row["status"], row["attempts"], row["claimed_by"]) == (Status.RUNNING, 1, CHILD)
    assert row["started_at"] is not None
    assert row["lease_until"] > row["started_at"]


def test_a_row_under_lease_is_not_claimed(connection: Connection) -> None:
    """The second claim returns the remaining seconds of the lease."""
    row_id = drop(connection, G1)
    take(connection, row_id, lease_s=600)
    busy = claim(connection, row_id, OTHER_CHILD)
    assert (busy.work, busy.others.row_ids) == (None, ())
    assert busy.others.next_in_s == pytest.approx(600, abs=60)
    assert row_of(connection, row_id)["claimed_by"] == CHILD


def test_a_lease_that_ran_out_counts_a_lost_attempt(connection: Connection) -> None:
    """The next claim has a new attempt number and counts one lost attempt."""
    row_id = drop(connection, G1)
    take(connection, row_id)
    end_waits(connection)
    taken = take(connection, row_id)
    assert (taken.attempt, taken.lost_attempts, taken.retries) == (2, 1, 0)


def test_the_row_of_a_dead_child_can_be_taken_over_at_once(connection: Connection) -> None:
    """The claim need not wait for the end of the lease; the rows of the other children keep theirs."""
    ids = [drop(connection, version) for version in (G1, G1_OF_B)]
    for row_id, child in zip(ids, (CHILD, OTHER_CHILD), strict=True):
        assert isinstance(claim(connection, row_id, child).work, Claim)
    assert claims.release(connection, CHILD) == 1
    assert take(connection, ids[0]).lost_attempts == 1
    assert claim(connection, ids[1]).work is None
    assert claims.release(connection, OTHER_CHILD) == 1
    assert claims.release(connection, OTHER_CHILD) == 0


def test_a_dead_child_does_not_free_the_lease_of_another_attempt(connection: Connection) -> None:
    """`release` by the name of the child is the fence: after a duplicate message, another child has the row."""
    row_id = drop(connection, G1)
    take(connection, row_id)
    end_waits(connection)
    assert isinstance(claim(connection, row_id, OTHER_CHILD).work, Claim)
    assert claim(connection, row_id, CHILD).work is None
    assert claims.release(connection, CHILD) == 0
    assert claim(connection, row_id, CHILD).work is None
    assert row_of(connection, row_id)["claimed_by"] == OTHER_CHILD


def test_a_child_without_a_lease_has_none_to_release(connection: Connection) -> None:
    """Its finished row does not change, and neither does a row in a back-off, nor a postponed write-back."""
    finished, requeued, postponed = (drop(connection, version) for version in (G1, G1_OF_B, G1_OF_C))
    record(connection, take(connection, finished))
    requeue(connection, take(connection, requeued), delay_s=600)
    record(connection, take(connection, postponed), write_back=True)
    attempts.postpone_write_back(connection, write_back_of(postponed, G1_OF_C), 600)
    assert claims.release(connection, CHILD) == 0
    assert claim(connection, requeued).work is None
    assert status_of(connection, finished) is Status.CAPTIONED


@pytest.mark.parametrize("ending", ["record", "fail", "supersede", "mark_deleted", "tombstone"])
def test_a_finished_row_is_not_claimed(connection: Connection, ending: str) -> None:
    """A message about a finished row has no effect."""
    row_id = drop(connection, G1)
    taken = take(connection, row_id)
    endings: dict[str, Callable[[], object]] = {
        "record": lambda: record(connection, taken),
        "fail": lambda: attempts.fail(connection, taken, "code", "words"),
        "supersede": lambda: attempts.supersede(connection, taken),
        "mark_deleted": lambda: attempts.mark_deleted(connection, taken),
        "tombstone": lambda: object_rows.tombstone(connection, G1),
    }
    endings[ending]()
    end_waits(connection)
    assert claim(connection, row_id) == Claimed(None, Due())


def test_an_unknown_row_is_not_claimed(connection: Connection) -> None:
    """A message with an unknown id has no effect."""
    assert claim(connection, 12345) == Claimed(None, Due())


def test_a_caption_is_recorded_whole(connection: Connection) -> None:
    """The row has text, boxes, model and size, and no earlier error."""
    row_id = drop(connection, G1)
    requeue(connection, take(connection, row_id))
    taken = take(connection, row_id)
    boxes = {"boxes": [[0, 0, 1.5, 2]], "labels": ["\N{CAT FACE}"]}
    recorded = attempts.record_caption(
        connection, taken, a_caption("a\x00b \N{CAT FACE}", boxes), IMAGE, size_bytes=7, write_back_lease_s=None
    )
    assert recorded == attempts.Recorded(held=True, is_write_back_due=False, others=Due())
    row = row_of(connection, row_id)
    assert row["caption"] == "a\N{REPLACEMENT CHARACTER}b \N{CAT FACE}"
    assert (row["result"], row["model"], row["model_revision"]) == (boxes, "demo", "r1")
    assert (row["width"], row["height"], row["size_bytes"]) == (640, 480, 7)
    assert (row["error_code"], row["error"], row["lease_until"]) == (None, None, None)
    assert (row["not_before"], row["failing_since"], row["redo"]) == (None, None, False)
    assert row["captioned_at"] is not None


def test_a_record_tells_how_long_the_row_has_waited(connection: Connection) -> None:
    """From the time when the row was queued, with the row's priority; a refused record tells nothing."""
    row_id = drop(connection, G1)
    taken = take(connection, row_id)
    connection.execute(text("UPDATE captions SET queued_at = now() - interval '1h', priority = 2"))
    for wanted_s, priority in ((3600, 2), (0, 0)):
        recorded = attempts.record_caption(
            connection, taken, a_caption("a cat"), IMAGE, size_bytes=7, write_back_lease_s=None
        )
        assert recorded.waited_s == pytest.approx(wanted_s, abs=60)
        assert recorded.priority == priority
        taken = replace(taken, attempt=taken.attempt + 1)


def test_the_row_that_is_due_for_longest(connection: Connection) -> None:
    """Of all priorities; neither a leased row counts, nor one in a back-off, nor a captioned one."""
    assert due_rows.oldest_s(connection) == 0
    ids = [drop(connection, ObjectVersion("drops", f"{number}.jpg", 1)) for number in range(4)]
    connection.execute(text("UPDATE captions SET queued_at = now() - interval '1h'"))
    connection.execute(text("UPDATE captions SET priority = 2 WHERE id = :id"), {"id": ids[3]})
    record(connection, take(connection, ids[0]))
    requeue(connection, take(connection, ids[1]), delay_s=100)
    take(connection, ids[2])
    assert due_rows.oldest_s(connection) == pytest.approx(3600, abs=60)
    take(connection, ids[3])
    assert due_rows.oldest_s(connection) == 0


def test_plain_words_have_no_result(connection: Connection) -> None:
    """A task without boxes stores SQL's NULL, not JSON's null."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id))
    assert connection.execute(text("SELECT result IS NULL FROM captions")).scalar() is True


@pytest.mark.parametrize("act", ["record", "fail", "put_back", "supersede", "mark_deleted"])
def test_a_stale_attempt_changes_nothing(connection: Connection, act: str) -> None:
    """After a later claim, each result of the earlier attempt is refused."""
    row_id = drop(connection, G1)
    stale = take(connection, row_id)
    end_waits(connection)
    fresh = take(connection, row_id)
    before = row_of(connection, row_id)
    assert not _act(connection, act, stale)
    assert row_of(connection, row_id) == before
    assert _act(connection, act, fresh)


@pytest.mark.parametrize("act", ["record", "fail", "put_back", "supersede", "mark_deleted"])
@pytest.mark.parametrize("ending", ["tombstone", "newer"])
def test_a_result_for_a_generation_that_is_gone_changes_nothing(
    connection: Connection, act: str, ending: str
) -> None:
    """After a delete or an overwrite during an attempt, the result is refused."""
    row_id = drop(connection, G1)
    taken = take(connection, row_id)
    if ending == "tombstone":
        object_rows.tombstone(connection, G1)
    else:
        drop(connection, G2)
    before = row_of(connection, row_id)
    assert not _act(connection, act, taken)
    assert row_of(connection, row_id) == before


def _act(connection: Connection, act: str, claim: Claim) -> bool:
    acts: dict[str, Callable[[], bool]] = {
        "record": lambda: record(connection, claim),
        "fail": lambda: attempts.fail(connection, claim, "code", "words").held,
        "put_back": lambda: requeue(connection, claim).held,
        "supersede": lambda: attempts.supersede(connection, claim).held,
        "mark_deleted": lambda: attempts.mark_deleted(connection, claim).held,
    }
    return acts[act]()


def test_the_same_attempt_may_record_twice(connection: Connection) -> None:
    """The answer to a COMMIT can be lost; a repetition succeeds and keeps the caption."""
    row_id = drop(connection, G1)
    taken = take(connection, row_id)
    assert record(connection, taken)
    assert record(connection, taken)
    assert row_of(connection, row_id)["caption"] == "a red circle"


def test_a_soft_time_limit_has_a_count_of_its_own(connection: Connection) -> None:
    """The limit counts no death; the next claim has the count."""
    row_id = drop(connection, G1)
    for _ in range(2):
        attempts.requeue(
            connection, take(connection, row_id), "inference_timeout", "", lost=False, slow=True, delay_s=0
        )
    taken = take(connection, row_id)
    assert (taken.slow_attempts, taken.lost_attempts) == (2, 0)


@pytest.mark.parametrize(("lost", "retries", "lost_attempts"), [(False, 1, 0), (True, 0, 1)])
def test_a_requeued_row_can_be_claimed_after_its_back_off(
    connection: Connection, lost: bool, retries: int, lost_attempts: int
) -> None:
    """The row is queued with the error until its time; then a retry or a lost attempt is counted."""
    row_id = drop(connection, G1)
    ended = requeue(connection, take(connection, row_id), lost=lost, delay_s=300)
    assert ended == Ended(held=True, others=Due((), 300))
    row = row_of(connection, row_id)
    assert (row["status"], row["error_code"], row["error"]) == (Status.QUEUED, "storage_unavailable", "429")
    assert row["lease_until"] is None
    assert seconds_to(connection, row_id, "not_before") == pytest.approx(300, abs=60)
    waits = claim(connection, row_id)
    assert (waits.work, waits.others.row_ids) == (None, ())
    assert waits.others.next_in_s == pytest.approx(300, abs=60)
    end_waits(connection)
    taken = take(connection, row_id)
    assert (taken.retries, taken.lost_attempts) == (retries, lost_attempts)


def test_the_claim_has_the_time_since_the_first_transient_error(connection: Connection) -> None:
    """Later errors do not change the time; a caption ends it, and so does a failure."""
    row_id = drop(connection, G1)
    taken = take(connection, row_id)
    assert taken.failing_s == 0
    requeue(connection, taken)
    connection.execute(text("UPDATE captions SET failing_since = failing_since - interval '1 hour'"))
    requeue(connection, take(connection, row_id), lost=True)
    taken = take(connection, row_id)
    assert taken.failing_s == pytest.approx(3600, abs=60)
    attempts.fail(connection, taken, "code", "words")
    row = row_of(connection, row_id)
    assert (row["failing_since"], row["not_before"]) == (None, None)


def test_a_failure_has_a_reason(connection: Connection) -> None:
    """The failed row has an error code, a message, and no lease."""
    row_id = drop(connection, G1)
    assert attempts.fail(connection, take(connection, row_id), "truncated_image", "ends at byte 7").held
    row = row_of(connection, row_id)
    expected = (Status.FAILED, "truncated_image", "ends at byte 7", None)
    assert (row["status"], row["error_code"], row["error"], row["lease_until"]) == expected


def write_back_of(row_id: int, version: ObjectVersion = G1, child: str = CHILD) -> WriteBack:
    return WriteBack(row_id, version, str(TASK), "a red circle", "demo", child)


def test_a_write_back_is_taken_over_without_the_model(connection: Connection) -> None:
    """After a death between commit and PATCH, the claim returns a WriteBack and counts no attempt."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    assert claim(connection, row_id).work is None
    end_waits(connection)
    assert claim(connection, row_id, OTHER_CHILD) == Claimed(write_back_of(row_id, child=OTHER_CHILD), Due())
    row = row_of(connection, row_id)
    assert (row["attempts"], row["status"]) == (1, Status.CAPTIONED)
    assert claim(connection, row_id).work is None


def test_a_postponed_write_back_is_claimed_after_its_back_off(connection: Connection) -> None:
    """The claim has the time since the first error; the row keeps its caption, and no error."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    ended = attempts.postpone_write_back(connection, write_back_of(row_id), 300)
    assert ended == Ended(held=True, others=Due((), 300))
    assert seconds_to(connection, row_id, "lease_until") == pytest.approx(300, abs=60)
    assert claim(connection, row_id).work is None
    end_waits(connection)
    connection.execute(text("UPDATE captions SET failing_since = failing_since - interval '1 hour'"))
    found = claim(connection, row_id).work
    assert isinstance(found, WriteBack)
    assert found.failing_s == pytest.approx(3600, abs=60)
    row = row_of(connection, row_id)
    assert (row["status"], row["error_code"]) == (Status.CAPTIONED, None)


@pytest.mark.parametrize("act", ["finish", "postpone"])
def test_the_end_of_a_write_back_of_another_child_changes_nothing(connection: Connection, act: str) -> None:
    """The lease ran out, and another child has the row."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    end_waits(connection)
    assert isinstance(claim(connection, row_id, OTHER_CHILD).work, WriteBack)
    before = row_of(connection, row_id)
    stale, fresh = write_back_of(row_id), write_back_of(row_id, child=OTHER_CHILD)
    acts: dict[str, Callable[[WriteBack], Ended]] = {
        "finish": lambda each: attempts.finish_write_back(connection, each, WriteOutcome(written=True)),
        "postpone": lambda each: attempts.postpone_write_back(connection, each, 5),
    }
    ended = acts[act](stale)
    assert (ended.held, ended.others) == (False, Due())
    assert row_of(connection, row_id) == before
    assert acts[act](fresh).held


def test_a_hint_chooses_among_rows_of_one_priority(connection: Connection) -> None:
    """Without a hint of a due row, the row that has waited longest is claimed."""
    first, second, third = (drop(connection, version) for version in (G1, G1_OF_B, G1_OF_C))
    assert [_claimed(connection, hint) for hint in (third, 12345, third)] == [third, first, second]


def test_urgent_rows_are_claimed_first_whatever_the_hint(connection: Connection) -> None:
    """Priority 0 goes before 1, and 1 before 2, in the order of their times; a back-off is waited for."""
    ids = [drop(connection, ObjectVersion("drops", f"{number}.jpg", 1)) for number in range(6)]
    for row_id, priority in zip(ids, (2, 1, 0, 2, 1, 0), strict=True):
        connection.execute(text("UPDATE captions SET priority = :p WHERE id = :id"), {"p": priority, "id": row_id})
    waits = drop(connection, ObjectVersion("drops", "waits.jpg", 1))
    requeue(connection, take(connection, waits), delay_s=600)
    works = [claim(connection, ids[0]).work for _ in range(7)]
    claimed = [(work.row_id, work.priority) for work in works if isinstance(work, Claim)]
    assert claimed == [(ids[n], priority) for n, priority in ((2, 0), (5, 0), (1, 1), (4, 1), (0, 2), (3, 2))]


def _claimed(connection: Connection, hint: int) -> int | None:
    work = claim(connection, hint).work
    return None if work is None else work.row_id


def test_each_end_names_another_due_row_and_the_next_time(connection: Connection) -> None:
    """The most urgent row that is due, without the own row; the earliest time to come, of any priority."""
    own, bulk, fresh, waits = (drop(connection, ObjectVersion("drops", f"{number}.jpg", 1)) for number in range(4))
    connection.execute(text("UPDATE captions SET priority = 2 WHERE id = :id"), {"id": bulk})
    requeue(connection, take(connection, waits), delay_s=300)
    taken = claim(connection, own)
    assert isinstance(taken.work, Claim)
    assert taken.others.row_ids == (fresh,)
    ended = requeue(connection, taken.work, delay_s=100)
    assert (ended.others.row_ids, ended.others.next_in_s) == ((fresh,), 100)
    stale = requeue(connection, taken.work, delay_s=5)
    assert (stale.held, stale.others.row_ids) == (False, (fresh,))
    assert stale.others.next_in_s == pytest.approx(300, abs=60)
    for row_id, others in ((fresh, (bulk,)), (bulk, ())):
        ended = attempts.fail(connection, take(connection, row_id), "code", "words")
        assert (ended.held, ended.others.row_ids) == (True, others)
        assert ended.others.next_in_s == pytest.approx(100, abs=60)


def test_a_look_has_the_due_rows_and_the_next_time(connection: Connection) -> None:
    """At most as many rows as asked for, the most urgent first; an empty table has neither."""
    assert due_rows.look(connection, 5) == Due()
    ids = [drop(connection, ObjectVersion("drops", f"{number}.jpg", 1)) for number in range(4)]
    connection.execute(text("UPDATE captions SET priority = 1 WHERE id = :id"), {"id": ids[0]})
    assert due_rows.look(connection, 5) == Due((*ids[1:], ids[0]))
    assert due_rows.look(connection, 2) == Due(tuple(ids[1:3]))
    take(connection, ids[1])
    found = due_rows.look(connection, 5)
    assert found.row_ids == (*ids[2:], ids[0])
    assert found.next_in_s == pytest.approx(LEASE_S, abs=60)
    record(connection, Claim(ids[1], G1, TASK, 1, 0))
    assert due_rows.look(connection, 0) == Due()


def test_the_rest_of_all_rows_ends_with_the_first_that_is_due(connection: Connection) -> None:
    """No rest without unfinished rows; none, but 0, while a row is due or at work."""
    assert due_rows.rest(connection) is None
    first = drop(connection, G1)
    assert due_rows.rest(connection) == 0
    requeue(connection, take(connection, first), delay_s=900)
    second = drop(connection, G1_OF_B)
    requeue(connection, take(connection, second), delay_s=600)
    assert due_rows.rest(connection) == pytest.approx(600, abs=60)
    third = drop(connection, G1_OF_C)
    take(connection, third, lease_s=3600)
    assert due_rows.rest(connection) == 0


def test_a_captioned_row_is_captioned_again(connection: Connection) -> None:
    """The row is due, and keeps status and caption until the record of the new one."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id))
    assert claim(connection, row_id).work is None
    redo(connection, row_id)
    taken = take(connection, row_id)
    assert (taken.attempt, taken.lost_attempts, taken.retries) == (2, 0, 0)
    row = row_of(connection, row_id)
    assert (row["status"], row["caption"], row["redo"]) == (Status.CAPTIONED, "a red circle", True)
    assert claim(connection, row_id).work is None
    assert record(connection, taken, "a blue square")
    row = row_of(connection, row_id)
    assert (row["caption"], row["redo"], row["lease_until"]) == ("a blue square", False, None)
    assert claim(connection, row_id).work is None


@pytest.mark.parametrize("act", ["fail", "put_back"])
def test_a_row_that_cannot_be_captioned_again_keeps_its_caption(connection: Connection, act: str) -> None:
    """The error is in the row; after a transient one the row is due again."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id))
    redo(connection, row_id)
    taken = take(connection, row_id)
    assert _act(connection, act, taken)
    row = row_of(connection, row_id)
    assert (row["status"], row["caption"], row["lease_until"]) == (Status.CAPTIONED, "a red circle", None)
    assert row["error_code"] is not None
    assert (row["redo_failed_at"] is not None) == (act == "fail")
    assert history_of(connection, row_id) == []
    assert not _act(connection, act, Claim(row_id, G1, TASK, 1, 0))
    assert (claim(connection, row_id).work is None) == (act == "fail")
    if act == "fail":
        # An attempt ends once.
        assert not record(connection, taken, "a wolf")
        redo(connection, row_id)
        assert record(connection, take(connection, row_id), "a wolf")
        assert row_of(connection, row_id)["redo_failed_at"] is None


def test_an_event_during_a_redo_ends_no_lease(connection: Connection) -> None:
    """The event makes the row the one that is written back: the write-back follows the new caption."""
    row_id = object_rows.register_object(connection, G1, ObjectFacts(), TASK, own_task=False).row_id
    record(connection, take(connection, row_id))
    redo(connection, row_id)
    taken = take(connection, row_id)
    assert drop(connection, G1) == row_id
    assert claim(connection, row_id).work is None
    assert record(connection, taken, write_back=True)
    assert row_of(connection, row_id)["lease_until"] is not None


def test_a_finished_write_back_leaves_nothing_to_do(connection: Connection) -> None:
    """The row has the time and no lease, and a late message has no effect."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    assert finish_write_back(connection, row_id, written=True)
    row = row_of(connection, row_id)
    assert row["metadata_written_at"] is not None
    assert (row["lease_until"], row["error_code"]) == (None, None)
    assert claim(connection, row_id) == Claimed(None, Due())


def test_a_write_back_left_out_has_a_reason(connection: Connection) -> None:
    """The caption stays; error code and message have the reason why the metadata lacks the caption."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    assert finish_write_back(connection, row_id, written=False, code="metadata_full", note="8 KiB")
    row = row_of(connection, row_id)
    assert (row["status"], row["caption"]) == (Status.CAPTIONED, "a red circle")
    assert (row["metadata_written_at"], row["error_code"], row["error"]) == (None, "metadata_full", "8 KiB")


def test_a_write_back_to_a_deleted_object_changes_nothing(connection: Connection) -> None:
    """The row stays deleted."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    object_rows.tombstone(connection, G1)
    assert not finish_write_back(connection, row_id, written=True)
    assert status_of(connection, row_id) is Status.DELETED


def test_a_claim_takes_the_other_tasks_of_the_object_version(connection: Connection) -> None:
    """Those that are due, and whose attempts were not lost; not another object, and not another generation."""
    tasks = [TaskRequest(prompt) for prompt in (TaskPrompt.CAPTION, TaskPrompt.OD, TaskPrompt.OCR)]
    first, second, third = (drop(connection, G1, task) for task in tasks)
    drop(connection, ObjectVersion("drops", "b.jpg", 1))
    claimed = claim(connection, second)
    assert isinstance(claimed.work, Claim)
    assert claimed.work.row_id == second
    assert [each.row_id for each in claimed.siblings] == [first, third]
    assert {row_of(connection, row_id)["claimed_by"] for row_id in (first, second, third)} == {CHILD}
    assert claims.release(connection, CHILD) == 3


def test_a_row_whose_attempt_was_lost_is_claimed_alone(connection: Connection) -> None:
    """It takes no sibling along, and no sibling takes it."""
    lost = drop(connection, G1)
    take(connection, lost)
    claims.release(connection, CHILD)
    fresh, fresher = drop(connection, G1, OTHER_TASK), drop(connection, G1, TaskRequest(TaskPrompt.OD))
    alone, together = claim(connection, lost), claim(connection, fresh)
    assert isinstance(alone.work, Claim)
    assert (alone.work.row_id, alone.siblings) == (lost, ())
    assert [each.row_id for each in together.siblings] == [fresher]
    claims.release(connection, CHILD)
    latest = drop(connection, G1, TaskRequest(TaskPrompt.OCR))
    assert [claim(connection, row_id).siblings for row_id in (latest, lost, fresh, fresher)] == [()] * 4

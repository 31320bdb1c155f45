"""Changes of rows by workers, and the guards that refuse a change, on a real Postgres."""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text

from db import claims, object_rows
from dropline.contract import Claim, ObjectVersion, Status, WriteBack
from tests.support.rows import (
    G1,
    G2,
    IMAGE,
    LEASE_S,
    OTHER_TASK,
    TASK,
    a_caption,
    drop,
    expire_leases,
    finish_write_back,
    record,
    row_of,
    status_of,
    take,
)


def test_a_claim_takes_the_row_and_numbers_the_attempt(connection: Connection) -> None:
    """The row is running under a lease; the claim has version, task and attempt number."""
    row_id = drop(connection, G1, OTHER_TASK)
    claim = take(connection, row_id)
    assert claim == Claim(row_id, G1, OTHER_TASK, attempt=1, lost_attempts=0)
    row = row_of(connection, row_id)
    assert (row["status"], row["attempts"]) == (Status.RUNNING, 1)
    assert row["started_at"] is not None
    assert row["lease_until"] > row["started_at"]


def test_a_row_under_lease_is_busy_for_others(connection: Connection) -> None:
    """The second claim returns the remaining seconds of the lease."""
    row_id = drop(connection, G1)
    take(connection, row_id, lease_s=600)
    busy = claims.claim(connection, row_id, LEASE_S)
    assert isinstance(busy, claims.LeaseHeld)
    assert 0 < busy.remaining_s <= 600


def test_a_lease_that_ran_out_counts_a_lost_attempt(connection: Connection) -> None:
    """The next claim has a new attempt number and counts one lost attempt."""
    row_id = drop(connection, G1)
    take(connection, row_id)
    expire_leases(connection)
    claim = take(connection, row_id)
    assert (claim.attempt, claim.lost_attempts, claim.retries) == (2, 1, 0)


def test_an_expired_lease_can_be_taken_over_at_once(connection: Connection) -> None:
    """After the death of a process, the next claim need not wait for the end of the lease."""
    row_id = drop(connection, G1)
    take(connection, row_id)
    assert claims.expire_lease(connection, row_id)
    assert take(connection, row_id).lost_attempts == 1


def test_a_row_without_a_lease_has_none_to_expire(connection: Connection) -> None:
    """Queued and finished rows do not change."""
    row_id = drop(connection, G1)
    assert not claims.expire_lease(connection, row_id)
    record(connection, take(connection, row_id))
    assert not claims.expire_lease(connection, row_id)
    assert status_of(connection, row_id) is Status.CAPTIONED


@pytest.mark.parametrize("ending", ["record", "fail", "supersede", "mark_deleted", "tombstone"])
def test_a_finished_row_is_not_claimed(connection: Connection, ending: str) -> None:
    """A message about a finished row has no effect."""
    row_id = drop(connection, G1)
    claim = take(connection, row_id)
    endings: dict[str, Callable[[], object]] = {
        "record": lambda: record(connection, claim),
        "fail": lambda: claims.fail(connection, claim, "code", "words"),
        "supersede": lambda: claims.supersede(connection, claim),
        "mark_deleted": lambda: claims.mark_deleted(connection, claim),
        "tombstone": lambda: object_rows.tombstone(connection, G1),
    }
    endings[ending]()
    expire_leases(connection)
    assert claims.claim(connection, row_id, LEASE_S) is None


def test_an_unknown_row_is_not_claimed(connection: Connection) -> None:
    """A message with an unknown id has no effect."""
    assert claims.claim(connection, 12345, LEASE_S) is None


def test_a_caption_is_recorded_whole(connection: Connection) -> None:
    """The row has text, boxes, model and size, and no earlier error."""
    row_id = drop(connection, G1)
    claims.requeue(connection, take(connection, row_id), "engine_lost", "it died", lost=False)
    claim = take(connection, row_id)
    boxes = {"boxes": [[0, 0, 1.5, 2]], "labels": ["\N{CAT FACE}"]}
    assert claims.record_caption(
        connection, claim, a_caption("a\x00b \N{CAT FACE}", boxes), IMAGE, size_bytes=7, write_back_lease_s=None
    )
    row = row_of(connection, row_id)
    assert row["caption"] == "a\N{REPLACEMENT CHARACTER}b \N{CAT FACE}"
    assert (row["result"], row["model"], row["model_revision"]) == (boxes, "demo", "r1")
    assert (row["width"], row["height"], row["size_bytes"]) == (640, 480, 7)
    assert (row["error_code"], row["error"], row["lease_until"]) == (None, None, None)
    assert row["captioned_at"] is not None


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
    expire_leases(connection)
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
    claim = take(connection, row_id)
    if ending == "tombstone":
        object_rows.tombstone(connection, G1)
    else:
        drop(connection, G2)
    before = row_of(connection, row_id)
    assert not _act(connection, act, claim)
    assert row_of(connection, row_id) == before


def _act(connection: Connection, act: str, claim: Claim) -> bool:
    acts: dict[str, Callable[[], bool]] = {
        "record": lambda: record(connection, claim),
        "fail": lambda: claims.fail(connection, claim, "code", "words"),
        "put_back": lambda: claims.requeue(connection, claim, "code", "words", lost=False),
        "supersede": lambda: claims.supersede(connection, claim),
        "mark_deleted": lambda: claims.mark_deleted(connection, claim),
    }
    return acts[act]()


def test_the_same_attempt_may_record_twice(connection: Connection) -> None:
    """The answer to a COMMIT can be lost; a repetition succeeds and keeps the caption."""
    row_id = drop(connection, G1)
    claim = take(connection, row_id)
    assert record(connection, claim)
    assert record(connection, claim)
    assert row_of(connection, row_id)["caption"] == "a red circle"


@pytest.mark.parametrize(("lost", "retries", "lost_attempts"), [(False, 1, 0), (True, 0, 1)])
def test_a_requeued_row_can_be_claimed_again(
    connection: Connection, lost: bool, retries: int, lost_attempts: int
) -> None:
    """The row is queued with the error; the next claim counts a retry or a lost attempt."""
    row_id = drop(connection, G1)
    assert claims.requeue(connection, take(connection, row_id), "storage_unavailable", "429", lost=lost)
    row = row_of(connection, row_id)
    assert (row["status"], row["error_code"], row["error"]) == (Status.QUEUED, "storage_unavailable", "429")
    claim = take(connection, row_id)
    assert (claim.retries, claim.lost_attempts) == (retries, lost_attempts)


def test_a_failure_has_a_reason(connection: Connection) -> None:
    """The dead letter has an error code, a message, and no lease."""
    row_id = drop(connection, G1)
    assert claims.fail(connection, take(connection, row_id), "truncated_image", "ends at byte 7")
    row = row_of(connection, row_id)
    expected = (Status.FAILED, "truncated_image", "ends at byte 7", None)
    assert (row["status"], row["error_code"], row["error"], row["lease_until"]) == expected


def test_a_write_back_is_taken_over_without_the_model(connection: Connection) -> None:
    """After a death between commit and PATCH, the claim returns a WriteBack and counts no attempt."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    assert isinstance(claims.claim(connection, row_id, LEASE_S), claims.LeaseHeld)
    expire_leases(connection)
    found = claims.claim(connection, row_id, LEASE_S)
    assert found == WriteBack(row_id, G1, str(TASK), "a red circle", "demo")
    assert row_of(connection, row_id)["attempts"] == 1
    assert isinstance(claims.claim(connection, row_id, LEASE_S), claims.LeaseHeld)


def test_a_write_back_is_claimed_of_one_row_alone(connection: Connection) -> None:
    """Another unwritten row keeps its expired lease, and can be claimed by its own message."""
    ids = [drop(connection, version) for version in (G1, ObjectVersion("drops", "other.jpg", 1))]
    for row_id in ids:
        record(connection, take(connection, row_id), write_back=True)
    expire_leases(connection)
    for row_id in ids:
        found = claims.claim(connection, row_id, LEASE_S)
        assert isinstance(found, WriteBack)
        assert found.row_id == row_id


def test_a_finished_write_back_leaves_nothing_to_do(connection: Connection) -> None:
    """The row has the time and no lease, and a late message has no effect."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    assert finish_write_back(connection, row_id, written=True)
    row = row_of(connection, row_id)
    assert row["metadata_written_at"] is not None
    assert (row["lease_until"], row["error_code"]) == (None, None)
    assert claims.claim(connection, row_id, LEASE_S) is None


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

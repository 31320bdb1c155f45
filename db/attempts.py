"""The end of an attempt: the caption is recorded, or the row fails, waits, or ends with its object.

Each function is one statement, guarded in SQL: a row of another attempt, or with a person's edit, stays
unchanged. A trigger sends the NOTIFY of every transition in the same transaction.
"""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db.due_rows import NEEDS_ATTEMPT, OTHERS, Due, due_of, others, with_time
from db.session import Connection
from db.storable import storable_json, storable_text
from dropline.contract import Caption, Claim, Dimensions, WriteBack, WriteOutcome


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of the last statement of an attempt."""

    #: False if the row has moved on: another attempt, a newer generation or a deletion.
    held: bool
    #: With the time of the own row, if the row is due again.
    others: Due


@dataclass(frozen=True, slots=True)
class Recorded:
    """The result of the record of a caption."""

    #: As in `Ended`.
    held: bool
    #: True if the write-back to the object's metadata follows: the row has a lease.
    is_write_back_due: bool
    others: Due
    #: Seconds since the row was queued; 0 where the caption was refused.
    waited_s: float = field(default=0.0, compare=False)
    #: Of the row: 0 fresh, 1 redone, 2 bulk.
    priority: int = field(default=0, compare=False)


def _ending(update: str, stale: str = "") -> TextClause:
    """A statement that ends an attempt with `update`, and reads the other unfinished rows.

    Args:
        update: of the own row, if the attempt holds the row.
        stale: another update of the own row, if the attempt does not hold the row.
    """
    ended = f"ended AS ({update} RETURNING lease_until)"
    leases = "SELECT lease_until FROM ended"
    if stale:
        ended += f", stale AS ({stale} RETURNING lease_until)"
        leases += " UNION ALL SELECT lease_until FROM stale"
    return text(f"""
        WITH {ended}, {others("id IS DISTINCT FROM :row_id")}
        SELECT EXISTS (SELECT FROM ended) AS held,
               EXISTS (SELECT FROM ({leases}) AS own WHERE lease_until <= now()) AS is_due, {OTHERS}
    """)


# The lock: of two records of the same attempt, the second must see the caption kept by the first. So the
# join, by which Postgres locks before the update.
_RECORD = text(f"""
    WITH replaced AS (
        SELECT id, caption, result, model, model_revision, captioned_at, edited_by, edited_at FROM captions
        WHERE id = :row_id AND attempts = :attempt AND {NEEDS_ATTEMPT} AND caption IS NOT NULL
        FOR UPDATE),
    recorded AS (
        UPDATE captions SET status = 'captioned', caption = :caption, result = :result, model = :model,
               model_revision = :model_revision, width = :width, height = :height, size_bytes = :size_bytes,
               captioned_at = now(), error_code = NULL, error = NULL, updated_at = now(), redo = false,
               not_before = NULL, failing_since = NULL, redo_failed_at = NULL, metadata_written_at = NULL,
               edited_by = NULL, edited_at = NULL,
               copied_from = :copied_from,
               lease_until = CASE WHEN :write_back AND write_back THEN now() + make_interval(secs => :lease_s) END
        FROM (SELECT) AS one LEFT JOIN replaced ON true
        WHERE captions.id = :row_id AND attempts = :attempt
              AND (captions.edited_by IS NULL OR reverted_at IS NOT NULL)
              AND (status = 'running' OR (status = 'captioned' AND redo_failed_at IS NULL
                                          AND (NOT redo OR lease_until IS NOT NULL)))
        RETURNING lease_until, priority, EXTRACT(EPOCH FROM clock_timestamp() - queued_at)::float8 AS waited_s),
    kept AS (
        INSERT INTO caption_history
               (caption_id, caption, result, model, model_revision, captioned_at, edited_by, edited_at)
        SELECT replaced.* FROM replaced WHERE EXISTS (SELECT FROM recorded)),
    {others("id IS DISTINCT FROM :row_id")}
    SELECT EXISTS (SELECT FROM recorded) AS held,
           EXISTS (SELECT FROM recorded WHERE lease_until IS NOT NULL) AS is_write_back_due,
           (SELECT waited_s FROM recorded) AS waited_s, (SELECT priority FROM recorded) AS priority, {OTHERS}
""").bindparams(bindparam("result", type_=JSONB(none_as_null=True)))


def record_caption(
    connection: Connection,
    claim: Claim,
    caption: Caption,
    image: Dimensions,
    *,
    size_bytes: int,
    write_back_lease_s: float | None,
    copied_from: int | None = None,
) -> Recorded:
    """Record the caption if the row has the attempt number of `claim`; a replaced caption goes to the history.

    The same attempt may record twice: the answer to a COMMIT can be lost.

    Args:
        size_bytes: of the stored bytes of the object.
        write_back_lease_s: the lease of the write-back; None if metadata is not written.
        copied_from: id of the row with the same caption; None: the model captioned the row.
    """
    values: dict[str, Any] = {
        "row_id": claim.row_id,
        "attempt": claim.attempt,
        "caption": storable_text(caption.text),
        "result": storable_json(caption.result),
        "model": caption.model,
        "model_revision": caption.model_revision,
        "width": image.width,
        "height": image.height,
        "size_bytes": size_bytes,
        "write_back": write_back_lease_s is not None,
        "lease_s": write_back_lease_s or 0,
        "copied_from": copied_from,
    }
    row = connection.execute(_RECORD, values).one()
    return Recorded(row.held, row.is_write_back_due, due_of(row), row.waited_s or 0.0, row.priority or 0)


# A write-back without its row may have put a replaced caption over that of the row, also after the
# child with the newer caption: the row is written again, and the child loses the row. With the same
# caption no work is left, so two children do not make work for each other, and a repetition after a lost
# answer has no effect. A waiting row is written anyway; a row to be redone, after the redo.
_WRITE_AGAIN = """
    UPDATE captions SET metadata_written_at = NULL, updated_at = now(),
           lease_until = CASE WHEN redo THEN lease_until ELSE now() END,
           claimed_by = CASE WHEN redo THEN claimed_by END
    WHERE id = :row_id AND status = 'captioned' AND write_back AND claimed_by IS DISTINCT FROM :claimed_by
          AND (lease_until IS NULL OR claimed_by IS NOT NULL)
          AND (caption IS DISTINCT FROM :caption OR model IS DISTINCT FROM :model)
"""
# A second record of the same attempt, after a COMMIT without an answer, makes the write-back due once more.
# After a failed redo, the error is the redo's.
_FINISH_WRITE_BACK = _ending(
    """
    UPDATE captions SET lease_until = NULL, failing_since = NULL, updated_at = now(),
           error_code = CASE WHEN redo_failed_at IS NULL THEN :code ELSE error_code END,
           error = CASE WHEN redo_failed_at IS NULL THEN :error ELSE error END,
           metadata_written_at = CASE WHEN :written THEN now() ELSE metadata_written_at END
    WHERE id = :row_id AND status = 'captioned' AND NOT redo AND claimed_by = :claimed_by
    """,
    _WRITE_AGAIN,
)
# No child holds a postponed write-back: the death of the child must not end the back-off.
_POSTPONE_WRITE_BACK = _ending(
    """
    UPDATE captions SET lease_until = now() + make_interval(secs => :delay_s), claimed_by = NULL,
           updated_at = now(), failing_since = COALESCE(failing_since, now())
    WHERE id = :row_id AND status = 'captioned' AND NOT redo AND lease_until IS NOT NULL
          AND claimed_by = :claimed_by
    """,
    _WRITE_AGAIN,
)


def finish_write_back(connection: Connection, write_back: WriteBack, outcome: WriteOutcome) -> Ended:
    """End the lease of a write-back and record its outcome, if the claim still holds the row.

    Else the row is due again, if its caption has changed.
    """
    values = {"written": outcome.written, "code": outcome.code, "error": storable_text(outcome.note)}
    return _end(connection, _FINISH_WRITE_BACK, _held_by(write_back) | values)


def postpone_write_back(connection: Connection, write_back: WriteBack, delay_s: float) -> Ended:
    """Make a write-back due again in `delay_s` seconds, after a transient error, as `finish_write_back` does."""
    ended = _end(connection, _POSTPONE_WRITE_BACK, _held_by(write_back) | {"delay_s": delay_s})
    return _with_own(ended, delay_s)


def _held_by(write_back: WriteBack) -> dict[str, Any]:
    words = {"caption": storable_text(write_back.caption), "model": write_back.model}
    return {"row_id": write_back.row_id, "claimed_by": write_back.claimed_by} | words


# A row with an old caption stays captioned. Without a lease, no attempt of the row has begun since it is to be
# redone.
_HELD = """WHERE id = :row_id AND attempts = :attempt
           AND (status = 'running' OR (status = 'captioned' AND redo AND lease_until IS NOT NULL))"""
_SETTLED = "not_before = NULL, failing_since = NULL, redo = false, updated_at = now()"
_OVER = f"lease_until = NULL, {_SETTLED}"
# A revert may have come before the write-back of the edit: without the model, the person's caption is written.
_FAIL = _ending(f"""
    UPDATE captions SET status = CASE WHEN redo THEN status ELSE 'failed' END, error_code = :code, error = :error,
           redo_failed_at = CASE WHEN redo THEN now() END,
           lease_until = CASE WHEN redo AND write_back AND edited_by IS NOT NULL AND metadata_written_at IS NULL
                              THEN now() END, {_SETTLED} {_HELD}
""")
_REQUEUE = _ending(f"""
    UPDATE captions SET status = CASE WHEN redo THEN status ELSE 'queued' END, error_code = :code, error = :error,
           lease_until = NULL, not_before = now() + make_interval(secs => :delay_s),
           failing_since = COALESCE(failing_since, now()),
           lost_attempts = lost_attempts + CASE WHEN :lost THEN 1 ELSE 0 END,
           slow_attempts = slow_attempts + CASE WHEN :slow THEN 1 ELSE 0 END, updated_at = now() {_HELD}
""")
_SUPERSEDE = _ending(f"UPDATE captions SET status = 'superseded', {_OVER} {_HELD}")
_MARK_DELETED = _ending(f"""
    UPDATE captions SET status = 'deleted', caption = CASE WHEN NOT :erase THEN caption END,
           result = CASE WHEN NOT :erase THEN result END, {_OVER} {_HELD}
""")


def fail(connection: Connection, claim: Claim, code: str, error: str) -> Ended:
    """Set the row to `failed`, if the row still has the attempt number of `claim`.

    A row to be redone stays captioned, and has the time of the failure. The row is due if the metadata lack a
    person's caption.
    """
    return _end_attempt(connection, _FAIL, claim, code=code, error=storable_text(error))


def requeue(
    connection: Connection, claim: Claim, code: str, error: str, *, lost: bool, delay_s: float, slow: bool = False
) -> Ended:
    """Queue the row again after a transient error, as `fail` does.

    Args:
        lost: adds 1 to `lost_attempts`.
        delay_s: seconds until the row is due.
        slow: adds 1 to `slow_attempts`.
    """
    values = {"lost": lost, "slow": slow, "delay_s": delay_s}
    ended = _end_attempt(connection, _REQUEUE, claim, code=code, error=storable_text(error), **values)
    return _with_own(ended, delay_s)


def supersede(connection: Connection, claim: Claim) -> Ended:
    """Set the row to `superseded`, as `fail` does: the bucket has a newer generation of the object."""
    return _end_attempt(connection, _SUPERSEDE, claim)


def mark_deleted(connection: Connection, claim: Claim, *, erase: bool = False) -> Ended:
    """Set the row to `deleted`, as `fail` does: the object is gone, and its DELETE event may still arrive.

    Args:
        erase: remove the caption and the result of an earlier attempt.
    """
    return _end_attempt(connection, _MARK_DELETED, claim, erase=erase)


def _end_attempt(connection: Connection, statement: TextClause, claim: Claim, **values: Any) -> Ended:
    return _end(connection, statement, {"row_id": claim.row_id, "attempt": claim.attempt} | values)


def _end(connection: Connection, statement: TextClause, values: dict[str, Any]) -> Ended:
    row = connection.execute(statement, values).one()
    return Ended(row.held, with_time(due_of(row), 0.0) if row.is_due else due_of(row))


def _with_own(ended: Ended, delay_s: float) -> Ended:
    return Ended(True, with_time(ended.others, delay_s)) if ended.held else ended

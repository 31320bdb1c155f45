"""The queue in Postgres: a worker claims the most urgent due row, and ends the attempt.

A row is unfinished while it is queued, leased or to be captioned again. An unfinished row is due from the end of
its lease, else from its not-before time, else from the time when it was queued. A worker claims a due row of the
smallest priority number, in the order of these times. So a dead worker's row is due without any message.

Each function is one statement, guarded in SQL. A trigger sends the NOTIFY of every transition in the same
transaction (see `docs/decisions/0001-notify-by-trigger.md`). All times are from the clock of Postgres, so the
clocks of the workers may differ.
"""

import functools
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db.copies import TWIN_SINCE, WAIT, Model, find_original, of_model, original_of, twin_of
from db.session import Connection
from db.storable import storable_json, storable_text
from dropline.contract import (
    Caption,
    Claim,
    Dimensions,
    ObjectVersion,
    SeenMetadata,
    TaskRequest,
    WriteBack,
    WriteOutcome,
)
from dropline.task_list import MAX_TASKS


@dataclass(frozen=True, slots=True)
class Due:
    """The other unfinished rows, at the time of a statement."""

    #: A row that is due now, the most urgent first; a hint for the next message.
    row_ids: tuple[int, ...] = ()
    #: Seconds until the next row is due; None if no row waits for a time.
    next_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """The result of a claim."""

    #: None if no row is due.
    work: Claim | WriteBack | None
    others: Due
    #: Further tasks of the same object version, claimed too.
    siblings: tuple[Claim, ...] = ()
    #: True if the most urgent row now waits: another row with the same bytes is at work.
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of the last statement of an attempt."""

    #: False if the row has moved on: another attempt, a newer generation or a deletion.
    held: bool
    others: Due


@dataclass(frozen=True, slots=True)
class Recorded:
    """The result of the record of a caption."""

    #: As in `Ended`.
    held: bool
    #: True if the write-back to the object's metadata follows: the row has a lease for it.
    is_write_back_due: bool
    others: Due


# Both are those of the index ix_captions_due.
_UNFINISHED = "(status = 'queued' OR lease_until IS NOT NULL OR (redo AND status = 'captioned'))"
_DUE_AT = "COALESCE(lease_until, not_before, queued_at)"
_PRIORITIES = (0, 1, 2)
#: True for a row without its caption; false for one whose write-back is missing.
_NEEDS_ATTEMPT = "(status <> 'captioned' OR redo)"


def _due(priority: int) -> str:
    """Condition on the due rows of one priority: one probe of the index."""
    return f"{_UNFINISHED} AND priority = {priority} AND {_DUE_AT} <= now()"


def _first_due(priority: int, rest: str) -> str:
    """The due row of one priority that has waited longest."""
    return f"(SELECT id FROM captions WHERE {_due(priority)} {rest})"


def _first_at(priority: int) -> str:
    """The earliest time at which a row of one priority is due."""
    return (
        f"(SELECT {_DUE_AT} FROM captions WHERE {_UNFINISHED} AND priority = {priority} "
        f"ORDER BY {_DUE_AT} LIMIT 1)"
    )


def _others(other: str, most: int = 1) -> str:
    """CTEs: the due rows, and the next time at which a row is due, without the own rows.

    The limit is a part of the text: with a parameter, Postgres plans the statement anew for each call, since the
    plan for any limit looks costly in a large table.

    Args:
        other: the condition on rows that are not the own ones.
        most: due rows.
    """
    due = " UNION ALL ".join(
        _first_due(each, f"AND {other} ORDER BY {_DUE_AT} LIMIT {most}") for each in _PRIORITIES
    )
    later = " UNION ALL ".join(
        f"(SELECT {_DUE_AT} AS at FROM captions WHERE {_UNFINISHED} AND priority = {each} AND {_DUE_AT} > now() "
        f"AND {other} ORDER BY {_DUE_AT} LIMIT 1)"
        for each in _PRIORITIES
    )
    return f"other_due AS ({due} LIMIT {most}), later AS ({later})"


_OTHERS = """ARRAY(SELECT id FROM other_due) AS other_ids,
       (SELECT EXTRACT(EPOCH FROM min(at) - now())::float8 FROM later) AS next_in_s"""


@functools.cache
def _look(most: int) -> TextClause:
    return text(f"WITH {_others('true', most)} SELECT {_OTHERS}")


def look(connection: Connection, most: int) -> Due:
    """The due rows, `most` at most and the most urgent first, and the time of the next one."""
    return _due_of(connection.execute(_look(most)).one())


_REST = text(f"""
    SELECT CASE WHEN min(at) <= now() THEN 0
                WHEN EXISTS (SELECT FROM captions WHERE lease_until > now() AND claimed_by IS NOT NULL) THEN 0
                ELSE EXTRACT(EPOCH FROM min(at) - now())::float8 END AS due_in_s
    FROM ({" UNION ALL ".join(f"SELECT {_first_at(each)} AS at" for each in _PRIORITIES)}) AS first
""")


def rest(connection: Connection) -> float | None:
    """Seconds until the first unfinished row is due: 0 if a row is due or at work, None if none is unfinished."""
    found: float | None = connection.execute(_REST).scalar_one()
    return found


def _longest_waiting(priority: int, lock: str = "") -> str:
    return _first_due(priority, f"ORDER BY {_DUE_AT} LIMIT 1 {lock}")


# The common table expressions with FOR UPDATE are evaluated until one has a row.
_PICK = f"""
    hinted AS (SELECT id FROM captions AS hint WHERE id = :hint AND {_UNFINISHED} AND {_DUE_AT} <= now()
               AND (priority = 0 OR {_longest_waiting(0)} IS NULL)
               AND (priority < 2 OR {_longest_waiting(1)} IS NULL)
               FOR UPDATE SKIP LOCKED),
    first_0 AS {_longest_waiting(0, "FOR UPDATE SKIP LOCKED")},
    first_1 AS {_longest_waiting(1, "FOR UPDATE SKIP LOCKED")},
    first_2 AS {_longest_waiting(2, "FOR UPDATE SKIP LOCKED")},
    picked AS (SELECT id FROM hinted UNION ALL SELECT id FROM first_0 UNION ALL SELECT id FROM first_1
               UNION ALL SELECT id FROM first_2 LIMIT 1)"""
# An attempt whose process died may have been the work of one task alone, so its row is claimed by itself.
_FRESH = f"{_NEEDS_ATTEMPT} AND lease_until IS NULL AND lost_attempts = 0 AND slow_attempts = 0"
# The subquery of the conditions on the object is evaluated first: the condition is one of the unique index.
_SIBLINGS = f"""
    siblings AS (
        SELECT id FROM captions AS sibling
        WHERE (bucket, object_name, generation) =
              (SELECT bucket, object_name, generation FROM captions
               WHERE id = (SELECT id FROM picked) AND {_FRESH})
              AND id <> (SELECT id FROM picked) AND {_FRESH} AND {_UNFINISHED} AND {_DUE_AT} <= now()
        LIMIT {MAX_TASKS - 1} FOR UPDATE SKIP LOCKED),
    taken AS (SELECT id FROM picked UNION ALL SELECT id FROM siblings)"""
# What is known of the bytes of the taken rows. A row whose attempt was lost is claimed, and waits afterwards.
_SEEN = f"""
    seen AS (
        SELECT own.id AS own_id, found.*, twin_since,
               original_id IS NULL AND twin_since IS NOT NULL AND own.status = 'queued' AS must_wait,
               own.status = 'running' AND twin_since IS NOT NULL
               OR own.status IN ('queued', 'running') AND EXISTS ({twin_of("own", "own.md5_hash", "queued")})
               AS has_rival
        FROM taken JOIN captions AS own ON own.id = taken.id
        LEFT JOIN LATERAL ({original_of("own", "own.md5_hash", "own.size_bytes")}) AS found ON true
        LEFT JOIN LATERAL ({twin_of("own", "own.md5_hash", "running", TWIN_SINCE)}) AS twin
             ON true)"""
_WAITS = "(must_wait AND status = 'queued')"
_CLAIM = text(f"""
    WITH {_PICK}, {_SIBLINGS}, {_SEEN},
    claimed AS (
        UPDATE captions SET
               status = CASE WHEN status = 'queued' AND NOT must_wait THEN 'running' ELSE status END,
               attempts = attempts + ({_NEEDS_ATTEMPT} AND NOT {_WAITS})::int,
               lost_attempts = lost_attempts + ({_NEEDS_ATTEMPT} AND lease_until IS NOT NULL)::int,
               lease_until = CASE WHEN NOT {_WAITS} THEN now() + make_interval(secs => :lease_s) END,
               not_before = CASE WHEN {_WAITS} THEN {WAIT} ELSE not_before END,
               claimed_by = :claimed_by, updated_at = now(),
               started_at = CASE WHEN {_NEEDS_ATTEMPT} AND NOT {_WAITS} THEN now() ELSE started_at END
        FROM seen WHERE captions.id = own_id
        RETURNING {_WAITS} AS waits, has_rival, md5_hash, size_bytes, original_id, original_caption,
                  original_result, original_width, original_height, original_size_bytes,
                  EXTRACT(EPOCH FROM not_before - now())::float8 AS wait_s,
                  captions.id, bucket, object_name, generation, task, {_NEEDS_ATTEMPT} AS needs_attempt, attempts,
                  lost_attempts, attempts_before_redrive, slow_attempts, model,
                  CASE WHEN NOT {_NEEDS_ATTEMPT} THEN caption END AS caption,
                  CASE WHEN metadata_written_at IS NULL THEN metageneration END AS metageneration, metadata_bytes,
                  reverted_at IS NOT NULL AS is_reverted,
                  COALESCE(EXTRACT(EPOCH FROM now() - failing_since), 0)::float8 AS failing_s),
    {_others("id <> ALL (ARRAY(SELECT id FROM taken))")}
    SELECT claimed.*, {_OTHERS} FROM (SELECT) AS one LEFT JOIN claimed ON true
    ORDER BY claimed.id IS DISTINCT FROM (SELECT id FROM picked), claimed.id
""")


def claim(
    connection: Connection, hint: int, lease_s: float, claimed_by: str, model: Model | None = None
) -> Claimed:
    """Lease the most urgent due row, for a caption or for the write-back of a recorded caption.

    With a row that needs a caption, lease the other due rows of its object version: one download serves all. Rows
    whose earlier attempt was lost or too slow are leased alone, so that one task does not set the others aside.

    A queued row whose bytes another row has at work is not leased: the row is due again a little later.

    Args:
        connection: its statement is the whole transaction.
        hint: id of a row, which is preferred among the due rows of its priority.
        lease_s: seconds until the row is due again, unless the attempt ends before.
        claimed_by: name of the worker and its child; a child claims again when all its rows have ended.
        model: the claims have the captions that it has made for identical bytes; None: no caption is taken.
    """
    values = {"hint": hint, "lease_s": lease_s, "claimed_by": claimed_by}
    rows = connection.execute(_CLAIM, values | of_model(model)).all()
    others = _due_of(rows[0])
    for row in rows:
        if row.waits:
            others = with_time(others, row.wait_s)
    held = [row for row in rows if row.id is not None and not row.waits]
    if not held:
        return Claimed(None, others, waits=bool(rows[0].waits))
    if not held[0].needs_attempt:
        return Claimed(_write_back_of(held[0], claimed_by), others)
    work, *siblings = [_claim_of(row, model) for row in held]
    return Claimed(work, others, tuple(siblings))


def _write_back_of(row: Row[Any], claimed_by: str) -> WriteBack:
    version = ObjectVersion(row.bucket, row.object_name, row.generation)
    words = row.task, row.caption, row.model, claimed_by, row.failing_s
    return WriteBack(row.id, version, *words, is_reverted=row.is_reverted)


def _claim_of(row: Row[Any], model: Model | None) -> Claim:
    version = ObjectVersion(row.bucket, row.object_name, row.generation)
    return Claim(
        row.id,
        version,
        TaskRequest.parse(row.task),
        row.attempts,
        row.lost_attempts,
        row.attempts_before_redrive,
        row.failing_s,
        row.slow_attempts,
        _seen_metadata(row),
        row.is_reverted,
        row.md5_hash,
        row.size_bytes,
        find_original(row, model),
        row.has_rival,
    )


def _seen_metadata(row: Row[Any]) -> SeenMetadata | None:
    if row.metageneration is None or row.metadata_bytes is None:
        return None
    return SeenMetadata(row.metageneration, row.metadata_bytes)


def _due_of(row: Row[Any]) -> Due:
    return Due(tuple(row.other_ids), row.next_in_s)


def _ending(update: str) -> TextClause:
    """A statement that ends an attempt with `update`, and reads the other unfinished rows."""
    return text(f"""
        WITH ended AS ({update} RETURNING id), {_others("id IS DISTINCT FROM :row_id")}
        SELECT EXISTS (SELECT FROM ended) AS held, {_OTHERS}
    """)


# The lock: of two records of the same attempt, the second must see that the first one has kept the caption. So the
# join, by which Postgres locks before the update.
_RECORD = text(f"""
    WITH replaced AS (
        SELECT id, caption, result, model, model_revision, captioned_at, edited_by, edited_at FROM captions
        WHERE id = :row_id AND attempts = :attempt AND {_NEEDS_ATTEMPT} AND caption IS NOT NULL
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
        RETURNING lease_until),
    kept AS (
        INSERT INTO caption_history
               (caption_id, caption, result, model, model_revision, captioned_at, edited_by, edited_at)
        SELECT replaced.* FROM replaced WHERE EXISTS (SELECT FROM recorded)),
    {_others("id IS DISTINCT FROM :row_id")}
    SELECT EXISTS (SELECT FROM recorded) AS held,
           EXISTS (SELECT FROM recorded WHERE lease_until IS NOT NULL) AS is_write_back_due, {_OTHERS}
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
    """Record the caption if the row still has the attempt number of `claim`; a replaced one goes to the history.

    The same attempt may record twice: the answer to a COMMIT can be lost.

    Args:
        size_bytes: of the downloaded object.
        write_back_lease_s: the lease of the write-back that follows; None if metadata is not written.
        copied_from: id of the row whose caption it is; None: the model captioned this row.
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
    return Recorded(row.held, row.is_write_back_due, _due_of(row))


# A second record of the same attempt, whose first COMMIT was not answered, makes the write-back due once more.
_FINISH_WRITE_BACK = _ending("""
    UPDATE captions SET lease_until = NULL, failing_since = NULL, updated_at = now(), error_code = :code,
           error = :error, metadata_written_at = CASE WHEN :written THEN now() ELSE metadata_written_at END
    WHERE id = :row_id AND status = 'captioned' AND NOT redo AND claimed_by = :claimed_by
""")
# No child holds a postponed write-back: the death of the child must not end the back-off.
_POSTPONE_WRITE_BACK = _ending("""
    UPDATE captions SET lease_until = now() + make_interval(secs => :delay_s), claimed_by = NULL,
           updated_at = now(), failing_since = COALESCE(failing_since, now())
    WHERE id = :row_id AND status = 'captioned' AND NOT redo AND lease_until IS NOT NULL
          AND claimed_by = :claimed_by
""")


def finish_write_back(connection: Connection, write_back: WriteBack, outcome: WriteOutcome) -> Ended:
    """End the lease of a write-back and record its outcome, if the claim still holds the row."""
    values = {"written": outcome.written, "code": outcome.code, "error": storable_text(outcome.note)}
    return _end(connection, _FINISH_WRITE_BACK, _held_by(write_back) | values)


def postpone_write_back(connection: Connection, write_back: WriteBack, delay_s: float) -> Ended:
    """Make a write-back due again in `delay_s` seconds, after a transient error."""
    ended = _end(connection, _POSTPONE_WRITE_BACK, _held_by(write_back) | {"delay_s": delay_s})
    return _with_own(ended, delay_s)


def _held_by(write_back: WriteBack) -> dict[str, Any]:
    return {"row_id": write_back.row_id, "claimed_by": write_back.claimed_by}


# A row that keeps its old caption stays captioned. Without a lease, no attempt of it has begun since it is to be
# redone.
_HELD = """WHERE id = :row_id AND attempts = :attempt
           AND (status = 'running' OR (status = 'captioned' AND redo AND lease_until IS NOT NULL))"""
_OVER = "lease_until = NULL, not_before = NULL, failing_since = NULL, redo = false, updated_at = now()"
_FAIL = _ending(f"""
    UPDATE captions SET status = CASE WHEN redo THEN status ELSE 'failed' END, error_code = :code, error = :error,
           redo_failed_at = CASE WHEN redo THEN now() END, {_OVER} {_HELD}
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
    """Set the row to `failed`, if it still has the attempt number of `claim`.

    A row that is to be redone stays captioned, and has the time of the failure.
    """
    return _end_attempt(connection, _FAIL, claim, code=code, error=storable_text(error))


def requeue(
    connection: Connection, claim: Claim, code: str, error: str, *, lost: bool, delay_s: float, slow: bool = False
) -> Ended:
    """Queue the row again after a transient error, as `fail` does.

    Args:
        lost: adds one to `lost_attempts`.
        delay_s: seconds until the row is due.
        slow: adds one to `slow_attempts`.
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
    return Ended(row.held, _due_of(row))


def _with_own(ended: Ended, delay_s: float) -> Ended:
    return Ended(True, with_time(ended.others, delay_s)) if ended.held else ended


def with_time(others: Due, delay_s: float | None) -> Due:
    """The rows, and the time of another one."""
    times = [each for each in (others.next_in_s, delay_s) if each is not None]
    return Due(others.row_ids, min(times, default=None))


_RELEASE = text("""
    UPDATE captions SET lease_until = now(), updated_at = now()
    WHERE claimed_by = :claimed_by AND lease_until > now() AND status IN ('running', 'captioned')
""")


def release(connection: Connection, claimed_by: str) -> int:
    """End the lease of a dead child now, so that its row is due at once; the number of rows."""
    return connection.execute(_RELEASE, {"claimed_by": claimed_by}).rowcount

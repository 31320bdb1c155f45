"""A worker claims the most urgent due row, and the rows of the same object version with it.

One statement, guarded in SQL. A trigger sends the NOTIFY of every transition in the same transaction (see
`docs/decisions/0001-notify-by-trigger.md`).
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text

from db.copies import TWIN_SINCE, WAIT, Model, find_original, of_model, original_of, twin_of
from db.due_rows import DUE_AT, NEEDS_ATTEMPT, OTHERS, UNFINISHED, Due, due_of, first_due, others, with_time
from db.session import Connection
from dropline.contract import Claim, ObjectVersion, SeenMetadata, TaskRequest, WriteBack
from dropline.task_list import MAX_TASKS


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


# An attempt of a dead process may have been the work of a single task, so the row is claimed alone.
_FRESH = f"{NEEDS_ATTEMPT} AND lease_until IS NULL AND lost_attempts = 0 AND slow_attempts = 0"
# Of the locked row: an edit may have committed since the snapshot of the statement.
_LOCKED = f"id, bucket, object_name, generation, {_FRESH} AS is_fresh"


def _longest_waiting(priority: int) -> str:
    return first_due(priority, f"ORDER BY {DUE_AT} LIMIT 1")


def _lock_longest_waiting(priority: int) -> str:
    return first_due(priority, f"ORDER BY {DUE_AT} LIMIT 1 FOR UPDATE SKIP LOCKED", _LOCKED)


# The common table expressions with FOR UPDATE are evaluated until an expression has a row.
_PICK = f"""
    hinted AS (SELECT {_LOCKED} FROM captions AS hint WHERE id = :hint AND {UNFINISHED} AND {DUE_AT} <= now()
               AND (priority = 0 OR {_longest_waiting(0)} IS NULL)
               AND (priority < 2 OR {_longest_waiting(1)} IS NULL)
               FOR UPDATE SKIP LOCKED),
    first_0 AS {_lock_longest_waiting(0)},
    first_1 AS {_lock_longest_waiting(1)},
    first_2 AS {_lock_longest_waiting(2)},
    picked AS (SELECT * FROM hinted UNION ALL SELECT * FROM first_0 UNION ALL SELECT * FROM first_1
               UNION ALL SELECT * FROM first_2 LIMIT 1)"""
# The subquery of the conditions on the object is evaluated first: the condition is of the unique index.
_SIBLINGS = f"""
    siblings AS (
        SELECT id FROM captions AS sibling
        WHERE (bucket, object_name, generation) =
              (SELECT bucket, object_name, generation FROM picked WHERE is_fresh)
              AND id <> (SELECT id FROM picked) AND {_FRESH} AND {UNFINISHED} AND {DUE_AT} <= now()
        LIMIT {MAX_TASKS - 1} FOR UPDATE SKIP LOCKED),
    taken AS (SELECT id FROM picked UNION ALL SELECT id FROM siblings)"""
# What is known of the bytes of the taken rows. A row with a lost attempt is claimed, and waits afterwards.
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
               attempts = attempts + ({NEEDS_ATTEMPT} AND NOT {_WAITS})::int,
               lost_attempts = lost_attempts + ({NEEDS_ATTEMPT} AND lease_until IS NOT NULL)::int,
               lease_until = CASE WHEN NOT {_WAITS} THEN now() + make_interval(secs => :lease_s) END,
               not_before = CASE WHEN {_WAITS} THEN {WAIT} ELSE not_before END,
               claimed_by = :claimed_by, updated_at = now(),
               started_at = CASE WHEN {NEEDS_ATTEMPT} AND NOT {_WAITS} THEN now() ELSE started_at END
        FROM seen WHERE captions.id = own_id
        RETURNING {_WAITS} AS waits, has_rival, md5_hash, size_bytes, original_id, original_caption,
                  original_result, original_width, original_height, original_size_bytes,
                  EXTRACT(EPOCH FROM not_before - now())::float8 AS wait_s,
                  captions.id, bucket, object_name, generation, task, {NEEDS_ATTEMPT} AS needs_attempt, attempts,
                  lost_attempts, attempts_before_redrive, slow_attempts, model, priority,
                  CASE WHEN NOT {NEEDS_ATTEMPT} THEN caption END AS caption,
                  CASE WHEN metadata_written_at IS NULL THEN metageneration END AS metageneration, metadata_bytes,
                  reverted_at IS NOT NULL AS is_reverted,
                  COALESCE(EXTRACT(EPOCH FROM now() - failing_since), 0)::float8 AS failing_s),
    {others("id <> ALL (ARRAY(SELECT id FROM taken))")}
    SELECT claimed.*, {OTHERS} FROM (SELECT) AS one LEFT JOIN claimed ON true
    ORDER BY claimed.id IS DISTINCT FROM (SELECT id FROM picked), claimed.id
""")


def claim(
    connection: Connection, hint: int, lease_s: float, claimed_by: str, model: Model | None = None
) -> Claimed:
    """Lease the most urgent due row, for a caption or for the write-back of a recorded caption.

    With a row without a caption, lease the other due rows of the object version: a download serves all. Rows
    with an earlier attempt lost or too slow are leased alone, so that no task sets the others aside.

    A queued row with the bytes of a row at work is not leased: the row is due again a little later.

    Args:
        connection: the statement is the whole transaction.
        hint: id of a row, which is preferred among the due rows of its priority.
        lease_s: seconds until the row is due again, unless the attempt ends before.
        claimed_by: name of the worker and the child; a child claims again at the end of all claimed rows.
        model: rows of identical bytes take the model's caption; None: no caption is taken.
    """
    values = {"hint": hint, "lease_s": lease_s, "claimed_by": claimed_by}
    rows = connection.execute(_CLAIM, values | of_model(model)).all()
    found = due_of(rows[0])
    for row in rows:
        if row.waits:
            found = with_time(found, row.wait_s)
    held = [row for row in rows if row.id is not None and not row.waits]
    if not held:
        return Claimed(None, found, waits=bool(rows[0].waits))
    if not held[0].needs_attempt:
        return Claimed(_write_back_of(held[0], claimed_by), found)
    work, *siblings = [_claim_of(row, model) for row in held]
    return Claimed(work, found, tuple(siblings))


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
        row.priority,
    )


def _seen_metadata(row: Row[Any]) -> SeenMetadata | None:
    if row.metageneration is None or row.metadata_bytes is None:
        return None
    return SeenMetadata(row.metageneration, row.metadata_bytes)


_RELEASE = text("""
    UPDATE captions SET lease_until = now(), updated_at = now()
    WHERE claimed_by = :claimed_by AND lease_until > now() AND status IN ('running', 'captioned')
""")


def release(connection: Connection, claimed_by: str) -> int:
    """End the lease of a dead child now, so the row is due at once; the number of rows."""
    return connection.execute(_RELEASE, {"claimed_by": claimed_by}).rowcount

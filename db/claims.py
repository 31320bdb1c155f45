"""The statements by which a worker claims a row and ends the attempt, each guarded in SQL.

Each function takes a connection in a transaction of the caller. A trigger sends the NOTIFY of every transition in
the same transaction (see `docs/decisions/0001-notify-by-trigger.md`). All times are from the clock of Postgres, so
the clocks of the workers may differ.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db.session import Connection
from db.storable import storable_json, storable_text
from dropline.contract import Caption, Claim, Dimensions, ObjectVersion, TaskRequest, WriteBack, WriteOutcome


@dataclass(frozen=True, slots=True)
class LeaseHeld:
    """The row is leased to another process."""

    #: Seconds until the lease runs out.
    remaining_s: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded caption."""

    #: True if the write-back to the object's metadata follows: the row has a lease for it.
    is_write_back_due: bool


_CLAIM = text("""
    UPDATE captions SET status = 'running', attempts = attempts + 1,
           lost_attempts = lost_attempts + CASE WHEN status = 'running' THEN 1 ELSE 0 END,
           lease_until = now() + make_interval(secs => :lease_s), started_at = now(), updated_at = now()
    WHERE id = :row_id AND (status = 'queued' OR (status = 'running' AND lease_until <= now()))
    RETURNING id, bucket, object_name, generation, task, attempts, lost_attempts, attempts_before_redrive
""")

_CLAIM_WRITE_BACK = text("""
    UPDATE captions SET lease_until = now() + make_interval(secs => :lease_s), updated_at = now()
    WHERE id = :row_id AND status = 'captioned' AND lease_until <= now()
    RETURNING id, bucket, object_name, generation, task, caption, model
""")

_REMAINING = text("""
    SELECT EXTRACT(EPOCH FROM lease_until - now())::float8 FROM captions WHERE id = :row_id AND lease_until > now()
""")


def claim(connection: Connection, row_id: int, lease_s: float) -> Claim | WriteBack | LeaseHeld | None:
    """Lease the row, for a caption or for the write-back of a recorded caption; None if the row needs neither."""
    values = {"row_id": row_id, "lease_s": lease_s}
    row = connection.execute(_CLAIM, values).one_or_none()
    if row is not None:
        version = ObjectVersion(row.bucket, row.object_name, row.generation)
        task = TaskRequest.parse(row.task)
        return Claim(row.id, version, task, row.attempts, row.lost_attempts, row.attempts_before_redrive)
    row = connection.execute(_CLAIM_WRITE_BACK, values).one_or_none()
    if row is not None:
        version = ObjectVersion(row.bucket, row.object_name, row.generation)
        return WriteBack(row.id, version, row.task, row.caption, row.model)
    remaining = connection.execute(_REMAINING, {"row_id": row_id}).scalar()
    return None if remaining is None else LeaseHeld(float(remaining))


_RECORD = text("""
    UPDATE captions SET status = 'captioned', caption = :caption, result = :result, model = :model,
           model_revision = :model_revision, width = :width, height = :height, size_bytes = :size_bytes,
           captioned_at = now(), error_code = NULL, error = NULL, updated_at = now(),
           lease_until = CASE WHEN :write_back AND write_back THEN now() + make_interval(secs => :lease_s) END
    WHERE id = :row_id AND status IN ('running', 'captioned') AND attempts = :attempt
    RETURNING lease_until IS NOT NULL AS is_write_back_due
""").bindparams(bindparam("result", type_=JSONB(none_as_null=True)))


def record_caption(
    connection: Connection,
    claim: Claim,
    caption: Caption,
    image: Dimensions,
    *,
    size_bytes: int,
    write_back_lease_s: float | None,
) -> Recorded | None:
    """Record the caption if the row still has the attempt number of `claim`; returns None if it has another.

    The same attempt may record twice: the answer to a COMMIT can be lost.

    Args:
        size_bytes: of the downloaded object.
        write_back_lease_s: the lease of the write-back that follows; None if metadata is not written.
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
    }
    row = connection.execute(_RECORD, values).one_or_none()
    return None if row is None else Recorded(row.is_write_back_due)


_METADATA_DONE = text("""
    UPDATE captions SET lease_until = NULL, updated_at = now(), error_code = :code, error = :error,
           metadata_written_at = CASE WHEN :written THEN now() ELSE metadata_written_at END
    WHERE id = :row_id AND status = 'captioned'
""")


def finish_write_back(connection: Connection, write_back: WriteBack, outcome: WriteOutcome) -> bool:
    """End the lease of a write-back and record its outcome; returns False if the row is no longer `captioned`."""
    values = {
        "row_id": write_back.row_id,
        "written": outcome.written,
        "code": outcome.code,
        "error": storable_text(outcome.note),
    }
    return connection.execute(_METADATA_DONE, values).rowcount == 1


_FAIL = text("""
    UPDATE captions SET status = 'failed', error_code = :code, error = :error, lease_until = NULL,
           updated_at = now()
    WHERE id = :row_id AND status = 'running' AND attempts = :attempt
""")

_REQUEUE = text("""
    UPDATE captions SET status = 'queued', error_code = :code, error = :error, lease_until = NULL,
           lost_attempts = lost_attempts + CASE WHEN :lost THEN 1 ELSE 0 END, updated_at = now()
    WHERE id = :row_id AND status = 'running' AND attempts = :attempt
""")

_SUPERSEDE = text("""
    UPDATE captions SET status = 'superseded', lease_until = NULL, updated_at = now()
    WHERE id = :row_id AND status = 'running' AND attempts = :attempt
""")

_MARK_DELETED = text("""
    UPDATE captions SET status = 'deleted', lease_until = NULL, updated_at = now()
    WHERE id = :row_id AND status = 'running' AND attempts = :attempt
""")

_EXPIRE = text("""
    UPDATE captions SET lease_until = now(), updated_at = now()
    WHERE id = :row_id AND lease_until > now() AND status IN ('running', 'captioned')
""")


def fail(connection: Connection, claim: Claim, code: str, error: str) -> bool:
    """Set the row to `failed`, if it still has the attempt number of `claim`; returns False if it has another."""
    return _end_attempt(connection, _FAIL, claim, code=code, error=storable_text(error))


def requeue(connection: Connection, claim: Claim, code: str, error: str, *, lost: bool) -> bool:
    """Return the row to `queued` after a transient error, as `fail` does; `lost` adds one to `lost_attempts`."""
    return _end_attempt(connection, _REQUEUE, claim, code=code, error=storable_text(error), lost=lost)


def supersede(connection: Connection, claim: Claim) -> bool:
    """Set the row to `superseded`, as `fail` does: the bucket has a newer generation of the object."""
    return _end_attempt(connection, _SUPERSEDE, claim)


def mark_deleted(connection: Connection, claim: Claim) -> bool:
    """Set the row to `deleted`, as `fail` does: the object is gone, and its DELETE event may still arrive."""
    return _end_attempt(connection, _MARK_DELETED, claim)


def _end_attempt(connection: Connection, statement: TextClause, claim: Claim, **values: str | bool | None) -> bool:
    identity = {"row_id": claim.row_id, "attempt": claim.attempt}
    return connection.execute(statement, identity | values).rowcount == 1


def expire_lease(connection: Connection, row_id: int) -> bool:
    """End the lease of a dead process now, so that the next delivery can claim the row at once."""
    return connection.execute(_EXPIRE, {"row_id": row_id}).rowcount == 1


# Any constant. Each recovery must see the messages of the one before.
_LOCK_RECOVERY = text("SELECT pg_advisory_xact_lock(8240173355)")


def lock_recovery(connection: Connection) -> None:
    """Wait until no other worker runs a recovery, and keep others out until the end of the transaction."""
    connection.execute(_LOCK_RECOVERY)

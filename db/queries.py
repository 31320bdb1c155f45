"""The statements by which function and worker change rows: one function per transition, guarded in SQL.

Each function takes a connection in a transaction of the caller. A trigger sends the NOTIFY of every transition in
the same transaction (see `docs/decisions/0001-notify-by-trigger.md`). All times are from the clock of Postgres, so
the clocks of the workers may differ.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db.models import EVERY_TASK
from db.session import Connection
from dropline.contract import (
    Caption,
    Claim,
    Dimensions,
    ObjectFacts,
    ObjectVersion,
    Status,
    TaskRequest,
    WriteBack,
    WriteOutcome,
)


@dataclass(frozen=True, slots=True)
class RegisteredRow:
    """The row of an event."""

    row_id: int
    status: Status
    #: True if this event inserted the row; False if the row was in the table before.
    created: bool


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


# Events of one object take turns: if FINALIZE and DELETE arrive at once, the second must see the row of the first.
_LOCK_OBJECT = text("SELECT pg_advisory_xact_lock(hashtextextended(:bucket || '/' || :name, 0))")

_REGISTER = text("""
    INSERT INTO captions (bucket, object_name, generation, task, status, content_type, size_bytes, md5_hash,
                          crc32c, event_time, error_code, error, write_back)
    SELECT :bucket, :name, :generation, :task,
           CASE WHEN newer.found THEN 'superseded' ELSE :status END,
           :content_type, :size_bytes, :md5_hash, :crc32c, :event_time,
           CASE WHEN NOT newer.found THEN :error_code END, CASE WHEN NOT newer.found THEN :error END,
           CAST(:own_task AS boolean)
           AND NOT EXISTS (SELECT FROM captions WHERE bucket = :bucket AND object_name = :name
                           AND generation = :generation AND write_back)
    FROM (SELECT EXISTS (SELECT FROM captions WHERE bucket = :bucket AND object_name = :name
                         AND (generation > :generation
                              OR (generation = :generation AND status = 'superseded'))) AS found) AS newer
    WHERE NOT EXISTS (SELECT FROM captions WHERE bucket = :bucket AND object_name = :name
                      AND generation = :generation AND status = 'deleted')
    ON CONFLICT (bucket, object_name, generation, task) DO NOTHING
    RETURNING id, status
""")

_EXISTING = text("""
    SELECT id, status FROM captions
    WHERE bucket = :bucket AND object_name = :name AND generation = :generation AND task IN (:task, :every_task)
    ORDER BY (task = :task) DESC LIMIT 1
""")

# A request for a further task may have made the row, where its settings differ from those of the function.
_ADOPT = text("""
    UPDATE captions SET write_back = true, updated_at = now(),
           lease_until = CASE WHEN status = 'captioned' THEN now() ELSE lease_until END
    WHERE bucket = :bucket AND object_name = :name AND generation = :generation AND task = :task AND NOT write_back
      AND status <> 'deleted' AND NOT EXISTS (SELECT FROM captions WHERE bucket = :bucket AND object_name = :name
                      AND generation = :generation AND write_back)
""")

_SUPERSEDE_OLDER = text("""
    UPDATE captions SET status = 'superseded', lease_until = NULL, updated_at = now()
    WHERE bucket = :bucket AND object_name = :name AND generation < :generation AND status IN ('queued', 'running')
""")


def register_object(
    connection: Connection, version: ObjectVersion, facts: ObjectFacts, task: TaskRequest, *, own_task: bool = True
) -> RegisteredRow:
    """Insert the row of a finalized object, or find the row.

    Unfinished rows of older generations become superseded. A generation with a `deleted` row stays deleted. A
    generation that is archived or not the newest starts as superseded.

    Args:
        own_task: True for the task of the object's metadata or of the rules. The first such row of a generation
            is written back to the metadata; the captions of all other rows are in Postgres alone.
    """
    return _register(connection, version, facts, str(task), Status.QUEUED, None, None, own_task=own_task)


def register_failed(
    connection: Connection, version: ObjectVersion, facts: ObjectFacts, task: str, code: str, error: str
) -> RegisteredRow:
    """Insert the `failed` row of an object refused without a download, or find the row."""
    return _register(connection, version, facts, task, Status.FAILED, code, error)


def _register(
    connection: Connection,
    version: ObjectVersion,
    facts: ObjectFacts,
    task: str,
    status: Status,
    code: str | None,
    error: str | None,
    *,
    own_task: bool = True,
) -> RegisteredRow:
    identity = _identity(version)
    connection.execute(_LOCK_OBJECT, {"bucket": version.bucket, "name": version.name})
    values = identity | {"task": task, "status": status.value, "error_code": code, "error": _clean_text(error)}
    created = connection.execute(_REGISTER, values | {"own_task": own_task} | _facts(facts)).one_or_none()
    if created is not None:
        connection.execute(_SUPERSEDE_OLDER, identity)
        return RegisteredRow(created.id, Status(created.status), created=True)
    if own_task:
        connection.execute(_ADOPT, identity | {"task": task})
    row = connection.execute(_EXISTING, identity | {"task": task, "every_task": EVERY_TASK}).one_or_none()
    if row is None:  # the generation was deleted before; its row has another task
        row = connection.execute(_ANY_OF_GENERATION, identity).one()
    return RegisteredRow(row.id, Status(row.status), created=False)


_ANY_OF_GENERATION = text("""
    SELECT id, 'deleted' AS status FROM captions
    WHERE bucket = :bucket AND object_name = :name AND generation = :generation ORDER BY id LIMIT 1
""")

_TOMBSTONE_ROWS = text("""
    UPDATE captions SET status = 'deleted', lease_until = NULL, updated_at = now()
    WHERE bucket = :bucket AND object_name = :name AND generation = :generation AND status <> 'deleted'
""")

_ARCHIVE_ROWS = text("""
    UPDATE captions SET status = 'superseded', lease_until = NULL, updated_at = now()
    WHERE bucket = :bucket AND object_name = :name AND generation = :generation
      AND status NOT IN ('superseded', 'deleted')
""")

_TOMBSTONE_INSERT = text("""
    INSERT INTO captions (bucket, object_name, generation, task, status)
    SELECT :bucket, :name, :generation, :every_task, :status
    WHERE NOT EXISTS (SELECT FROM captions WHERE bucket = :bucket AND object_name = :name
                      AND generation = :generation)
    ON CONFLICT (bucket, object_name, generation, task) DO NOTHING
""")


def tombstone(connection: Connection, version: ObjectVersion, *, insert: bool = True) -> None:
    """Record that a generation was deleted: its rows become `deleted`; without a row, insert a tombstone.

    The tombstone keeps a FINALIZE that arrives after the DELETE from queueing a row.

    Args:
        insert: False if a FINALIZE of this object is filtered out anyway, so that no tombstone is needed.
    """
    _end_generation(connection, version, _TOMBSTONE_ROWS, Status.DELETED, insert=insert)


def archive(connection: Connection, version: ObjectVersion, *, insert: bool = True) -> None:
    """Record that a generation is no longer live, but still in the bucket: its rows become `superseded`.

    Captions stay in the rows. A deleted generation stays deleted. Without a row, insert a `superseded` one for
    every task, which keeps a FINALIZE that arrives after the ARCHIVE from queueing a row.

    Args:
        insert: as of `tombstone`.
    """
    _end_generation(connection, version, _ARCHIVE_ROWS, Status.SUPERSEDED, insert=insert)


def _end_generation(
    connection: Connection, version: ObjectVersion, update: TextClause, status: Status, *, insert: bool
) -> None:
    identity = _identity(version)
    connection.execute(_LOCK_OBJECT, {"bucket": version.bucket, "name": version.name})
    connection.execute(update, identity)
    if insert:
        connection.execute(_TOMBSTONE_INSERT, identity | {"every_task": EVERY_TASK, "status": status.value})


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
        "caption": _clean_text(caption.text),
        "result": _clean_json(caption.result),
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
        "error": _clean_text(outcome.note),
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
    return _end_attempt(connection, _FAIL, claim, code=code, error=_clean_text(error))


def requeue(connection: Connection, claim: Claim, code: str, error: str, *, lost: bool) -> bool:
    """Return the row to `queued` after a transient error, as `fail` does; `lost` adds one to `lost_attempts`."""
    return _end_attempt(connection, _REQUEUE, claim, code=code, error=_clean_text(error), lost=lost)


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


def _identity(version: ObjectVersion) -> dict[str, Any]:
    return {"bucket": version.bucket, "name": version.name, "generation": version.generation}


def _facts(facts: ObjectFacts) -> dict[str, Any]:
    return {
        "content_type": _clean_text(facts.content_type),
        "size_bytes": facts.size_bytes,
        "md5_hash": facts.md5_hash,
        "crc32c": facts.crc32c,
        "event_time": facts.event_time,
    }


def _clean_text(value: str | None) -> str | None:
    """The text without NUL and lone surrogates, which Postgres refuses: they become U+FFFD and `?`."""
    if value is None:
        return None
    return value.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _clean_json(value: Any) -> Any:
    """A JSON document with `_clean_text` applied to every key and text: jsonb has the same limits."""
    match value:
        case str():
            return _clean_text(value)
        case dict():
            return {_clean_text(key): _clean_json(item) for key, item in value.items()}
        case list():
            return [_clean_json(item) for item in value]
        case _:
            return value

"""Every statement by which function and worker change a row: one function per transition, guarded in SQL.

Each takes a connection inside a transaction of the caller. A trigger sends the NOTIFY of every transition in the
same transaction (see `docs/decisions/0001-notify-by-trigger.md`). Times are Postgres's own: clocks of workers do
not matter.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db.cleaning import clean, clean_json
from db.models import EVERY_TASK
from dropline.contract import (
    Caption,
    Claim,
    Dimensions,
    ObjectFacts,
    ObjectVersion,
    Status,
    TaskRequest,
    WriteBack,
)


@dataclass(frozen=True, slots=True)
class Registration:
    """What became of an event: the row it stands for."""

    row_id: int
    status: Status
    #: Whether this event made the row.
    created: bool


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else holds the lease of the row."""

    #: Seconds until the lease runs out.
    remaining_s: float


# Events of one object are taken one at a time, or a FINALIZE and its DELETE could miss each other.
_LOCK_OBJECT = text("SELECT pg_advisory_xact_lock(hashtextextended(:bucket || '/' || :name, 0))")

_REGISTER = text("""
    INSERT INTO captions (bucket, object_name, generation, task, status, content_type, size_bytes, md5_hash,
                          crc32c, event_time, error_code, error)
    SELECT :bucket, :name, :generation, :task,
           CASE WHEN newer.found THEN 'superseded' ELSE :status END,
           :content_type, :size_bytes, :md5_hash, :crc32c, :event_time,
           CASE WHEN NOT newer.found THEN :error_code END, CASE WHEN NOT newer.found THEN :error END
    FROM (SELECT EXISTS (SELECT FROM captions WHERE bucket = :bucket AND object_name = :name
                         AND generation > :generation) AS found) AS newer
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

_SUPERSEDE_OLDER = text("""
    UPDATE captions SET status = 'superseded', lease_until = NULL, updated_at = now()
    WHERE bucket = :bucket AND object_name = :name AND generation < :generation AND status IN ('queued', 'running')
""")


def register_object(
    connection: Connection, version: ObjectVersion, facts: ObjectFacts, task: TaskRequest
) -> Registration:
    """Make the row of a finalized object, or find it; older generations still waiting are superseded.

    A generation that is already known to be deleted stays deleted, one with a newer neighbour starts superseded.
    """
    return _register(connection, version, facts, str(task), Status.QUEUED, None, None)


def register_failed(
    connection: Connection, version: ObjectVersion, facts: ObjectFacts, task: str, code: str, error: str
) -> Registration:
    """Make the row of an object that can be refused without looking at its bytes."""
    return _register(connection, version, facts, task, Status.FAILED, code, error)


def _register(
    connection: Connection,
    version: ObjectVersion,
    facts: ObjectFacts,
    task: str,
    status: Status,
    code: str | None,
    error: str | None,
) -> Registration:
    identity = _identity(version)
    connection.execute(_LOCK_OBJECT, {"bucket": version.bucket, "name": version.name})
    values = identity | {"task": task, "status": status.value, "error_code": code, "error": clean(error)}
    created = connection.execute(_REGISTER, values | _facts(facts)).one_or_none()
    if created is not None:
        connection.execute(_SUPERSEDE_OLDER, identity)
        return Registration(created.id, Status(created.status), created=True)
    row = connection.execute(_EXISTING, identity | {"task": task, "every_task": EVERY_TASK}).one_or_none()
    if row is None:  # deleted before, under another task
        row = connection.execute(_ANY_OF_GENERATION, identity).one()
    return Registration(row.id, Status(row.status), created=False)


_ANY_OF_GENERATION = text("""
    SELECT id, 'deleted' AS status FROM captions
    WHERE bucket = :bucket AND object_name = :name AND generation = :generation ORDER BY id LIMIT 1
""")

_TOMBSTONE_ROWS = text("""
    UPDATE captions SET status = 'deleted', lease_until = NULL, updated_at = now()
    WHERE bucket = :bucket AND object_name = :name AND generation = :generation AND status <> 'deleted'
""")

_TOMBSTONE_INSERT = text("""
    INSERT INTO captions (bucket, object_name, generation, task, status)
    SELECT :bucket, :name, :generation, :every_task, 'deleted'
    WHERE NOT EXISTS (SELECT FROM captions WHERE bucket = :bucket AND object_name = :name
                      AND generation = :generation)
    ON CONFLICT (bucket, object_name, generation, task) DO NOTHING
""")


def tombstone(connection: Connection, version: ObjectVersion, *, insert: bool = True) -> None:
    """Note that this generation is gone: its rows become `deleted`, or a tombstone waits for its late FINALIZE.

    Args:
        insert: False where no FINALIZE of this object would make a row, so that none needs a tombstone.
    """
    connection.execute(_LOCK_OBJECT, {"bucket": version.bucket, "name": version.name})
    connection.execute(_TOMBSTONE_ROWS, _identity(version))
    if insert:
        connection.execute(_TOMBSTONE_INSERT, _identity(version) | {"every_task": EVERY_TASK})


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


def claim(connection: Connection, row_id: int, lease_s: float) -> Claim | WriteBack | Busy | None:
    """Take the row: to caption it, or only to write a recorded caption back; None when nothing is left to do."""
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
    return None if remaining is None else Busy(float(remaining))


_RECORD = text("""
    UPDATE captions SET status = 'captioned', caption = :caption, result = :result, model = :model,
           model_revision = :model_revision, width = :width, height = :height, size_bytes = :size_bytes,
           captioned_at = now(), error_code = NULL, error = NULL, updated_at = now(),
           lease_until = CASE WHEN :write_back THEN now() + make_interval(secs => :lease_s) END
    WHERE id = :row_id AND status IN ('running', 'captioned') AND attempts = :attempt
""").bindparams(bindparam("result", type_=JSONB(none_as_null=True)))


def record_caption(
    connection: Connection,
    claim: Claim,
    caption: Caption,
    image: Dimensions,
    *,
    size_bytes: int,
    write_back_lease_s: float | None,
) -> bool:
    """Record what the model said, if this attempt still holds the row; says whether it did.

    The same attempt may record twice: the answer to a COMMIT can be lost.

    Args:
        write_back_lease_s: the lease under which the metadata will be written; None when it will not be.
    """
    values: dict[str, Any] = {
        "row_id": claim.row_id,
        "attempt": claim.attempt,
        "caption": clean(caption.text),
        "result": clean_json(caption.result),
        "model": caption.model,
        "model_revision": caption.model_revision,
        "width": image.width,
        "height": image.height,
        "size_bytes": size_bytes,
        "write_back": write_back_lease_s is not None,
        "lease_s": write_back_lease_s or 0,
    }
    return connection.execute(_RECORD, values).rowcount == 1


_METADATA_DONE = text("""
    UPDATE captions SET lease_until = NULL, updated_at = now(), error_code = :code, error = :error,
           metadata_written_at = CASE WHEN :written THEN now() ELSE metadata_written_at END
    WHERE id = :row_id AND status = 'captioned'
""")


def finish_write_back(
    connection: Connection, row_id: int, *, written: bool, code: str | None = None, note: str | None = None
) -> bool:
    """End the write-back: the metadata holds the caption, or `code` and `note` say why not all of it."""
    values = {"row_id": row_id, "written": written, "code": code, "error": clean(note)}
    return connection.execute(_METADATA_DONE, values).rowcount == 1


_FAIL = text("""
    UPDATE captions SET status = 'failed', error_code = :code, error = :error, lease_until = NULL,
           updated_at = now()
    WHERE id = :row_id AND status = 'running' AND attempts = :attempt
""")

_PUT_BACK = text("""
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

_RELEASE = text("""
    UPDATE captions SET lease_until = now(), updated_at = now()
    WHERE id = :row_id AND lease_until > now() AND status IN ('running', 'captioned')
""")


def fail(connection: Connection, claim: Claim, code: str, error: str) -> bool:
    """Make a dead letter of the row, if this attempt still holds it."""
    values = {"row_id": claim.row_id, "attempt": claim.attempt, "code": code, "error": clean(error)}
    return connection.execute(_FAIL, values).rowcount == 1


def put_back(connection: Connection, claim: Claim, code: str, error: str, *, lost: bool) -> bool:
    """Return the row to the queue after a transient error; `lost` counts towards the attempts that killed."""
    values = {
        "row_id": claim.row_id,
        "attempt": claim.attempt,
        "code": code,
        "error": clean(error),
        "lost": lost,
    }
    return connection.execute(_PUT_BACK, values).rowcount == 1


def supersede(connection: Connection, claim: Claim) -> bool:
    """Note that a newer generation took this one's place before it was captioned."""
    return connection.execute(_SUPERSEDE, {"row_id": claim.row_id, "attempt": claim.attempt}).rowcount == 1


def mark_deleted(connection: Connection, claim: Claim) -> bool:
    """Note that the object was found to be gone, with none in its place; its DELETE may come later."""
    return connection.execute(_MARK_DELETED, {"row_id": claim.row_id, "attempt": claim.attempt}).rowcount == 1


def release_lease(connection: Connection, row_id: int) -> bool:
    """Let the next delivery take over at once from a process that is known to be dead."""
    return connection.execute(_RELEASE, {"row_id": row_id}).rowcount == 1


def _identity(version: ObjectVersion) -> dict[str, Any]:
    return {"bucket": version.bucket, "name": version.name, "generation": version.generation}


def _facts(facts: ObjectFacts) -> dict[str, Any]:
    return {
        "content_type": clean(facts.content_type),
        "size_bytes": facts.size_bytes,
        "md5_hash": facts.md5_hash,
        "crc32c": facts.crc32c,
        "event_time": facts.event_time,
    }

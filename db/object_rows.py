"""The rows of an object version: how events and requests insert, find and end the rows.

Each function takes a connection in a transaction of the caller. A trigger sends the NOTIFY of every transition in
the same transaction (see `docs/decisions/0001-notify-by-trigger.md`).
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, text

from db.models import EVERY_TASK
from db.session import Connection
from db.storable import storable_text
from dropline.contract import ObjectFacts, ObjectVersion, Status, TaskRequest


@dataclass(frozen=True, slots=True)
class RegisteredRow:
    """The row of an event."""

    row_id: int
    status: Status
    #: True if this event inserted the row; False if the row was in the table before.
    created: bool


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
                         AND generation > :generation)
                 OR EXISTS (SELECT FROM captions WHERE bucket = :bucket AND object_name = :name
                            AND generation = :generation AND status = 'superseded') AS found) AS newer
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
           lease_until = CASE WHEN status = 'captioned' AND NOT redo THEN now() ELSE lease_until END
    WHERE bucket = :bucket AND object_name = :name AND generation = :generation AND task = :task AND NOT write_back
      AND status <> 'deleted' AND NOT EXISTS (SELECT FROM captions WHERE bucket = :bucket AND object_name = :name
                      AND generation = :generation AND write_back)
""")

# The index ix_captions_unfinished: an object may have a long history.
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
    parameters = identity(version)
    connection.execute(_LOCK_OBJECT, {"bucket": version.bucket, "name": version.name})
    values = parameters | {"task": task, "status": status.value, "error_code": code, "error": storable_text(error)}
    created = connection.execute(_REGISTER, values | {"own_task": own_task} | _facts(facts)).one_or_none()
    if created is not None:
        connection.execute(_SUPERSEDE_OLDER, parameters)
        return RegisteredRow(created.id, Status(created.status), created=True)
    if own_task:
        connection.execute(_ADOPT, parameters | {"task": task})
    row = connection.execute(_EXISTING, parameters | {"task": task, "every_task": EVERY_TASK}).one_or_none()
    if row is None:  # the generation was deleted before; its row has another task
        row = connection.execute(_ANY_OF_GENERATION, parameters).one()
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
    parameters = identity(version)
    connection.execute(_LOCK_OBJECT, {"bucket": version.bucket, "name": version.name})
    connection.execute(update, parameters)
    if insert:
        connection.execute(_TOMBSTONE_INSERT, parameters | {"every_task": EVERY_TASK, "status": status.value})


def identity(version: ObjectVersion) -> dict[str, Any]:
    """The parameters `bucket`, `name` and `generation` of the statements."""
    return {"bucket": version.bucket, "name": version.name, "generation": version.generation}


def _facts(facts: ObjectFacts) -> dict[str, Any]:
    return {
        "content_type": storable_text(facts.content_type),
        "size_bytes": facts.size_bytes,
        "md5_hash": facts.md5_hash,
        "crc32c": facts.crc32c,
        "event_time": facts.event_time,
    }

"""The rows of an object version: how events and requests insert, find and end the rows.

Each function takes a connection in a transaction of the caller. A trigger sends the NOTIFY of every transition in
the same transaction (see `docs/decisions/0001-notify-by-trigger.md`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, text

from db.models import EVERY_TASK
from db.session import Connection
from db.storable import storable_text
from dropline.contract import ObjectFacts, ObjectVersion, Status, TaskRequest
from dropline.selection import Accept


@dataclass(frozen=True, slots=True)
class RegisteredRow:
    """The row of an event."""

    row_id: int
    status: Status
    #: True if this event inserted the row; False if the row was in the table before.
    created: bool


# Events of one object take turns: if FINALIZE and DELETE arrive at once, the second must see the row of the first.
_LOCK_OBJECT = text("SELECT pg_advisory_xact_lock(hashtextextended(:bucket || '/' || :name, 0))")

# The function is in the migration 0017: one statement is one round trip.
_REGISTER = text("""
    SELECT row_id, row_status, is_created FROM public.register_tasks(
        :bucket, :name, :generation, :tasks, :error_codes, :errors, :own_task,
        :content_type, :size_bytes, :md5_hash, :crc32c, :event_time, :metageneration, :metadata_bytes)
""")

# A person's caption in the metadata answers a task for captions: the model does not run. In one statement with
# the insert; the second function sees the rows of the first, and takes the one written back.
_REGISTER_OWN = text("""
    SELECT row_id, is_created, CASE
        WHEN is_created AND public.adopt_caption(row_id, :own_caption, :event_time) THEN 'captioned'
        ELSE row_status END AS row_status
    FROM public.register_tasks(
        :bucket, :name, :generation, :tasks, :error_codes, :errors, :own_task,
        :content_type, :size_bytes, :md5_hash, :crc32c, :event_time, :metageneration, :metadata_bytes)
""")


def register_tasks(
    connection: Connection, version: ObjectVersion, facts: ObjectFacts, accepted: Accept, *, own_task: bool = True
) -> list[RegisteredRow]:
    """Insert or find the rows of a finalized object, one for each task, then the `failed` row of wrong tasks.

    Unfinished rows of older generations become superseded. A generation with a `deleted` row stays deleted. A
    generation that is archived or not the newest starts as superseded. The row of the first own task is
    captioned at once if the task asks for a caption, and the object has one of a person.

    Args:
        own_task: True for the tasks of the object's metadata or of the rules. The first such row of a generation
            is written back to the metadata; the captions of all other rows are in Postgres alone.
    """
    wrong = accepted.wrong
    rows = [(str(task), None, None) for task in accepted.tasks]
    refused = [] if wrong is None else [(str(wrong.task), wrong.code, wrong.error)]
    has_own_answer = own_task and facts.own_caption is not None and _asks_for_a_caption(accepted)
    statement = _REGISTER_OWN if has_own_answer else _REGISTER
    return _register(connection, version, facts, [*rows, *refused], statement, own_task=own_task)


def _asks_for_a_caption(accepted: Accept) -> bool:
    """True if the caption written back is a description of the image."""
    return bool(accepted.tasks) and accepted.tasks[0].prompt.is_caption


def register_object(
    connection: Connection, version: ObjectVersion, facts: ObjectFacts, task: TaskRequest, *, own_task: bool = True
) -> RegisteredRow:
    """Insert or find the row of one task, as `register_tasks` does."""
    return register_tasks(connection, version, facts, Accept((task,)), own_task=own_task)[0]


def register_failed(
    connection: Connection, version: ObjectVersion, facts: ObjectFacts, task: str, code: str, error: str
) -> RegisteredRow:
    """Insert the `failed` row of an object refused without a download, or find the row."""
    return _register(connection, version, facts, [(task, code, error)], own_task=True)[0]


def _register(
    connection: Connection,
    version: ObjectVersion,
    facts: ObjectFacts,
    rows: Sequence[tuple[str, str | None, str | None]],
    statement: TextClause = _REGISTER,
    *,
    own_task: bool,
) -> list[RegisteredRow]:
    values = {
        "tasks": [task for task, _, _ in rows],
        "error_codes": [code for _, code, _ in rows],
        "errors": [storable_text(error) for _, _, error in rows],
        "own_task": own_task,
    }
    found = connection.execute(statement, identity(version) | values | facts_columns(facts))
    return [RegisteredRow(row.row_id, Status(row.row_status), created=row.is_created) for row in found]


_TOMBSTONE_ROWS = text("""
    UPDATE captions SET status = 'deleted', lease_until = NULL, updated_at = now()
    WHERE bucket = :bucket AND object_name = :name AND generation = :generation AND status <> 'deleted'
""")

# A trigger removes the copy in caption_search.
_ERASE = text("""
    UPDATE captions SET caption = NULL, result = NULL
    WHERE bucket = :bucket AND object_name = :name AND generation = :generation AND status = 'deleted'
      AND (caption IS NOT NULL OR result IS NOT NULL)
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


def tombstone(connection: Connection, version: ObjectVersion, *, insert: bool = True, erase: bool = False) -> None:
    """Record that a generation was deleted: its rows become `deleted`; without a row, insert a tombstone.

    The tombstone keeps a FINALIZE that arrives after the DELETE from queueing a row.

    Args:
        insert: False if a FINALIZE of this object is filtered out anyway, so that no tombstone is needed.
        erase: remove captions and results of the rows.
    """
    _end_generation(connection, version, _TOMBSTONE_ROWS, Status.DELETED, insert=insert)
    if erase:
        connection.execute(_ERASE, identity(version))


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


def facts_columns(facts: ObjectFacts) -> dict[str, Any]:
    """The columns of the facts, by the names of the parameters of `register_caption`."""
    return {
        "content_type": storable_text(facts.content_type),
        "size_bytes": facts.size_bytes,
        "md5_hash": facts.md5_hash,
        "crc32c": facts.crc32c,
        "own_caption": storable_text(facts.own_caption),
        "event_time": facts.event_time,
        "metageneration": None if facts.metadata is None else facts.metadata.metageneration,
        "metadata_bytes": None if facts.metadata is None else facts.metadata.size_bytes,
    }

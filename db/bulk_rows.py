"""Bulk rows: the rows of objects in a full bucket, many in a statement, behind fresh drops.

Each function takes a connection in a transaction of the caller.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import text

from db.object_rows import facts_columns
from db.session import Connection
from db.storable import storable_text
from dropline.contract import ObjectFacts, ObjectVersion, Status, TaskRequest


@dataclass(frozen=True, slots=True)
class BulkRow:
    """A row to insert: as for `register_object` and `register_failed`."""

    version: ObjectVersion
    facts: ObjectFacts
    task: str
    #: With `error`: the row starts as `failed`.
    error_code: str | None = None
    error: str | None = None
    own_task: bool = True

    @property
    def has_own_answer(self) -> bool:
        """Whether the caption of a person in the object's metadata answers the task."""
        is_own = self.own_task and self.error_code is None and self.facts.own_caption is not None
        return is_own and TaskRequest.parse(self.task).prompt.is_caption

    def document(self) -> dict[str, Any]:
        """The columns, for `register_captions`."""
        return {
            "name": self.version.name,
            "generation": self.version.generation,
            "task": self.task,
            "status": (Status.QUEUED if self.error_code is None else Status.FAILED).value,
            "error_code": self.error_code,
            "error": storable_text(self.error),
            "own_task": self.own_task,
            **facts_columns(self.facts),
        }


@dataclass(frozen=True, slots=True)
class Registered:
    """The result of a batch."""

    #: Inserted rows for a worker.
    queued: int = 0
    #: Inserted rows with the caption of a person, from the object's metadata.
    adopted: int = 0
    #: Inserted rows of objects refused without a download.
    failed: int = 0
    #: Objects of a generation deleted, archived or overwritten before.
    ended: int = 0
    #: Bytes of the objects of `queued`.
    queued_bytes: int = 0
    #: Smallest and largest id of the inserted rows; None without one.
    first_id: int | None = None
    last_id: int | None = None
    first_queued_id: int | None = None

    @property
    def total(self) -> int:
        """Objects without a row before."""
        return self.queued + self.adopted + self.failed + self.ended


_REGISTER = text("SELECT * FROM public.register_captions(:bucket, CAST(:objects AS jsonb))")


def register(connection: Connection, bucket: str, rows: Sequence[BulkRow]) -> Registered:
    """Insert the missing rows of a bucket, with priority 2.

    The rules for each row are an event's: see `db.object_rows.register_tasks`. Existing rows stay as they
    are, and take no lock.
    """
    found = connection.execute(_REGISTER, {"bucket": bucket, "objects": _json_of(rows)}).mappings().one()
    registered = Registered(**found)
    answered = [row for row in rows if row.has_own_answer]
    return _adopt(connection, bucket, answered, registered) if answered and registered.queued else registered


# In a single statement for all rows. The new rows have ids from the first id on.
_ADOPT = text("""
    WITH adopted AS MATERIALIZED (
        SELECT captions.size_bytes, public.adopt_caption(captions.id, each.caption, NULL) AS is_adopted
        FROM jsonb_to_recordset(CAST(:objects AS jsonb))
             AS each (name text, generation bigint, task text, caption text)
        JOIN captions ON captions.bucket = :bucket AND captions.object_name = each.name
                         AND captions.generation = each.generation AND captions.task = each.task
        WHERE captions.id BETWEEN :first_id AND :last_id AND captions.status = 'queued')
    SELECT count(*) AS rows, coalesce(sum(size_bytes), 0)::bigint AS bytes FROM adopted WHERE is_adopted
""")


def _adopt(connection: Connection, bucket: str, rows: Sequence[BulkRow], registered: Registered) -> Registered:
    """Let the captions of people in the metadata answer the new rows, as at an event."""
    captions = [
        {
            "name": row.version.name,
            "generation": row.version.generation,
            "task": row.task,
            "caption": storable_text(row.facts.own_caption),
        }
        for row in rows
    ]
    values = {
        "objects": json.dumps(captions),
        "bucket": bucket,
        "first_id": registered.first_id,
        "last_id": registered.last_id,
    }
    found = connection.execute(_ADOPT, values).one()
    return replace(
        registered,
        queued=registered.queued - found.rows,
        adopted=found.rows,
        queued_bytes=registered.queued_bytes - found.bytes,
    )


# `register_caption` looks for the same deleted rows.
_MISSING = text("""
    SELECT number FROM jsonb_to_recordset(CAST(:objects AS jsonb))
         AS each (number integer, name text, generation bigint, task text)
    WHERE NOT EXISTS (SELECT FROM captions WHERE bucket = :bucket AND object_name = each.name
                      AND generation = each.generation AND (captions.task = each.task OR status = 'deleted'))
""")


def missing(connection: Connection, bucket: str, rows: Sequence[BulkRow]) -> list[BulkRow]:
    """The rows `register` would insert; reads alone."""
    keys = [
        {"number": number, "name": row.version.name, "generation": row.version.generation, "task": row.task}
        for number, row in enumerate(rows)
    ]
    found = connection.execute(_MISSING, {"bucket": bucket, "objects": json.dumps(keys)})
    return [rows[number] for number in sorted(found.scalars())]


_WITH_ROWS = text("""
    SELECT name, generation FROM jsonb_to_recordset(CAST(:objects AS jsonb)) AS each (name text, generation bigint)
    WHERE EXISTS (SELECT FROM captions WHERE bucket = :bucket AND object_name = each.name
                  AND captions.generation = each.generation)
""")


def with_rows(connection: Connection, bucket: str, versions: Iterable[ObjectVersion]) -> set[ObjectVersion]:
    """The object versions with a row, among those of a bucket: of any task, in any status."""
    keys = [{"name": version.name, "generation": version.generation} for version in versions]
    found = connection.execute(_WITH_ROWS, {"bucket": bucket, "objects": json.dumps(keys)})
    return {ObjectVersion(bucket, row.name, row.generation) for row in found}


def _json_of(rows: Sequence[BulkRow]) -> str:
    return json.dumps([row.document() for row in rows], default=_time_text)


def _time_text(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()

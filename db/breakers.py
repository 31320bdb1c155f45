"""The open breakers of the workers, in the table `workers`, the attempts given back, and the reference images.

Each function takes a connection in a transaction of the caller. See `worker.breaker`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from db.session import Connection
from dropline.contract import ObjectVersion, TaskRequest


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """The open breaker of a worker."""

    #: As in the table `workers`.
    name: str
    host: str
    open_since: datetime
    #: A sentence for people.
    reason: str

    def document(self) -> dict[str, Any]:
        """The fields by name."""
        return {"name": self.name, "host": self.host, "open_since": self.open_since, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Reference:
    """An image that a model has captioned: an engine with this model should caption it again."""

    row_id: int
    version: ObjectVersion
    task: TaskRequest


_RECORD = text("""
    UPDATE workers SET breaker_reason = CAST(:reason AS text), breaker_open_since =
           CASE WHEN CAST(:reason AS text) IS NULL THEN NULL ELSE COALESCE(breaker_open_since, now()) END
    WHERE name = :name
""")
_FIND = text("""
    SELECT name, host, breaker_open_since AS open_since, breaker_reason AS reason FROM workers
    WHERE breaker_open_since IS NOT NULL AND stopped_at IS NULL ORDER BY id
""")
# A row set aside by the death of an engine is queued again; a row with an old caption is to be redone.
_GIVE_BACK = text("""
    UPDATE captions SET lost_attempts = GREATEST(0, lost_attempts - given.attempts), updated_at = now(),
           status = CASE WHEN status = 'failed' THEN 'queued' ELSE status END, redo = redo OR status = 'captioned',
           redo_failed_at = NULL, lease_until = CASE WHEN redo OR status <> 'captioned' THEN lease_until END
    FROM unnest(CAST(:ids AS bigint[]), CAST(:attempts AS bigint[])) AS given (id, attempts)
    WHERE captions.id = given.id
          AND (status IN ('queued', 'running') OR (status = 'captioned' AND redo) OR
               (status IN ('failed', 'captioned') AND error_code = 'engine_lost'))
""")

# A few of the newest: the index has the time alone.
_FIND_REFERENCE = text("""
    SELECT id, bucket, object_name, generation, task FROM (
        SELECT * FROM captions WHERE captioned_at IS NOT NULL ORDER BY captioned_at DESC LIMIT 100
    ) AS newest
    WHERE status = 'captioned' AND NOT redo AND error_code IS NULL AND copied_from IS NULL
          AND model = :model AND model_revision = :revision
    ORDER BY captioned_at DESC LIMIT 1
""")


def record(connection: Connection, name: str, reason: str | None) -> None:
    """Record why and since when the breaker of a worker is open; None: closed."""
    connection.execute(_RECORD, {"name": name, "reason": reason})


def find_open(connection: Connection) -> list[OpenBreaker]:
    """The open breakers of workers without `stopped_at`: running or killed workers."""
    return [OpenBreaker(**row) for row in connection.execute(_FIND).mappings()]


def give_back(connection: Connection, lost_attempts: Mapping[int, int]) -> None:
    """Undo the count of lost attempts, where the engine was at fault: the number by row."""
    if lost_attempts:
        values = {"ids": list(lost_attempts), "attempts": list(lost_attempts.values())}
        connection.execute(_GIVE_BACK, values)


def find_reference(connection: Connection, model: str, revision: str) -> Reference | None:
    """An image that the model has captioned lately, not copied from another row; None: there is none."""
    found = connection.execute(_FIND_REFERENCE, {"model": model, "revision": revision}).one_or_none()
    if found is None:
        return None
    version = ObjectVersion(found.bucket, found.object_name, found.generation)
    return Reference(found.id, version, TaskRequest.parse(found.task))

"""The table `workers`: a row for each start of a worker, for people and for the gallery.

The table does not decide whether a worker is alive: see `operations.workers`. Where Redis does not list the
workers, `is_any_active` is the next best answer. Each function takes a connection in a transaction of the caller.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import text

from db.session import Connection

#: Rows kept: as many as the largest worker pool has instances.
KEPT_ROWS = 1000


@dataclass(frozen=True, slots=True)
class NewWorker:
    """A worker that is ready; `db.models.WorkerRow` describes each column."""

    name: str
    host: str
    model: str
    model_revision: str
    device: str
    largest_batch: int


@dataclass(frozen=True, slots=True)
class WorkerRecord(NewWorker):
    """A row of the table `workers`."""

    started_at: datetime
    stopped_at: datetime | None

    def document(self) -> dict[str, Any]:
        """The columns by name."""
        return _columns_of(self)


def _columns_of(worker: NewWorker) -> dict[str, Any]:
    return {field.name: getattr(worker, field.name) for field in fields(worker)}


# Named columns, so that a later migration may add one while this version runs.
_NEW_COLUMNS = ", ".join(field.name for field in fields(NewWorker))
_COLUMNS = ", ".join(field.name for field in fields(WorkerRecord))

# A second insert of the same worker follows a commit whose answer was lost.
_INSERT = text(f"""
    INSERT INTO workers ({_NEW_COLUMNS}, started_at)
    VALUES ({", ".join(f":{field.name}" for field in fields(NewWorker))}, now() - make_interval(secs => :ready_s))
    ON CONFLICT (name) DO NOTHING
""")  # noqa: S608 - the names of fields
_REMOVE = text("DELETE FROM workers WHERE id <= (SELECT max(id) FROM workers) - :kept")
_STOP = text("UPDATE workers SET stopped_at = clock_timestamp() WHERE name = :name")
# The latest attempts: of the newest captions, and of the rows under a lease. Both have an index.
_ANY_ACTIVE = text("""
    WITH latest AS (
        (SELECT claimed_by, started_at FROM captions WHERE captioned_at IS NOT NULL
         ORDER BY captioned_at DESC LIMIT 100)
        UNION ALL
        SELECT claimed_by, started_at FROM captions WHERE lease_until IS NOT NULL AND claimed_by IS NOT NULL),
    begun AS (
        SELECT split_part(claimed_by, '/', 1) AS name FROM latest
        WHERE started_at > now() - make_interval(secs => :within_s))
    SELECT EXISTS (
        SELECT FROM workers WHERE stopped_at IS NULL
        AND (started_at > now() - make_interval(secs => :within_s) OR name IN (SELECT name FROM begun)))
""")
_NEWEST = text(f"SELECT {_COLUMNS} FROM workers ORDER BY id DESC LIMIT 1")  # noqa: S608 - the names of fields


def insert(connection: Connection, worker: NewWorker, ready_s: float) -> None:
    """Insert the row of a worker that became ready `ready_s` seconds ago; all but `KEPT_ROWS` rows are deleted."""
    connection.execute(_INSERT, _columns_of(worker) | {"ready_s": ready_s})
    connection.execute(_REMOVE, {"kept": KEPT_ROWS})


def set_stopped(connection: Connection, name: str) -> None:
    """Set `stopped_at` of a worker to the present time; no effect without the row."""
    connection.execute(_STOP, {"name": name})


def is_any_active(connection: Connection, within_s: float) -> bool:
    """Whether a worker without `stopped_at` has become ready, or begun an image, in the last `within_s` seconds.

    A row without `stopped_at` alone says little: a killed worker leaves one.
    """
    found: bool = connection.execute(_ANY_ACTIVE, {"within_s": within_s}).scalar_one()
    return found


def newest(connection: Connection) -> WorkerRecord | None:
    """The worker that started last; None if no worker has started yet."""
    found = connection.execute(_NEWEST).mappings().one_or_none()
    return None if found is None else WorkerRecord(**found)

"""The rows of objects a person asks about: the object's own task, or a further task.

Like the functions of `db.object_rows`, each function takes a connection in a transaction of the caller.
"""

from dataclasses import dataclass

from sqlalchemy import text

from db import object_rows
from db.object_rows import identity
from db.session import Connection
from dropline.contract import ObjectFacts, ObjectVersion, Status, TaskRequest


@dataclass(frozen=True, slots=True)
class RequestedRow:
    """The row of a request."""

    row_id: int
    #: As in the column `task`.
    task: str
    status: Status


# Rows from before revision 0004 are all written back: the first of them has the object's own task.
_OWN = text("""
    SELECT id, task, status FROM captions
    WHERE bucket = :bucket AND object_name = :name AND generation = :generation AND write_back AND task <> '*'
    ORDER BY id LIMIT 1
""")
_ROW_OF_TASK = text("""
    SELECT id, task, status FROM captions
    WHERE bucket = :bucket AND object_name = :name AND generation = :generation AND task = :task
""")
# The row has the usual task in place of the invalid one of the metadata, and now a person asks for the usual task.
_ANSWER_AFTER_ALL = text("""
    UPDATE captions SET status = 'queued', write_back = false, error_code = NULL, error = NULL, queued_at = now(),
           updated_at = now()
    WHERE id = :row_id AND status = 'failed' AND error_code = 'invalid_task'
    RETURNING status
""")


def own_row(connection: Connection, version: ObjectVersion) -> RequestedRow | None:
    """The row written back to the object's metadata; None without one."""
    row = connection.execute(_OWN, identity(version)).one_or_none()
    return None if row is None else RequestedRow(row.id, row.task, Status(row.status))


def row_of_task(connection: Connection, version: ObjectVersion, task: str) -> RequestedRow | None:
    """The row of one task of an object version; None without one."""
    row = connection.execute(_ROW_OF_TASK, identity(version) | {"task": task}).one_or_none()
    return None if row is None else RequestedRow(row.id, row.task, Status(row.status))


def request_row(
    connection: Connection, version: ObjectVersion, facts: ObjectFacts, task: TaskRequest, *, own_task: bool
) -> RequestedRow:
    """Insert the row of a request, or find the row; see `db.object_rows.register_object`."""
    found = object_rows.register_object(connection, version, facts, task, own_task=own_task)
    status = connection.execute(_ANSWER_AFTER_ALL, {"row_id": found.row_id}).scalar()
    return RequestedRow(found.row_id, str(task), Status(status) if status else found.status)

"""The function's side of Postgres: one short transaction per event, within the request's deadline."""

from collections.abc import Callable
from typing import TypeVar

from db import queries
from db.queries import RegisteredRow
from db.session import Connection, Database
from dropline.contract import TaskRequest
from dropline.deadline import Bulkhead, Deadline
from dropline.errors import DatabaseUnavailable
from dropline.selection import Reject
from dropline.settings import DatabaseSettings
from trigger_fn.events import ObjectEvent

T = TypeVar("T")


class Ledger:
    """Rows in `captions`; every method commits before it returns.

    Raises (every method):
        DatabaseUnavailable: Postgres is away, or the deadline has passed; the row may or may not be there.
    """

    def __init__(self, database: Database, bulkhead: Bulkhead) -> None:
        self._database = database
        self._bulkhead = bulkhead

    @classmethod
    def connect(cls, settings: DatabaseSettings) -> "Ledger":
        """A ledger with `pool_size` connections at most; connects on first use.

        Raises:
            SettingsError: no URL is set, or it is not one of Postgres.
        """
        return cls(Database.connect(settings, "dropline-function"), Bulkhead("postgres", settings.pool_size))

    def register(self, event: ObjectEvent, task: TaskRequest, deadline: Deadline) -> RegisteredRow:
        """Make or find the row of an object that is to be captioned."""
        return self._commit(
            lambda connection: queries.register_object(connection, event.version, event.facts, task), deadline
        )

    def reject(self, event: ObjectEvent, verdict: Reject, deadline: Deadline) -> RegisteredRow:
        """Make or find the row of an object that is refused at once."""
        task, code, error = str(verdict.task), verdict.code, verdict.error
        return self._commit(
            lambda connection: queries.register_failed(connection, event.version, event.facts, task, code, error),
            deadline,
        )

    def record_deletion(self, event: ObjectEvent, *, expected: bool, deadline: Deadline) -> None:
        """Mark the rows of a deleted generation; where its FINALIZE may still come, leave a tombstone for it."""
        self._commit(lambda connection: queries.tombstone(connection, event.version, insert=expected), deadline)

    def close(self) -> None:
        """Let go of all threads and connections."""
        self._bulkhead.close()
        self._database.close()

    def _commit(self, statement: Callable[[Connection], T], deadline: Deadline) -> T:
        def work() -> T:
            with self._database.transaction() as connection:
                return statement(connection)

        late = DatabaseUnavailable("Postgres did not answer within the time that a request may take")
        return self._bulkhead.run(work, deadline, late)

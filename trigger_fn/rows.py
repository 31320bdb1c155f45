"""The rows of `captions`, as the function writes them: a short transaction per event, within the deadline.

An ordinary event is one statement, which is a transaction by itself: one round trip to Postgres.
"""

from collections.abc import Callable
from typing import TypeVar

from db import filtered, object_rows
from db.object_rows import RegisteredRow
from db.session import Connection, Database
from db.start_check import INGEST
from dropline.contract import FilterReason
from dropline.deadline import Bulkhead, Deadline
from dropline.errors import DatabaseUnavailable
from dropline.selection import Accept, Reject
from dropline.settings import DatabaseSettings
from trigger_fn.events import ObjectEvent

T = TypeVar("T")


class CaptionRows:
    """Rows of `captions`; every method commits before returning.

    Raises (every method):
        DatabaseUnavailable: Postgres is unavailable, or the deadline has passed; the row may exist.
    """

    def __init__(self, database: Database, bulkhead: Bulkhead, *, erase: bool) -> None:
        self._database = database
        self._bulkhead = bulkhead
        self._erase = erase

    @classmethod
    def connect(cls, settings: DatabaseSettings, *, erase: bool) -> "CaptionRows":
        """Rows over at most `pool_size` connections; connects on first use.

        Args:
            settings: of Postgres.
            erase: remove captions and results of a deleted generation.

        Raises:
            SettingsError: the URL is missing, or is not a Postgres URL.
        """
        database = Database.connect(settings, "dropline-function", INGEST)
        return cls(database, Bulkhead("postgres", settings.pool_size), erase=erase)

    def check(self, deadline: Deadline) -> None:
        """Log in, where no connection is open; the first connection is checked (`db.start_check`).

        Raises:
            SettingsError, AccessDenied, SchemaOutdated: the database or the login is the wrong one.
        """
        self._commit(lambda _connection: None, deadline)

    def register(self, event: ObjectEvent, accepted: Accept, deadline: Deadline) -> list[RegisteredRow]:
        """Insert or find the rows of an accepted object, one for each task, then that of its wrong tasks."""
        return self._run(
            lambda connection: object_rows.register_tasks(connection, event.version, event.facts, accepted),
            deadline,
        )

    def reject(self, event: ObjectEvent, verdict: Reject, deadline: Deadline) -> RegisteredRow:
        """Insert or find the `failed` row of a rejected object."""
        task, code, error = str(verdict.task), verdict.code, verdict.error
        return self._run(
            lambda connection: object_rows.register_failed(
                connection, event.version, event.facts, task, code, error
            ),
            deadline,
        )

    def record_deletion(self, event: ObjectEvent, *, expected: bool, deadline: Deadline) -> None:
        """Mark the rows of a deleted generation; `expected`: insert a tombstone if no row exists yet."""
        self._commit(
            lambda connection: object_rows.tombstone(
                connection, event.version, insert=expected, erase=self._erase
            ),
            deadline,
        )

    def record_archival(self, event: ObjectEvent, *, expected: bool, deadline: Deadline) -> None:
        """Mark the rows of a generation that is no longer live; `expected`: as of `record_deletion`."""
        self._commit(lambda connection: object_rows.archive(connection, event.version, insert=expected), deadline)

    def count_filtered(self, event: ObjectEvent, reason: FilterReason, deadline: Deadline) -> None:
        """Count the event of a filtered object, and notify listeners."""
        self._run(lambda connection: filtered.count(connection, event.version, reason), deadline)

    def close(self) -> None:
        """End all threads and close all connections."""
        self._bulkhead.close()
        self._database.close()

    def _run(self, statement: Callable[[Connection], T], deadline: Deadline) -> T:
        """Run a single statement, which commits by itself."""

        def work() -> T:
            with self._database.statement() as connection:
                return statement(connection)

        return self._within(work, deadline)

    def _commit(self, statements: Callable[[Connection], T], deadline: Deadline) -> T:
        """Run several statements in one transaction."""

        def work() -> T:
            with self._database.transaction() as connection:
                return statements(connection)

        return self._within(work, deadline)

    def _within(self, work: Callable[[], T], deadline: Deadline) -> T:
        late = DatabaseUnavailable("Postgres did not answer within the time that a request may take")
        return self._bulkhead.run(work, deadline, late)

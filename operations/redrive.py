"""Redrive: queues given-up rows again in batches: rows first, then their messages, then workers are woken."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from db import reads
from db.redrivable import DEAD_LETTERS, UNWRITTEN_ROWS, Redrivable, RedrivenRow, RowFilter
from db.session import Connection, Database, writer_settings
from db.start_check import OPERATOR
from dropline.broker.queue import CaptionQueue
from dropline.deadline import Deadline
from dropline.errors import (
    AccessDenied,
    DatabaseReadOnly,
    DatabaseUnavailable,
    DroplineError,
    SchemaOutdated,
    TransientError,
)
from dropline.scaling.activation import open_activator
from dropline.settings import Settings
from operations.interrupts import Interrupts

#: Rows per transaction: the most rows without a message after a redrive is killed.
BATCH = 500
#: Deadline of one message, in seconds; the timeouts of the Redis connection are shorter.
_ENQUEUE_S = 10.0
#: Counting all rows of a large table may take longer than the transaction of an event.
_STATEMENT_TIMEOUT_MS = 30_000
#: Longest pause between two calls to scale the worker pool up.
_LONGEST_PAUSE_S = 15.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of rows to redrive, with words for messages to the user."""

    rows: Redrivable
    #: An adjective for such rows.
    name: str
    #: The reason to leave out rows with `rows.excluded_codes`, and the remedy.
    why_excluded: str


FAILED = Kind(
    DEAD_LETTERS,
    "failed",
    "such rows are not sent again: they have the default task instead of the requested one; correct the object's "
    "caption-task and upload it again",
)
UNWRITTEN = Kind(
    UNWRITTEN_ROWS,
    "unwritten",
    "such rows are not sent again: the captioned version of the object no longer exists; the row has the caption",
)


@dataclass
class Redriver:
    """Redrives rows of one kind. Two redrives at the same time take different rows."""

    kind: Kind
    database: Database
    #: Enqueues a row by its id; raises BrokerUnavailable.
    enqueue: Callable[[int], None]
    #: Scales the worker pool up from zero; returns when Cloud Run has accepted the call.
    wake: Callable[[], None]
    #: Called after each batch with the number of redriven rows so far.
    on_progress: Callable[[int], None] = lambda _redriven: None
    #: Deferred between the commit of a batch and the first moment at which the batch can be undone.
    interrupts: Interrupts = field(default_factory=Interrupts)
    #: Numbers of redriven rows by their error code before the redrive.
    redriven: Counter[str] = field(default_factory=Counter)

    def count(self, row_filter: RowFilter) -> dict[str, int]:
        """Rows of this kind by error code.

        Raises:
            DatabaseUnavailable: Postgres is unreachable.
            AccessDenied: the login may not read the rows.
        """
        with _operator_transaction(self.database) as connection:
            return self.kind.rows.count(connection, row_filter)

    def count_redrivable(self, row_filter: RowFilter, limit: int | None) -> dict[str, int]:
        """Rows that `redrive` would queue, by error code; raises the errors of `count`."""
        with _operator_transaction(self.database) as connection:
            return self.kind.rows.count_redrivable(connection, row_filter, limit)

    def redrive(self, row_filter: RowFilter, limit: int | None) -> None:
        """Redrive each row once, `limit` rows at most; a row that fails again during the redrive stays failed.

        If the messages of a batch cannot be sent, the redrive of its rows is undone, except for rows already
        claimed by a worker; `redriven` counts the others.

        Raises:
            DatabaseUnavailable: Postgres is unreachable.
            BrokerUnavailable: Redis is unreachable, or refuses writes.
            TransientError, ScalingDenied: the worker pool could not be scaled up.
            AccessDenied: the login may not change the rows.
        """
        after: int | None = 0
        while after is not None:
            after = self._next_batch(row_filter, after, limit)
        self._wake_for_unfinished_rows()

    def _wake_for_unfinished_rows(self) -> None:
        """Start a worker: its recovery enqueues rows left without a message by a redrive that was killed."""
        with _operator_transaction(self.database) as connection:
            unfinished = reads.has_unfinished_rows(connection)
        if unfinished:
            self.wake()

    def _next_batch(self, row_filter: RowFilter, after: int, limit: int | None) -> int | None:
        """The id of the last row of the batch; None if no row is left."""
        with self.interrupts.held() as release:
            batch = self._redrive_rows(row_filter, after, limit)
            if not batch:
                return None
            self._enqueue(batch, release)
        self.on_progress(self.redriven.total())
        return batch[-1].row_id

    def _redrive_rows(self, row_filter: RowFilter, after: int, limit: int | None) -> list[RedrivenRow]:
        size = BATCH if limit is None else min(BATCH, limit - self.redriven.total())
        if size <= 0:
            return []
        try:
            with _operator_transaction(self.database) as connection:
                return self.kind.rows.redrive(connection, row_filter, after, size)
        except (DatabaseReadOnly, SchemaOutdated):
            raise  # no row was changed
        except DatabaseUnavailable as error:
            raise DatabaseUnavailable(f"{error}; {_without_message(size)}") from error

    def _enqueue(self, batch: Sequence[RedrivenRow], release_interrupts: Callable[[], None]) -> None:
        try:
            release_interrupts()
            for row in batch:
                self.enqueue(row.row_id)
            self.wake()
        except DroplineError as error:
            raise type(error)(f"{error}; {self._undo(batch)}", code=error.code) from error
        except BaseException:
            self._undo(batch)
            raise
        self.redriven.update(row.error_code for row in batch)

    def _undo(self, batch: Sequence[RedrivenRow]) -> str:
        try:
            with self.interrupts.held(), _operator_transaction(self.database) as connection:
                undone = self.kind.rows.undo_redrive(connection, batch)
        except DatabaseUnavailable:
            return _without_message(len(batch))
        self.redriven.update(row.error_code for row in batch if row.row_id not in undone)
        return f"{len(undone)} rows that were to be sent are {self.kind.name} again, as before; repeat the redrive"


@contextmanager
def open_redriver(
    settings: Settings, kind: Kind, on_progress: Callable[[int], None], on_wait: Callable[[str], None]
) -> Iterator[Redriver]:
    """A redriver; its connections are opened on first use.

    Args:
        settings: with Postgres, Redis and, for scale to zero, the worker pool.
        kind: of the rows.
        on_progress: called after each batch with the number of redriven rows so far.
        on_wait: called before each pause with the reason for the pause.

    Raises:
        SettingsError: a setting is missing or wrong.
        AccessDenied: a worker pool is configured, and no credentials for Cloud Run were found.
    """
    writer = writer_settings(settings)
    statement_timeout_ms = max(writer.statement_timeout_ms, _STATEMENT_TIMEOUT_MS)
    operator = writer.model_copy(update={"statement_timeout_ms": statement_timeout_ms})
    with (
        closing(CaptionQueue.connect(settings.broker)) as queue,
        open_activator(settings.pool, settings.broker) as activator,
        closing(Database.connect(operator, "dropline-redrive", OPERATOR, connections=1)) as database,
    ):

        def enqueue(row_id: int) -> None:
            queue.enqueue(row_id, Deadline.after(_ENQUEUE_S))

        def wake() -> None:
            if activator is not None:
                # A worker that scales the worker pool to zero holds the mark for `lease_s`, and may renew the mark
                # once.
                wake_with_retries(activator.ensure_awake, 2 * settings.pool.lease_s, on_wait)

        yield Redriver(kind, database, enqueue, wake, on_progress)


def wake_with_retries(
    wake: Callable[[], None],
    retry_for_s: float,
    on_wait: Callable[[str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Scale the worker pool up; repeat after a transient error, for `retry_for_s` seconds at most.

    Raises:
        TransientError: the last call failed.
        ScalingDenied: every call will fail until an operator has corrected the deployment.
    """
    deadline = clock() + retry_for_s
    pause_s = 1.0
    while True:
        try:
            return wake()
        except TransientError as error:
            if clock() + pause_s > deadline:
                raise
            on_wait(f"{error}; trying again in {pause_s:g} s")
        sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


@contextmanager
def _operator_transaction(database: Database) -> Iterator[Connection]:
    try:
        with database.transaction() as connection:
            yield connection
    except AccessDenied as error:
        raise AccessDenied(
            f"{error}; set DROPLINE_DATABASE__URL to the login of the function, which has the role dropline_ingest"
        ) from error


def _without_message(most: int) -> str:
    return (
        f"as many as {most} rows may be queued without a message: repeat the redrive, which queues all other rows "
        "and wakes the workers; a worker enqueues these rows when it starts, reconnects or is idle"
    )

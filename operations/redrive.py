"""Rows back into the queue, a batch at a time: rows first, then messages, then the workers are woken."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from db import reads
from db.redrivable import DEAD_LETTERS, UNWRITTEN_ROWS, Redrivable, RedrivenRow, RowFilter
from db.session import Connection, Database, writer_settings
from dropline.broker.queue import CaptionQueue
from dropline.deadline import Deadline
from dropline.errors import (
    AccessDenied,
    DatabaseReadOnly,
    DatabaseUnavailable,
    DroplineError,
    TransientError,
)
from dropline.scaling.activation import open_activator
from dropline.settings import Settings
from operations.interrupts import Interrupts

#: Rows per transaction, and the most that a command killed outright leaves without a message.
BATCH = 500
#: One message; Redis's own timeouts are shorter.
_ENQUEUE_S = 10.0
#: An operator waits longer for a count of all rows than an event may.
_STATEMENT_TIMEOUT_MS = 30_000
_LONGEST_PAUSE_S = 15.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What is sent again, and how it is spoken of."""

    rows: Redrivable
    #: What such a row is, in a word.
    name: str
    #: Why rows with certain codes are not sent, and what to do instead.
    why_excluded: str


FAILED = Kind(
    DEAD_LETTERS,
    "failed",
    "such rows are not sent again, for they would get a caption that nobody asked for; correct the object's "
    "caption-task and upload it again",
)
UNWRITTEN = Kind(
    UNWRITTEN_ROWS,
    "unwritten",
    "such rows are not sent again, for the version of the object that the caption is about is there no more; "
    "the row has the caption",
)


@dataclass
class Redriver:
    """Sends rows of one kind again. Two at once take different rows."""

    kind: Kind
    database: Database
    #: Puts a row on the broker; raises BrokerUnavailable.
    enqueue: Callable[[int], None]
    #: Returns when workers are on their way.
    wake: Callable[[], None]
    #: Told how many rows are done, after each batch.
    report: Callable[[int], None] = lambda _done: None
    #: Held back between the commit of a batch and the moment at which it can be taken back.
    interrupts: Interrupts = field(default_factory=Interrupts)
    #: Rows sent so far, by the error code they had.
    redriven: Counter[str] = field(default_factory=Counter)

    def count(self, row_filter: RowFilter) -> dict[str, int]:
        """Rows of this kind by error code.

        Raises:
            DatabaseUnavailable: Postgres is away.
            AccessDenied: the login may not read the rows.
        """
        with _operator_transaction(self.database) as connection:
            return self.kind.rows.count(connection, row_filter)

    def count_redrivable(self, row_filter: RowFilter, limit: int | None) -> dict[str, int]:
        """What `redrive` would send, by error code; raises as `count` does."""
        with _operator_transaction(self.database) as connection:
            return self.kind.rows.count_redrivable(connection, row_filter, limit)

    def redrive(self, row_filter: RowFilter, limit: int | None) -> None:
        """Send each row once, `limit` at most; rows that fail again meanwhile stay so.

        When a batch cannot be sent, its rows become what they were, but for those that a worker has taken already;
        `redriven` has what was sent.

        Raises:
            DatabaseUnavailable: Postgres is away.
            BrokerUnavailable: Redis is away, or takes nothing.
            TransientError, ScalingDenied: the workers could not be woken.
            AccessDenied: the login may not change the rows.
        """
        after: int | None = 0
        while after is not None:
            after = self._next_batch(row_filter, after, limit)
        self._wake_for_those_left_behind()

    def _wake_for_those_left_behind(self) -> None:
        """Rows of a redrive that was killed are of no kind any more; a worker that starts enqueues them."""
        with _operator_transaction(self.database) as connection:
            unfinished = reads.has_unfinished_rows(connection)
        if unfinished:
            self.wake()

    def _next_batch(self, row_filter: RowFilter, after: int, limit: int | None) -> int | None:
        """The id of its last row; None where nothing was left."""
        with self.interrupts.held() as release:
            batch = self._queue(row_filter, after, limit)
            if not batch:
                return None
            self._send(batch, release)
        self.report(self.redriven.total())
        return batch[-1].row_id

    def _queue(self, row_filter: RowFilter, after: int, limit: int | None) -> list[RedrivenRow]:
        size = BATCH if limit is None else min(BATCH, limit - self.redriven.total())
        if size <= 0:
            return []
        try:
            with _operator_transaction(self.database) as connection:
                return self.kind.rows.redrive(connection, row_filter, after, size)
        except DatabaseUnavailable as error:
            raise DatabaseUnavailable(f"{error}; {_left_behind(size)}") from error

    def _send(self, batch: Sequence[RedrivenRow], release_interrupts: Callable[[], None]) -> None:
        try:
            release_interrupts()
            for row in batch:
                self.enqueue(row.row_id)
            self.wake()
        except DroplineError as error:
            raise type(error)(f"{error}; {self._take_back(batch)}", code=error.code) from error
        except BaseException:
            self._take_back(batch)
            raise
        self.redriven.update(row.error_code for row in batch)

    def _take_back(self, batch: Sequence[RedrivenRow]) -> str:
        try:
            with self.interrupts.held(), _operator_transaction(self.database) as connection:
                as_before = self.kind.rows.undo_redrive(connection, batch)
        except DatabaseUnavailable:
            return _left_behind(len(batch))
        self.redriven.update(row.error_code for row in batch if row.row_id not in as_before)
        return (
            f"{len(as_before)} rows that were to be sent are {self.kind.name} again, as before; "
            "run the same command again"
        )


@contextmanager
def open_redriver(
    settings: Settings, kind: Kind, report: Callable[[int], None], note: Callable[[str], None]
) -> Iterator[Redriver]:
    """A redriver that connects on first use.

    Args:
        settings: with Postgres, Redis and, where it may sleep, the worker pool.
        kind: of the rows.
        report: told how many rows are done, after each batch.
        note: told why it waits.

    Raises:
        SettingsError: a setting is missing or wrong.
        AccessDenied: there is a worker pool to wake, and there are no credentials to do it with.
    """
    writer = writer_settings(settings)
    statement_timeout_ms = max(writer.statement_timeout_ms, _STATEMENT_TIMEOUT_MS)
    patient = writer.model_copy(update={"statement_timeout_ms": statement_timeout_ms})
    with (
        closing(CaptionQueue.connect(settings.broker)) as queue,
        open_activator(settings.pool, settings.broker) as activator,
        closing(Database.connect(patient, "dropline-redrive", connections=1)) as database,
    ):

        def enqueue(row_id: int) -> None:
            queue.enqueue(row_id, Deadline.after(_ENQUEUE_S))

        def wake() -> None:
            if activator is not None:
                # A worker that is putting the pool to sleep holds its mark for `lease_s`, and may renew it once.
                wake_patiently(activator.ensure_awake, 2 * settings.pool.lease_s, note)

        yield Redriver(kind, database, enqueue, wake, report)


def wake_patiently(
    wake: Callable[[], None],
    patience_s: float,
    note: Callable[[str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wake the pool, again and again for `patience_s` seconds where it may work the next time.

    Raises:
        TransientError: it did not.
        ScalingDenied: it never will, before somebody sets the deployment right.
    """
    deadline = clock() + patience_s
    pause_s = 1.0
    while True:
        try:
            return wake()
        except TransientError as error:
            if clock() + pause_s > deadline:
                raise
            note(f"{error}; trying again in {pause_s:g} s")
        sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


@contextmanager
def _operator_transaction(database: Database) -> Iterator[Connection]:
    try:
        with database.transaction() as connection:
            yield connection
    except (AccessDenied, DatabaseReadOnly) as error:
        raise AccessDenied(
            f"{error}; set DROPLINE_DATABASE__URL to the login of the function, which has the "
            "role dropline_ingest, on a server that takes writes"
        ) from error


def _left_behind(most: int) -> str:
    return (
        f"as many as {most} rows may be waiting without a message: run the same command again, which takes up all "
        "others and wakes the workers, and a worker enqueues these when it starts, reconnects or is idle"
    )

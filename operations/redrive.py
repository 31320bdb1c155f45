"""Redrive: queues given-up rows again in batches: rows first, then a message, then the worker pool is woken."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from db.redrivable import FAILED_ROWS, UNWRITTEN_ROWS, Redrivable, RedrivenRow, RowFilter
from db.session import Database
from dropline.settings import Settings
from operations.due_work import call_workers, open_operator, operator_transaction, wake_for_due_rows

#: Rows per transaction.
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
    FAILED_ROWS,
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
    #: Enqueues a row by id; raises BrokerUnavailable.
    enqueue: Callable[[int], None]
    #: Scales the worker pool up from zero; returns when Cloud Run has accepted the call.
    wake: Callable[[], None]
    #: Ends a hold of the worker pool, whose workers could not start.
    release: Callable[[], None] = lambda: None
    #: Called after each batch with the number of redriven rows so far.
    on_progress: Callable[[int], None] = lambda _redriven: None
    #: Numbers of redriven rows by their error code before the redrive.
    redriven: Counter[str] = field(default_factory=Counter)

    def count(self, row_filter: RowFilter) -> dict[str, int]:
        """Rows of this kind by error code, `db.reads.MOST_COUNTED` rows at most.

        Raises:
            DatabaseUnavailable: Postgres is unreachable.
            AccessDenied: the login may not read the rows.
        """
        with operator_transaction(self.database) as connection:
            return self.kind.rows.count(connection, row_filter)

    def count_redrivable(self, row_filter: RowFilter, limit: int | None) -> dict[str, int]:
        """Rows that `redrive` would queue, by error code; raises the errors of `count`."""
        with operator_transaction(self.database) as connection:
            return self.kind.rows.count_redrivable(connection, row_filter, limit)

    def redrive(self, row_filter: RowFilter, limit: int | None) -> None:
        """Redrive each row once, `limit` rows at most; a row that fails again during the redrive stays failed.

        A redriven row is due once its batch is committed. One message for each batch wakes the workers.

        Raises:
            DatabaseUnavailable: Postgres is unreachable; `redriven` counts the rows of the committed batches.
            BrokerUnavailable: Redis is unreachable, or refuses writes; the rows of the batch are due all the same.
            TransientError, ScalingDenied: the worker pool could not be scaled up; the rows are due.
            AccessDenied: the login may not change the rows.
        """
        self.release()
        after: int | None = 0
        while after is not None:
            after = self._next_batch(row_filter, after, limit)
        if not self.redriven:
            wake_for_due_rows(self.database, self.enqueue, self.wake)

    def _next_batch(self, row_filter: RowFilter, after: int, limit: int | None) -> int | None:
        """The id of the last row of the batch; None if no row is left."""
        batch = self._redrive_rows(row_filter, after, limit)
        if not batch:
            return None
        self.redriven.update(row.error_code for row in batch)
        call_workers(batch[0].row_id, self.enqueue, self.wake, _queued(self.redriven.total()))
        self.on_progress(self.redriven.total())
        return batch[-1].row_id

    def _redrive_rows(self, row_filter: RowFilter, after: int, limit: int | None) -> list[RedrivenRow]:
        size = BATCH if limit is None else min(BATCH, limit - self.redriven.total())
        if size <= 0:
            return []
        with operator_transaction(self.database) as connection:
            return self.kind.rows.redrive(connection, row_filter, after, size)


@contextmanager
def open_redriver(
    settings: Settings, kind: Kind, on_progress: Callable[[int], None], on_wait: Callable[[str], None]
) -> Iterator[Redriver]:
    """A redriver; connections are opened on first use.

    Args:
        settings: with Postgres, Redis and, for scale to zero, the worker pool.
        kind: of the rows.
        on_progress: called after each batch with the number of redriven rows so far.
        on_wait: called before each pause with the reason for the pause.

    Raises:
        SettingsError: a setting is missing or wrong.
        AccessDenied: a worker pool is configured, and no credentials for Cloud Run were found.
    """
    with open_operator(settings, "dropline-redrive", on_wait) as operator:
        yield Redriver(kind, operator.database, operator.enqueue, operator.wake, operator.release, on_progress)


def _queued(rows: int) -> str:
    return (
        f"{rows} rows are queued, and a worker takes them when it starts or reconnects; repeat the redrive for "
        "the other rows"
    )

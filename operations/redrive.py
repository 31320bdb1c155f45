"""Redrive: queues given-up rows again in batches: rows first, then a message, then the worker pool is woken."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from db import due_rows, pool_problems
from db.redrivable import DEAD_LETTERS, UNWRITTEN_ROWS, Redrivable, RedrivenRow, RowFilter
from db.session import Connection, Database, writer_settings
from db.start_check import OPERATOR, Needs
from dropline.deadline import Deadline
from dropline.errors import AccessDenied, DroplineError, TransientError
from dropline.log import get_logger
from dropline.scaling.activation import Activator, open_activator
from dropline.settings import Settings

log = get_logger(__name__)

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
        try:
            self.enqueue(batch[0].row_id)
            self.wake()
        except DroplineError as error:
            raise type(error)(f"{error}; {_queued(self.redriven.total())}", code=error.code) from error
        self.on_progress(self.redriven.total())
        return batch[-1].row_id

    def _redrive_rows(self, row_filter: RowFilter, after: int, limit: int | None) -> list[RedrivenRow]:
        size = BATCH if limit is None else min(BATCH, limit - self.redriven.total())
        if size <= 0:
            return []
        with operator_transaction(self.database) as connection:
            return self.kind.rows.redrive(connection, row_filter, after, size)


def wake_for_due_rows(database: Database, enqueue: Callable[[int], None], wake: Callable[[], None]) -> None:
    """A killed command, or one without Redis, left due rows and perhaps a sleeping pool."""
    with operator_transaction(database) as connection:
        due = due_rows.look(connection, 1)
    if due.row_ids:
        enqueue(due.row_ids[0])
        wake()


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


@dataclass(frozen=True, slots=True)
class Operator:
    """The parts of a command that makes rows due: Postgres as the function's login, the queue, the worker pool."""

    database: Database
    #: As of `Redriver`.
    enqueue: Callable[[int], None]
    wake: Callable[[], None]
    release: Callable[[], None]


@contextmanager
def open_operator(
    settings: Settings,
    application_name: str,
    on_wait: Callable[[str], None],
    *,
    needs: Needs = OPERATOR,
    connections: int = 1,
    statement_timeout_ms: int = _STATEMENT_TIMEOUT_MS,
) -> Iterator[Operator]:
    """The parts of such a command, opened on first use; further arguments and errors as of `open_redriver`.

    Args:
        needs: the rights that the login must have.
        connections: to Postgres, at most.
        statement_timeout_ms: at least this, whatever the settings say.
    """
    writer = writer_settings(settings)
    statement_timeout_ms = max(writer.statement_timeout_ms, statement_timeout_ms)
    operator = writer.model_copy(update={"statement_timeout_ms": statement_timeout_ms})
    # Celery is slow to import, and an upload sends no message.
    from dropline.broker.queue import CaptionQueue

    with (
        closing(CaptionQueue.connect(settings.broker)) as queue,
        open_activator(settings.pool, settings.broker) as activator,
        closing(Database.connect(operator, application_name, needs, connections=connections)) as database,
    ):

        def enqueue(row_id: int) -> None:
            queue.enqueue(row_id, Deadline.after(_ENQUEUE_S))

        def wake() -> None:
            if activator is not None:
                # A worker that scales the worker pool to zero holds the mark for `lease_s`, and may renew the mark
                # once.
                wake_with_retries(activator.ensure_awake, 2 * settings.pool.lease_s, on_wait)

        def release() -> None:
            if activator is not None:
                _release(database, activator, settings.pool.name)

        yield Operator(database, enqueue, wake, release)


def _release(database: Database, activator: Activator, pool: str) -> None:
    """Have the workers of a worker pool held at 0 tried again, as often as at first."""
    with operator_transaction(database) as connection:
        problem = pool_problems.find(connection, pool)
        if problem is not None and problem.held_at is not None:
            pool_problems.clear(connection, pool)
    if activator.release():
        log.info("pool_released", reason="a person redrives rows")


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
def operator_transaction(database: Database) -> Iterator[Connection]:
    """A transaction of an operator's command; a missing right has the remedy."""
    try:
        with database.transaction() as connection:
            yield connection
    except AccessDenied as error:
        raise AccessDenied(
            f"{error}; set DROPLINE_DATABASE__URL to the login of the function, which has the role dropline_ingest"
        ) from error


def _queued(rows: int) -> str:
    return (
        f"{rows} rows are queued, and a worker takes them when it starts or reconnects; repeat the redrive for "
        "the other rows"
    )

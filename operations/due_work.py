"""Due work of commands: transactions with the rights of an operator, messages of rows, the call of workers."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from db import due_rows, pool_problems
from db.session import Connection, Database, writer_settings
from db.start_check import OPERATOR, Needs
from dropline.deadline import Deadline
from dropline.errors import AccessDenied, DroplineError, TransientError
from dropline.log import get_logger
from dropline.scaling.activation import Activator, open_activator
from dropline.settings import Settings

log = get_logger(__name__)

#: Deadline of a message, in seconds; the timeouts of the Redis connection are shorter.
_ENQUEUE_S = 10.0
#: Counting all rows of a large table may take longer than the transaction of an event.
_STATEMENT_TIMEOUT_MS = 30_000
#: Longest pause between two calls to scale the worker pool up.
_LONGEST_PAUSE_S = 15.0


def call_workers(row_id: int, enqueue: Callable[[int], None], wake: Callable[[], None], state: str) -> None:
    """Send the message of a due row, then wake the worker pool.

    Args:
        row_id: of the row.
        enqueue: sends the message; raises BrokerUnavailable.
        wake: scales the worker pool up from zero.
        state: of the rows after an error, and the remedy, for the words of the error.

    Raises:
        BrokerUnavailable, ScalingDenied, TransientError.
    """
    try:
        enqueue(row_id)
        wake()
    except DroplineError as error:
        raise type(error)(f"{error}; {state}", code=error.code) from error


def wake_for_due_rows(database: Database, enqueue: Callable[[int], None], wake: Callable[[], None]) -> None:
    """A killed command, or one without Redis, left due rows and perhaps a sleeping pool."""
    with operator_transaction(database) as connection:
        due = due_rows.look(connection, 1)
    if due.row_ids:
        enqueue(due.row_ids[0])
        wake()


@dataclass(frozen=True, slots=True)
class Operator:
    """The parts of a command that makes rows due: Postgres as the function's login, the queue, the worker pool."""

    database: Database
    #: Enqueues a row by id; raises BrokerUnavailable.
    enqueue: Callable[[int], None]
    #: Scales the worker pool up from zero; returns when Cloud Run has accepted the call.
    wake: Callable[[], None]
    #: Ends a hold of the worker pool, whose workers could not start.
    release: Callable[[], None]


@contextmanager
def open_operator(
    settings: Settings,
    application_name: str,
    on_wait: Callable[[str], None],
    *,
    needs: Needs = OPERATOR,
    connections: int | None = 1,
    statement_timeout_ms: int = _STATEMENT_TIMEOUT_MS,
) -> Iterator[Operator]:
    """The parts of a command, opened on first use.

    Args:
        settings: with Postgres, Redis and, for scale to zero, the worker pool.
        application_name: of the connections to Postgres.
        on_wait: called before each pause of a call to wake the worker pool, with the reason.
        needs: the rights that the login must have.
        connections: to Postgres, at most; None: as many as needed by default.
        statement_timeout_ms: at least as long, whatever the settings say.

    Raises:
        SettingsError: a setting is missing or wrong.
        AccessDenied: a worker pool is configured, and no credentials for Cloud Run were found.
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

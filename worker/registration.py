"""The worker's row in the table `workers`: written once the worker is ready, closed when it begins to stop.

The row is information: an error of Postgres is a log line, and delays neither the first image nor the end.
"""

import socket
import time
from collections.abc import Callable
from contextlib import closing

from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry

from db import workers
from db.session import Connection, Database
from db.workers import NewWorker
from dropline.log import get_logger
from worker.engine.process import LoadedModel

log = get_logger(__name__)

#: Longest pause before the row is tried again, in seconds. The pauses are 1, 2, 4 … seconds.
_LONGEST_PAUSE_S = 64.0


class Registration:
    """Writes the row of this worker, from the parent's event loop."""

    def __init__(
        self,
        connect: Callable[[], Database],
        name: str,
        loaded: Callable[[], LoadedModel | None],
        on_ready: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """Create a registration; the row is not written yet.

        Args:
            connect: a database of its own for each statement: an idle worker holds no connection for the row.
            name: of the worker's connection to Redis.
            loaded: the model of the ready engine.
            on_ready: called in the transaction of the row.
        """
        self._connect = connect
        self._name = name
        self._loaded = loaded
        self._on_ready = on_ready
        self._ready_at: float | None = None
        self._written = False
        self._closed = False
        self._failures = 0
        self._entry: Entry | None = None

    def start(self, hub: Hub) -> None:
        """Write the row, unless it is written; call at each start of the consumer, as Celery drops timers then.

        While Postgres refuses, the row is tried again after growing pauses.
        """
        self.pause()
        if self._written:
            return
        ready_at = self._ready_at = self._ready_at or time.monotonic()
        self._written = self._attempt("worker_row_not_written", lambda to: self._insert(to, ready_at))
        if self._written:
            log.info("worker_row_written", name=self._name)
        else:
            delay_s = min(_LONGEST_PAUSE_S, 2.0**self._failures)
            self._failures += 1
            self._entry = hub.call_later(delay_s, self.start, hub)

    def pause(self) -> None:
        """Cancel the next try."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def close(self) -> None:
        """Set `stopped_at` of the row, where the row was written. A further call has a failed one done again."""
        self.pause()
        if self._written and not self._closed:
            self._closed = self._attempt("worker_row_not_closed", lambda to: workers.set_stopped(to, self._name))

    def _insert(self, connection: Connection, ready_at: float) -> None:
        loaded = self._loaded()
        assert loaded is not None, "the consumer starts after the engine"
        worker = NewWorker(
            name=self._name,
            host=socket.gethostname(),
            model=loaded.name,
            model_revision=loaded.revision,
            device=loaded.device,
            largest_batch=loaded.largest_batch,
        )
        workers.insert(connection, worker, time.monotonic() - ready_at)
        self._on_ready(connection)

    def _attempt(self, failure: str, statement: Callable[[Connection], None]) -> bool:
        try:
            with closing(self._connect()) as database, database.transaction() as connection:
                statement(connection)
        except Exception as error:  # noqa: BLE001 - no error of the row may end the worker
            log.warning(failure, error=f"{type(error).__name__}: {error}")
            return False
        return True

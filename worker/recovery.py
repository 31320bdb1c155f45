"""Recovery: enqueues rows that are queued in Postgres but have no message on Redis, and rows with a lease.

A recovery runs when a worker becomes ready, when a worker reconnects to Redis, and when an idle worker finds
unfinished rows before scaling to zero. No timer starts a recovery.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from db import claims, reads
from db.session import Connection, Database
from dropline.broker.queue import HEAD_LENGTH, CaptionQueue
from dropline.errors import BrokerUnavailable
from dropline.log import get_logger

log = get_logger(__name__)


class RecoveryQueue(Protocol):
    """The part of `dropline.broker.queue.CaptionQueue` used by a recovery."""

    def begin_recovery(self) -> Sequence[int]: ...

    def enqueue_again(self, row_id: int, countdown_s: float) -> None: ...

    def end_recovery(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Recovered:
    """Numbers of enqueued rows."""

    #: Queued rows without a message.
    queued: int
    #: Rows with a lease.
    leased: int


class Recovery:
    """Enqueues rows. A row enqueued twice is captioned once, since only the first delivery claims the row."""

    def __init__(self, database: Database, queue: RecoveryQueue, batch: int) -> None:
        """A recovery that reads `batch` rows per statement."""
        self._database = database
        self._queue = queue
        self._batch = batch

    def run(self, resting_s: float = 0.0) -> Recovered:
        """Enqueue every queued row without a message, and every leased row for the end of its lease.

        Args:
            resting_s: rows requeued by an attempt in the last `resting_s` seconds are left alone: a living worker
                holds their messages.

        Raises:
            DatabaseUnavailable, BrokerUnavailable: some rows may not be enqueued; run the recovery again.
        """
        with self._database.transaction() as connection:
            claims.lock_recovery(connection)
            oldest = self._queue.begin_recovery()
            recovered = Recovered(
                self._enqueue_queued(connection, oldest, resting_s), self._enqueue_leased(connection)
            )
            # Before the lock is released: the next worker's recovery reads the mark.
            self._queue.end_recovery()
        log.info("recovered", queued=recovered.queued, leased=recovered.leased)
        return recovered

    def _enqueue_queued(self, connection: Connection, oldest: Sequence[int], resting_s: float) -> int:
        count = 0
        for ids in reads.rows_without_message(
            connection, oldest, whole_queue=len(oldest) < HEAD_LENGTH, batch=self._batch, resting_s=resting_s
        ):
            for row_id in ids:
                self._queue.enqueue_again(row_id, 0.0)
            count += len(ids)
        return count

    def _enqueue_leased(self, connection: Connection) -> int:
        count = 0
        for rows in reads.leased_rows(connection, self._batch):
            for row in rows:
                # The owner may be alive, so the message arrives after the end of the lease.
                self._queue.enqueue_again(row.row_id, row.remaining_s + 1 if row.remaining_s else 0.0)
            count += len(rows)
        return count


def request_recovery(queue: CaptionQueue, resting_s: float = 0.0) -> None:
    """Enqueue a recovery; `resting_s` as in `Recovery.run`. A failure is logged and raises no error.

    The consumer of the worker loses its connection to the same Redis, and requests a recovery after reconnecting.
    """
    try:
        queue.enqueue_recovery(resting_s)
    except BrokerUnavailable as error:
        log.warning("recovery_not_sent", error=str(error))

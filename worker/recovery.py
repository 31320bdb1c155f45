"""Recovery: enqueues rows that are queued in Postgres but have no message on Redis, and rows with a lease.

A recovery runs when a worker becomes ready, when it reconnects to Redis, and when it is about to scale the worker
pool to zero and finds unfinished rows. Nothing runs one on a timer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from db import queries, reads
from db.session import Connection, Database
from dropline.broker.queue import HEAD_LENGTH, CaptionQueue
from dropline.errors import BrokerUnavailable
from dropline.log import get_logger

log = get_logger(__name__)


class RecoveryQueue(Protocol):
    """The queue, as a recovery uses it; see `dropline.broker.queue.CaptionQueue`."""

    def begin_recovery(self) -> Sequence[int]: ...

    def enqueue_again(self, row_id: int, countdown_s: float) -> None: ...

    def end_recovery(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Recovered:
    """Numbers of rows that a recovery enqueued."""

    #: Rows that were queued and had no message.
    queued: int
    #: Rows with a lease.
    leased: int


class Recovery:
    """Enqueues rows. A row enqueued twice is captioned once, since it is claimed once."""

    def __init__(self, database: Database, queue: RecoveryQueue, batch: int) -> None:
        """A recovery that reads `batch` rows per statement."""
        self._database = database
        self._queue = queue
        self._batch = batch

    def run(self, resting_s: float = 0.0) -> Recovered:
        """Enqueue every row that has no message, and every leased row for the end of its lease.

        Args:
            resting_s: rows that were tried and put back within so many seconds are left alone: a living worker
                holds their messages.

        Raises:
            DatabaseUnavailable, BrokerUnavailable: some rows may not be enqueued; run the recovery again.
        """
        with self._database.transaction() as connection:
            queries.lock_recovery(connection)
            oldest = self._queue.begin_recovery()
            recovered = Recovered(
                self._enqueue_queued(connection, oldest, resting_s), self._enqueue_leased(connection)
            )
            # Before the lock is free: the next worker's recovery reads the mark.
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
                # The owner may be alive, so the message comes after the end of the lease.
                self._queue.enqueue_again(row.row_id, row.remaining_s + 1 if row.remaining_s else 0.0)
            count += len(rows)
        return count


def request_recovery(queue: CaptionQueue, resting_s: float = 0.0) -> None:
    """Enqueue a recovery; see `Recovery.run`. An unreachable Redis is only logged.

    The worker's consumer loses its connection to that Redis too, and requests a recovery when it has reconnected.
    """
    try:
        queue.enqueue_recovery(resting_s)
    except BrokerUnavailable as error:
        log.warning("recovery_not_sent", error=str(error))

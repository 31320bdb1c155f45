"""What Redis forgot, put back: rows that are queued but not on the broker, and leases that run out.

Run when a worker becomes ready, when it reconnects, and when it would put its pool to sleep and finds rows
unfinished; no sweep.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, text

from db import views
from db.session import transaction
from dropline.log import get_logger

log = get_logger(__name__)

#: How many of the oldest messages are looked at to learn how far the queue reaches back.
HEAD_LENGTH = 100

#: Puts one row on the broker: `(row_id, countdown_s)`.
Enqueue = Callable[[int, float], None]

# Workers that reconnect together take turns: each must see what the one before enqueued.
_LOCK = text("SELECT pg_advisory_xact_lock(8240173355)")


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery put back."""

    queued: int
    leased: int


def recover(
    database: Engine,
    head: Callable[[], Sequence[int]],
    enqueue: Enqueue,
    finished: Callable[[], None],
    batch: int,
    resting_s: float,
) -> Recovered:
    """Enqueue rows the broker does not know; a row enqueued twice is done once, since it is claimed once.

    Args:
        head: reads the row ids of the oldest `HEAD_LENGTH` messages on the queue; none where what lies behind
            them is not known, because the recovery before this one was cut short.
        enqueue: puts one row on the broker.
        finished: notes that nothing was cut short, before the next worker's turn.
        batch: rows per statement.
        resting_s: rows that were tried and put back within so many seconds are not looked for.

    Raises:
        DatabaseUnavailable: nothing is known of the rest; run it again.
        BrokerUnavailable: likewise.
    """
    with transaction(database) as connection:
        connection.execute(_LOCK)
        oldest = list(head())
        queued = 0
        whole = len(oldest) < HEAD_LENGTH
        for ids in views.forgotten_rows(connection, oldest, whole_queue=whole, batch=batch, resting_s=resting_s):
            for row_id in ids:
                enqueue(row_id, 0.0)
            queued += len(ids)
        leased = 0
        for rows in views.leased_rows(connection, batch):
            for row in rows:
                # Its owner may be at work: it is looked at when the lease is over, not before.
                enqueue(row.row_id, row.remaining_s + 1 if row.remaining_s else 0.0)
            leased += len(rows)
        finished()
    log.info("recovered", queued=queued, leased=leased)
    return Recovered(queued, leased)

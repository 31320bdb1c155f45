"""The connections of bulk work: Postgres as the function's login, Cloud Storage, Redis and the worker pool."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from db.session import Database, writer_settings
from db.start_check import BULK
from dropline.deadline import Deadline
from dropline.scaling.activation import open_activator
from dropline.settings import Settings
from dropline.storage.listing import Listing
from operations.redrive import wake_with_retries

_ENQUEUE_S = 10.0
_STATEMENT_TIMEOUT_MS = 60_000

#: With the functions that send a message of a row, and wake the worker pool.
BulkParts = tuple[Database, Listing, Callable[[int], None], Callable[[], None]]


@contextmanager
def open_bulk_parts(
    settings: Settings, application_name: str, on_wait: Callable[[str], None]
) -> Iterator[BulkParts]:
    """Postgres, Cloud Storage, and the functions that send a message and wake the pool; as `open_backfiller`."""
    writer = writer_settings(settings)
    statement_timeout_ms = max(writer.statement_timeout_ms, _STATEMENT_TIMEOUT_MS)
    operator = writer.model_copy(update={"statement_timeout_ms": statement_timeout_ms})
    # Celery is slow to import.
    from dropline.broker.queue import CaptionQueue

    with (
        closing(CaptionQueue.connect(settings.broker)) as queue,
        open_activator(settings.pool, settings.broker) as activator,
        closing(Database.connect(operator, application_name, BULK, connections=2)) as database,
    ):

        def enqueue(row_id: int) -> None:
            queue.enqueue(row_id, Deadline.after(_ENQUEUE_S))

        def wake() -> None:
            if activator is not None:
                wake_with_retries(activator.ensure_awake, 2 * settings.pool.lease_s, on_wait)

        yield database, Listing.connect(settings), enqueue, wake

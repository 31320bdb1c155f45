"""The connections of bulk work: Postgres as the function's login, Cloud Storage, Redis and the worker pool."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from db.session import Database
from db.start_check import BULK
from dropline.settings import Settings
from dropline.storage.listing import Listing
from operations.due_work import open_operator

_STATEMENT_TIMEOUT_MS = 60_000

#: With the functions to send a message of a row, and to wake the worker pool.
BulkParts = tuple[Database, Listing, Callable[[int], None], Callable[[], None]]


@contextmanager
def open_bulk_parts(
    settings: Settings, application_name: str, on_wait: Callable[[str], None]
) -> Iterator[BulkParts]:
    """Postgres, Cloud Storage, and the functions to send a message and to wake the pool; as `open_backfiller`."""
    with open_operator(
        settings,
        application_name,
        on_wait,
        needs=BULK,
        connections=2,
        statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
    ) as operator:
        yield operator.database, Listing.connect(settings), operator.enqueue, operator.wake

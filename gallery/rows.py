"""The second door to Postgres: rows that a person asks for or changes, as the role `dropline_gallery`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager

from db.session import Database, submitter_settings
from db.start_check import SUBMITTER
from dropline.broker.queue import CaptionQueue
from dropline.deadline import Deadline
from dropline.errors import SettingsError
from dropline.log import get_logger
from dropline.scaling.activation import Activator, open_activator
from dropline.scaling.wake_requests import WakeRequester, open_requester
from dropline.settings import Settings
from operations.due_work import wake_with_retries
from operations.submit import Rows

log = get_logger(__name__)

#: Deadline of one message, in seconds.
_ENQUEUE_S = 5.0
#: A request waits this long, in seconds, for a worker pool that is scaled to zero at the moment; then 503.
_WAKE_S = 10.0


@contextmanager
def open_rows(settings: Settings) -> Iterator[Rows]:
    """The parts for rows that no event makes; the connections are opened on first use.

    With a queue of Cloud Tasks the function scales the worker pool up, and without one this process.

    Raises:
        SettingsError: a setting is missing or wrong.
        AccessDenied: a worker pool is configured, and no credentials for Cloud Run were found.
    """
    submitter = submitter_settings(settings)
    with (
        closing(CaptionQueue.connect(settings.broker)) as queue,
        _open_waker(settings) as waker,
        closing(
            Database.connect(
                submitter,
                "dropline-gallery-edit",
                SUBMITTER,
                connections=settings.gallery.threads,
                is_bounded=True,
            )
        ) as database,
    ):

        def enqueue(row_id: int) -> None:
            queue.enqueue(row_id, Deadline.after(_ENQUEUE_S))

        def wake() -> None:
            if waker is not None:
                wake_with_retries(waker.ensure_awake, _WAKE_S, log_wait)

        yield Rows(database, enqueue, wake)


@contextmanager
def open_no_rows(settings: Settings) -> Iterator[Rows]:
    """As `open_rows`, for a gallery in which nobody may submit or edit: without Redis and worker pool."""
    with closing(
        Database.connect(submitter_settings(settings), "dropline-gallery-edit", SUBMITTER, connections=1)
    ) as database:
        yield Rows(database, _refuse, _refuse)


def _refuse(*_arguments: int) -> None:
    raise SettingsError("this gallery was started without DROPLINE_BROKER__URL, because nobody may submit or edit")


def _open_waker(settings: Settings) -> AbstractContextManager[Activator | WakeRequester | None]:
    open_waker = open_requester if settings.pool.wake_queue else open_activator
    return open_waker(settings.pool, settings.broker)


def log_wait(reason: str) -> None:
    """Log why a call that wakes the worker pool is repeated."""
    log.warning("worker_pool_not_awake", reason=reason)

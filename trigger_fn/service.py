"""Composition root of the function: an endpoint per process, built from the settings."""

import atexit
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

from db.session import Database
from db.start_check import INGEST
from dropline.broker.queue import CaptionQueue
from dropline.broker.workers import read_workers
from dropline.deadline import Bulkhead, Deadline
from dropline.log import configure_logging
from dropline.scaling.activation import open_activator, policy_from_settings
from dropline.scaling.wake_queue import make_wake_queue
from dropline.scaling.worker_pool import make_worker_pool
from dropline.selection import Selection
from dropline.settings import PushSettings, Settings, load_settings
from trigger_fn.activation import DeadlineActivator
from trigger_fn.endpoint import Authenticate, Endpoint
from trigger_fn.intake import Intake, Outcome
from trigger_fn.pool_check import CheckRequest, PoolCheck
from trigger_fn.push_auth import Credentials, SigningKeysUnavailable, TokenVerifier, fetched_keys
from trigger_fn.rows import CaptionRows

_KEY_THREADS = 4


@functools.cache
def current() -> Endpoint:
    """The endpoint of the process; built on the first call, since an import must do no work.

    Raises:
        SettingsError: a setting is missing or wrong.
    """
    settings = load_settings()
    configure_logging(settings.log.level, settings.log.format, "function")
    resources = ExitStack()
    atexit.register(resources.close)
    endpoint = resources.enter_context(open_endpoint(settings))
    # A wrong database is in the log from the start; events wait with Pub/Sub until the database is right.
    endpoint.find_problem()
    return endpoint


@contextmanager
def open_endpoint(settings: Settings) -> Iterator[Endpoint]:
    """An endpoint that connects on its first event; all connections are closed at the end of the block.

    Raises:
        SettingsError: a setting is missing or wrong.
        AccessDenied: a worker pool is configured, but there are no Google credentials.
    """
    with (
        closing(CaptionRows.connect(settings.database, erase=settings.retention.erase_on_delete)) as rows,
        closing(CaptionQueue.connect(settings.broker)) as queue,
        _open_activator(settings) as workers,
        _open_pool_check(settings) as check_pool,
        closing(Bulkhead("keys", _KEY_THREADS)) as bulkhead,
    ):
        intake = Intake(Selection(settings.events), rows, queue, workers)
        authenticate = _authenticator(settings.push, bulkhead)
        with closing(Endpoint(intake, authenticate, rows.check, check_pool)) as endpoint:
            yield endpoint


@contextmanager
def _open_activator(settings: Settings) -> Iterator[DeadlineActivator | None]:
    with open_activator(settings.pool, settings.broker) as activator:
        if activator is None:
            yield None
            return
        with closing(DeadlineActivator(activator)) as workers:
            yield workers


@contextmanager
def _open_pool_check(settings: Settings) -> Iterator[Callable[[CheckRequest], Outcome] | None]:
    """The check of the worker pool; None without a worker pool. Connects on its first use."""
    with open_activator(settings.pool, settings.broker) as activator:
        if activator is None:
            yield None
            return
        with (
            closing(Database.connect(settings.database, "dropline-pool-check", INGEST, connections=1)) as database,
            closing(make_worker_pool(settings.pool.name, settings.pool.api)) as pool,
        ):
            yield PoolCheck(
                settings.pool.name,
                policy_from_settings(settings.pool),
                database,
                activator,
                pool,
                make_wake_queue(settings.pool),
                lambda: read_workers(settings.broker),
            ).run


def _authenticator(settings: PushSettings, bulkhead: Bulkhead) -> Authenticate | None:
    """The check of tokens; None without an audience: then a service in front of the function checks callers."""
    if not settings.audience:
        return None
    verifier = TokenVerifier(settings, fetched_keys(settings.certs_url))
    late = "the signing keys did not arrive before the deadline of the request"

    def authenticate(credentials: Credentials, deadline: Deadline) -> None:
        bulkhead.run(lambda: verifier.verify(credentials), deadline, SigningKeysUnavailable(late))

    return authenticate

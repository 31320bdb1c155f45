"""Composition root of the function: one endpoint per process, wired from the settings."""

import atexit
import functools
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from dropline.broker.producer import Broker
from dropline.deadline import Deadline, Lanes
from dropline.log import configure_logging
from dropline.scaling.factory import open_waker
from dropline.selection import Selection
from dropline.settings import PushSettings, Settings, load_settings
from trigger_fn.endpoint import Authenticate, Endpoint
from trigger_fn.errors import SigningKeysUnavailable
from trigger_fn.intake import Intake
from trigger_fn.ledger import Ledger
from trigger_fn.pool import Pool
from trigger_fn.push_auth import TokenVerifier, fetched_keys

_KEY_LANES = 4


@functools.cache
def current() -> Endpoint:
    """This process's endpoint; made on the first call, since importing the function must do no work.

    Raises:
        SettingsError: a setting is missing or wrong.
    """
    settings = load_settings()
    configure_logging(settings.log.level, settings.log.format, "function")
    resources = ExitStack()
    atexit.register(resources.close)
    return resources.enter_context(open_endpoint(settings))


@contextmanager
def open_endpoint(settings: Settings) -> Iterator[Endpoint]:
    """An endpoint that connects on its first event; its connections are closed at the end.

    Raises:
        SettingsError: a setting is missing or wrong.
        AccessDenied: there is a worker pool to wake, and there are no credentials to do it with.
    """
    with (
        closing(Ledger.connect(settings.database)) as ledger,
        closing(Broker.connect(settings.broker)) as broker,
        _open_pool(settings) as pool,
        closing(Lanes("keys", _KEY_LANES)) as lanes,
    ):
        intake = Intake(Selection(settings.events), ledger, broker, pool)
        yield Endpoint(intake, _authenticator(settings.push, lanes))


@contextmanager
def _open_pool(settings: Settings) -> Iterator[Pool | None]:
    with open_waker(settings.pool, settings.broker) as waker:
        if waker is None:
            yield None
            return
        with closing(Pool(waker)) as pool:
            yield pool


def _authenticator(settings: PushSettings, lanes: Lanes) -> Authenticate | None:
    """None without an audience: then something in front of the function checks the callers.

    Cloud Run does, and takes the signature off the token that it passes on, so that it cannot be checked twice.
    """
    if not settings.audience:
        return None
    verifier = TokenVerifier(settings, fetched_keys(settings.certs_url))
    late = "the signing keys did not come within the time that a request may take"

    def authenticate(authorization: str, deadline: Deadline) -> None:
        lanes.run(lambda: verifier.verify(authorization), deadline, SigningKeysUnavailable(late))

    return authenticate

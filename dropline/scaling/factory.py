"""Sleep and wake as the settings want it."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from dropline.scaling.awake import AwakeMark
from dropline.scaling.protocol import Rules
from dropline.scaling.sleeper import Sleeper
from dropline.scaling.waker import Waker
from dropline.scaling.worker_pool import make_worker_pool
from dropline.settings import BrokerSettings, PoolSettings, require


def rules_of(pool: PoolSettings) -> Rules:
    """What the settings decide."""
    return Rules(pool.instances, pool.idle_s, pool.lease_s, pool.awake_s)


@contextmanager
def open_waker(pool: PoolSettings, broker: BrokerSettings) -> Iterator[Waker | None]:
    """A waker that connects on first use; None where no pool is named, so that there is nothing to wake.

    Raises:
        AccessDenied: there are no credentials.
        SettingsError: Redis's URL is missing.
    """
    if not pool.name:
        yield None
        return
    with (
        closing(AwakeMark.connect(require(broker.url, "DROPLINE_BROKER__URL"), broker.publish_timeout_s)) as mark,
        closing(make_worker_pool(pool.name, pool.api)) as workers,
    ):
        yield Waker(mark, workers, rules_of(pool))


def make_sleeper(pool: PoolSettings, broker: BrokerSettings, unfinished: Callable[[], bool]) -> Sleeper:
    """A sleeper for the named pool, for the rest of this process; connects on first use.

    Args:
        pool: with a name.
        broker: where the mark is.
        unfinished: whether Postgres has a row that is queued, or has a lease.

    Raises:
        AccessDenied: there are no credentials.
        SettingsError: Redis's URL is missing.
    """
    mark = AwakeMark.connect(require(broker.url, "DROPLINE_BROKER__URL"), broker.publish_timeout_s)
    return Sleeper(mark, make_worker_pool(pool.name, pool.api), rules_of(pool), unfinished)

"""The idle period, and a deactivator whose process was frozen at the worst moment."""

import subprocess
import sys
from typing import Any, cast

import pytest

from dropline.errors import DatabaseUnavailable, SettingsError
from dropline.scaling.activation import Deactivator
from dropline.scaling.errors import ScalingRefused
from dropline.scaling.mark import PoolMark
from dropline.scaling.protocol import (
    SLEEPING,
    Admission,
    BeginScaleToZero,
    ReplaceMark,
    ScaleToZeroOutcome,
    ScalingPolicy,
)
from dropline.scaling.worker_pool import CloudRunWorkerPool
from tests.support.clock import ManualClock
from tests.support.scaling_store import MemoryStore

POLICY = ScalingPolicy(idle_s=60, lease_s=30)


class Pool:
    """Notes what is asked of it, and takes its time."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1

    def scale(self, instances: int) -> None:
        self.asked.append(instances)


def make_deactivator(store: MemoryStore, pool: Pool, clock: ManualClock, unfinished: Any) -> Deactivator:
    return Deactivator(cast("PoolMark", store), pool, POLICY, unfinished, clock.time)


def test_an_idle_pool_is_put_to_sleep() -> None:
    """One call to 0, and no mark left."""
    store, pool = MemoryStore(), Pool()
    assert (
        make_deactivator(store, pool, ManualClock(), lambda: False).try_scale_to_zero()
        is ScaleToZeroOutcome.ASLEEP
    )
    assert (pool.asked, store.mark) == ([0], None)


def test_a_process_frozen_before_the_call_does_not_call() -> None:
    """Its mark may have run out, and somebody may have been told that the pool is awake."""
    store, pool, clock = MemoryStore(), Pool(), ManualClock()
    swap_at_once = store.replace

    def swap_and_freeze(swap: ReplaceMark) -> bool:
        done = swap_at_once(swap)
        clock.advance(POLICY.lease_s)
        return done

    store.replace = swap_and_freeze  # type: ignore[method-assign]
    assert make_deactivator(store, pool, clock, lambda: False).try_scale_to_zero() is ScaleToZeroOutcome.REFUSED
    assert pool.asked == []


def test_a_slow_postgres_does_not_shorten_the_lease() -> None:
    """The mark is set anew after the question and right before the call."""
    store, pool, clock = MemoryStore(), Pool(), ManualClock()

    def ask() -> bool:
        clock.advance(POLICY.lease_s - 1)
        return False

    assert make_deactivator(store, pool, clock, ask).try_scale_to_zero() is ScaleToZeroOutcome.ASLEEP


def test_a_token_is_there_before_the_mark_is() -> None:
    """Getting one may take long, and the mark does not hold for long."""
    store, pool, clock = MemoryStore(), Pool(), ManualClock()
    seen: list[int] = []
    claim_at_once = store.begin

    def claim_and_note(claim: BeginScaleToZero) -> Admission:
        seen.append(pool.prepared)
        return claim_at_once(claim)

    store.begin = claim_and_note  # type: ignore[method-assign]
    assert make_deactivator(store, pool, clock, lambda: False).try_scale_to_zero() is ScaleToZeroOutcome.ASLEEP
    assert seen == [1]


def test_without_a_token_nothing_is_marked() -> None:
    """It is tried again after the idle period."""

    class Locked(Pool):
        def prepare(self) -> None:
            raise ScalingRefused("no token")

    store, pool = MemoryStore(), Locked()
    assert (
        make_deactivator(store, pool, ManualClock(), lambda: False).try_scale_to_zero()
        is ScaleToZeroOutcome.REFUSED
    )
    assert (pool.asked, store.mark) == ([], None)


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), RuntimeError("a right is missing")])
def test_a_pool_stays_awake_while_postgres_cannot_be_asked(error: Exception) -> None:
    """The error is the caller's to see, and no mark is left behind."""
    store, pool = MemoryStore(), Pool()

    def ask() -> bool:
        assert (store.mark or "").startswith(SLEEPING)
        raise error

    with pytest.raises(type(error)):
        make_deactivator(store, pool, ManualClock(), ask).try_scale_to_zero()
    assert (pool.asked, store.mark) == ([], None)


@pytest.mark.parametrize("outcome", ScaleToZeroOutcome)
def test_a_worker_that_lives_tries_again(outcome: ScaleToZeroOutcome) -> None:
    """After a lease where one has to run out first, else after the idle period."""
    waits = outcome in (ScaleToZeroOutcome.TAKEN, ScaleToZeroOutcome.UNKNOWN)
    assert outcome.again_after_s(POLICY) == (POLICY.lease_s if waits else POLICY.idle_s)


@pytest.mark.parametrize(
    "name", ["", "captions", "projects/p/locations/l/services/s", "projects/p/locations/l/workerPools/a/b"]
)
def test_a_name_that_is_no_pool_is_refused_at_once(name: str) -> None:
    """And the message shows what one looks like."""
    with pytest.raises(SettingsError, match="projects/PROJECT/locations/REGION/workerPools/POOL"):
        CloudRunWorkerPool(cast("Any", None), name)


def test_the_libraries_are_imported_by_whoever_connects() -> None:
    """A command or a function without a pool to scale pays for neither redis nor google-auth."""
    probe = (
        "import sys, dropline.scaling.activation;"
        "print(sorted({'redis', 'google.auth', 'requests', 'celery', 'sqlalchemy', 'torch'} & {*sys.modules}))"
    )
    finished = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"

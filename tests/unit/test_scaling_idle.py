"""The deactivator over a mark in memory, with a process frozen between mark and call."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from dropline.errors import DatabaseUnavailable, DroplineError, SettingsError
from dropline.scaling.deactivation import Deactivator
from dropline.scaling.errors import ScalingDenied, ScalingRefused, ScalingUnknown
from dropline.scaling.mark import PoolMark
from dropline.scaling.pool_document import PoolDocument
from dropline.scaling.protocol import (
    AWAKE,
    HELD,
    SLEEPING,
    Admission,
    BeginScaleToZero,
    ConfirmMark,
    ScaleToZeroOutcome,
    ScalingPolicy,
)
from dropline.scaling.wake_queue import WakeQueue
from dropline.scaling.worker_pool import CloudRunWorkerPool
from tests.support.clock import ManualClock
from tests.support.scaling_store import MemoryStore

POLICY = ScalingPolicy(idle_s=60, lease_s=30)


class RecordingPool:
    """A worker pool with recorded calls."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1

    def read(self) -> PoolDocument:
        return PoolDocument({})

    def scale(self, instances: int, before_change: Callable[[], None] = lambda: None) -> str:
        before_change()
        self.asked.append(instances)
        return ""


def make_deactivator(store: MemoryStore, pool: RecordingPool, clock: ManualClock, unfinished: Any) -> Deactivator:
    return Deactivator(cast("PoolMark", store), pool, POLICY, unfinished, clock=clock.time)


def test_an_idle_pool_is_put_to_sleep() -> None:
    """An idle worker pool gets a single call to 0, and the mark is removed."""
    store, pool = MemoryStore(), RecordingPool()
    assert (
        make_deactivator(store, pool, ManualClock(), lambda: None).try_scale_to_zero() is ScaleToZeroOutcome.ASLEEP
    )
    assert (pool.asked, store.mark) == ([0], None)


def test_a_process_frozen_before_the_call_does_not_call() -> None:
    """The mark may have expired, and an event may have read `awake`."""
    store, pool, clock = MemoryStore(), RecordingPool(), ManualClock()
    confirm_at_once = store.confirm

    def confirm_and_freeze(renewal: ConfirmMark) -> bool:
        done = confirm_at_once(renewal)
        clock.advance(POLICY.lease_s)
        return done

    store.confirm = confirm_and_freeze  # type: ignore[method-assign]
    assert make_deactivator(store, pool, clock, lambda: None).try_scale_to_zero() is ScaleToZeroOutcome.REFUSED
    assert pool.asked == []


def test_a_slow_postgres_does_not_shorten_the_lease() -> None:
    """The mark is renewed after the query and right before the call."""
    store, pool, clock = MemoryStore(), RecordingPool(), ManualClock()

    def ask() -> None:
        clock.advance(POLICY.lease_s - 1)

    assert make_deactivator(store, pool, clock, ask).try_scale_to_zero() is ScaleToZeroOutcome.ASLEEP


def test_a_token_is_there_before_the_mark_is() -> None:
    """The token is fetched before the mark is set: the fetch may be slow, and the mark expires soon."""
    store, pool, clock = MemoryStore(), RecordingPool(), ManualClock()
    seen: list[int] = []
    claim_at_once = store.begin

    def claim_and_note(claim: BeginScaleToZero) -> Admission:
        seen.append(pool.prepared)
        return claim_at_once(claim)

    store.begin = claim_and_note  # type: ignore[method-assign]
    assert make_deactivator(store, pool, clock, lambda: None).try_scale_to_zero() is ScaleToZeroOutcome.ASLEEP
    assert seen == [1]


def test_without_a_token_nothing_is_marked() -> None:
    """The outcome is REFUSED, so the worker tries again after the idle period."""

    class Locked(RecordingPool):
        def prepare(self) -> None:
            raise ScalingRefused("no token")

    store, pool = MemoryStore(), Locked()
    assert (
        make_deactivator(store, pool, ManualClock(), lambda: None).try_scale_to_zero()
        is ScaleToZeroOutcome.REFUSED
    )
    assert (pool.asked, store.mark) == ([], None)


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), RuntimeError("a right is missing")])
def test_a_pool_stays_awake_while_postgres_cannot_be_asked(error: Exception) -> None:
    """The caller gets the error, and the mark is removed."""
    store, pool = MemoryStore(), RecordingPool()

    def ask() -> None:
        assert (store.mark or "").startswith(SLEEPING)
        raise error

    with pytest.raises(type(error)):
        make_deactivator(store, pool, ManualClock(), ask).try_scale_to_zero()
    assert (pool.asked, store.mark) == ([], None)


class RecordingWakes:
    """A queue of Cloud Tasks with recorded calls."""

    def __init__(self, error: DroplineError | None = None) -> None:
        self.arranged: list[float] = []
        self._error = error

    def arrange(self, in_s: float) -> None:
        self.arranged.append(in_s)
        if self._error:
            raise self._error


@pytest.mark.parametrize(
    ("rest_s", "due_in_s", "error", "outcome", "arranged"),
    [
        (60.0, 60.0, None, ScaleToZeroOutcome.ASLEEP, [60.0]),
        (60.0, 59.0, None, ScaleToZeroOutcome.UNFINISHED, []),
        (60.0, 0.0, None, ScaleToZeroOutcome.UNFINISHED, []),
        (None, 9000.0, None, ScaleToZeroOutcome.UNFINISHED, []),
        (60.0, 60.0, ScalingUnknown("x"), ScaleToZeroOutcome.REFUSED, [60.0]),
        (60.0, 60.0, ScalingDenied("x"), ScaleToZeroOutcome.REFUSED, [60.0]),
    ],
)
def test_rows_that_rest(
    rest_s: float | None,
    due_in_s: float,
    error: DroplineError | None,
    outcome: ScaleToZeroOutcome,
    arranged: list[float],
) -> None:
    """The worker pool sleeps while all rows rest, once Cloud Tasks has taken the call that wakes it."""
    store, pool, wakes = MemoryStore(), RecordingPool(), RecordingWakes(error)
    deactivator = Deactivator(
        cast("PoolMark", store), pool, replace(POLICY, rest_s=rest_s), lambda: due_in_s, cast("WakeQueue", wakes)
    )
    assert deactivator.try_scale_to_zero() is outcome
    assert (wakes.arranged, store.mark) == (arranged, None)
    assert pool.asked == ([0] if outcome is ScaleToZeroOutcome.ASLEEP else [])


@pytest.mark.parametrize("outcome", ScaleToZeroOutcome)
def test_a_worker_that_lives_tries_again(outcome: ScaleToZeroOutcome) -> None:
    """The next try is after the lease if a mark must expire first, else after the idle period."""
    waits = outcome in (ScaleToZeroOutcome.TAKEN, ScaleToZeroOutcome.UNKNOWN)
    assert outcome.again_after_s(POLICY) == (POLICY.lease_s if waits else POLICY.idle_s)


@pytest.mark.parametrize(
    "name", ["", "captions", "projects/p/locations/l/services/s", "projects/p/locations/l/workerPools/a/b"]
)
def test_a_name_that_is_no_pool_is_refused_at_once(name: str) -> None:
    """The message shows the form of a worker pool's name."""
    with pytest.raises(SettingsError, match="projects/PROJECT/locations/REGION/workerPools/POOL"):
        CloudRunWorkerPool(cast("Any", None), name)


def test_the_libraries_are_imported_by_whoever_connects() -> None:
    """A command or function without a worker pool imports neither redis nor google-auth."""
    probe = (
        "import sys, dropline.scaling.activation;"
        "print(sorted({'redis', 'google.auth', 'requests', 'celery', 'sqlalchemy', 'torch'} & {*sys.modules}))"
    )
    finished = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


@pytest.mark.parametrize(("mark", "left"), [(AWAKE, None), ("waking:1", "waking:1"), ("sleeping:1", "sleeping:1")])
def test_a_worker_that_stops_removes_awake_alone(mark: str, left: str | None) -> None:
    """A call to 1 that has begun is confirmed, and a call to 0 stays protected."""
    store = MemoryStore()
    store.mark = mark
    make_deactivator(store, RecordingPool(), ManualClock(), lambda: None).forget_awake()
    assert store.mark == left


def test_a_pool_is_held_at_zero_although_messages_wait() -> None:
    """A failing worker calls 0, and its mark keeps events from calling 1."""
    store, pool = MemoryStore(), RecordingPool()
    store.push(1)
    assert make_deactivator(store, pool, ManualClock(), lambda: 0.0).hold("F") is ScaleToZeroOutcome.ASLEEP
    assert (pool.asked, store.mark) == ([0], f"{HELD}F")


@pytest.mark.parametrize(
    ("error", "outcome", "is_marked"),
    [
        (ScalingRefused("busy"), ScaleToZeroOutcome.REFUSED, False),
        (ScalingDenied("no right"), ScaleToZeroOutcome.REFUSED, False),
        (ScalingUnknown("no answer"), ScaleToZeroOutcome.UNKNOWN, True),
    ],
)
def test_a_pool_that_may_not_be_set_to_zero_is_not_held(
    error: DroplineError, outcome: ScaleToZeroOutcome, is_marked: bool
) -> None:
    """The next start of the worker tries again; after a call without an answer, the mark must expire first."""

    class Failing(RecordingPool):
        def scale(self, instances: int, before_change: Callable[[], None] = lambda: None) -> str:
            raise error

    store = MemoryStore()
    assert make_deactivator(store, Failing(), ManualClock(), lambda: None).hold("F") is outcome
    assert (store.mark or "").startswith(SLEEPING) is is_marked


def test_a_mark_that_is_lost_during_a_hold_means_one_more_start() -> None:
    """An event may have read `awake` after the flush, and its image must not wait at 0 instances."""

    class Flushing(RecordingPool):
        def scale(self, instances: int, before_change: Callable[[], None] = lambda: None) -> str:
            if instances == 0:
                store.flush()
                store.mark = AWAKE
            return super().scale(instances, before_change)

    store, pool = MemoryStore(), Flushing()
    assert make_deactivator(store, pool, ManualClock(), lambda: None).hold("F") is ScaleToZeroOutcome.WOKEN_AGAIN
    assert (pool.asked, store.mark) == ([0, 1], AWAKE)

"""When a worker tries to put the pool to sleep, and what it does about each answer."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.asynchronous import Hub

from dropline.errors import BrokerUnavailable, DatabaseUnavailable, DroplineError
from dropline.scaling.errors import ScalingDenied, ScalingRefused, ScalingUnknown
from dropline.scaling.protocol import ScaleToZeroOutcome, ScalingPolicy
from tests.support.clock import ManualClock
from worker.idle_timer import IdlePeriod, IdleTimer

POLICY = ScalingPolicy(idle_s=100, lease_s=30)


class ClockHub:
    """Kombu's event loop, as far as the timer uses it, on a clock that a test moves."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def call_later(self, delay: float, callback: Any, *args: Any) -> Any:
        return self._clock.call_at(self._clock.now + delay, lambda: callback(*args))


class FakeDeactivator:
    """A deactivator that answers as told, and notes when it was asked."""

    def __init__(self, clock: ManualClock, *answers: ScaleToZeroOutcome | Exception) -> None:
        self._clock = clock
        self._answers = list(answers)
        self.failing_wakes: list[DroplineError] = []
        self.tried: list[float] = []
        self.woken: list[float] = []

    def try_scale_to_zero(self) -> ScaleToZeroOutcome:
        self.tried.append(self._clock.now)
        answer = self._answers.pop(0) if self._answers else ScaleToZeroOutcome.ASLEEP
        if isinstance(answer, Exception):
            raise answer
        return answer

    def scale_up_again(self) -> None:
        self.woken.append(self._clock.now)
        if self.failing_wakes:
            raise self.failing_wakes.pop(0)


class Bench:
    """A timer on a clock, and what came of it."""

    def __init__(self, *answers: ScaleToZeroOutcome | Exception) -> None:
        self.clock = ManualClock()
        self.deactivator = FakeDeactivator(self.clock, *answers)
        self.recoveries = 0
        #: When any worker of the pool last captioned an image.
        self.captioned_at = -POLICY.idle_s
        idle_period = IdlePeriod(POLICY.idle_s, self.clock.time)
        self.timer = IdleTimer(lambda: self.deactivator, POLICY, self._recover, self._quiet_s, idle_period)
        self.hub = cast("Hub", ClockHub(self.clock))
        self.timer.start(self.hub)

    def _quiet_s(self) -> float:
        return self.clock.now - self.captioned_at

    def _recover(self) -> None:
        self.recoveries += 1


@given(st.lists(st.floats(0, 100), max_size=10), st.floats(0, 200))
def test_the_idle_period_begins_with_the_last_message(gaps: list[float], quiet: float) -> None:
    """The idle period ends exactly `idle_s` after the last message; earlier messages do not count."""
    clock = ManualClock()
    idle_period = IdlePeriod(POLICY.idle_s, clock.time)
    for gap in gaps:
        clock.advance(gap)
        idle_period.touch()
    clock.advance(quiet)
    assert idle_period.left_s() == pytest.approx(max(0, POLICY.idle_s - quiet), abs=1e-6)


def test_the_pool_is_put_to_sleep_when_the_idle_period_is_over_and_not_before() -> None:
    """A message at 60 s of 100 moves the end to 160 s."""
    bench = Bench()
    bench.clock.advance(60)
    bench.timer.touch()
    bench.clock.advance(99)
    assert bench.deactivator.tried == []
    bench.clock.advance(1)
    assert bench.deactivator.tried == [160]


@pytest.mark.parametrize("outcome", ScaleToZeroOutcome)
def test_a_worker_that_lives_on_tries_again(outcome: ScaleToZeroOutcome) -> None:
    """When the answer says so."""
    bench = Bench(outcome)
    bench.clock.advance(100 + outcome.again_after_s(POLICY))
    assert bench.deactivator.tried == [100, 100 + outcome.again_after_s(POLICY)]


def test_rows_without_messages_are_looked_for() -> None:
    """Whatever made Redis forget them, they are put back, once for each time they were found."""
    bench = Bench(ScaleToZeroOutcome.UNFINISHED, ScaleToZeroOutcome.UNFINISHED, ScaleToZeroOutcome.QUEUED)
    bench.clock.advance(300)
    assert (bench.recoveries, bench.deactivator.tried) == (2, [100, 200, 300])


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), BrokerUnavailable("away"), RuntimeError("a bug")])
def test_no_error_leaves_the_pool_awake_for_good(error: Exception) -> None:
    """It is tried again after another idle period."""
    bench = Bench(error)
    bench.clock.advance(200)
    assert bench.deactivator.tried == [100, 200]


@pytest.mark.parametrize("error", [ScalingRefused("no"), ScalingDenied("no"), ScalingUnknown("?")])
def test_a_sleep_that_came_too_late_is_taken_back_until_that_succeeds(error: DroplineError) -> None:
    """No second sleep is tried while the first may have stranded an image."""
    bench = Bench(error)
    bench.deactivator.failing_wakes = [ScalingUnknown("?"), ScalingRefused("no")]
    bench.clock.advance(150)
    assert (bench.deactivator.tried, bench.deactivator.woken) == ([100], [105, 110, 115])
    bench.clock.advance(65)
    assert bench.deactivator.tried == [100, 215]


def test_a_worker_that_is_told_to_stop_still_takes_back_its_sleep() -> None:
    """It is told to stop by the very sleep that it has to take back."""
    bench = Bench(ScalingUnknown("?"))
    bench.clock.advance(101)
    bench.timer.stop()
    assert (bench.deactivator.woken, bench.clock.pending) == ([101], 0)


def test_a_pool_is_idle_when_all_its_workers_are() -> None:
    """This one has had no message for 100 s, and another has captioned an image at 60 s."""
    bench = Bench()
    bench.captioned_at = 60
    bench.clock.advance(159)
    assert bench.deactivator.tried == []
    bench.clock.advance(1)
    assert bench.deactivator.tried == [160]


def test_what_is_owed_is_not_put_off_by_the_message_that_it_is_owed_to() -> None:
    """The image that was stranded may still reach this worker, which is being stopped."""
    bench = Bench(ScalingUnknown("?"))
    bench.clock.advance(101)
    bench.timer.touch()
    bench.clock.advance(20)
    assert bench.deactivator.woken == [105]


def test_what_is_owed_is_done_soon_after_a_new_connection() -> None:
    """A Redis that fails over loses the mark, and the worker its connection."""
    bench = Bench(ScalingUnknown("?"))
    bench.deactivator.failing_wakes = [ScalingUnknown("?")]
    bench.clock.advance(101)
    bench.timer.stop()
    bench.timer.start(bench.hub)
    bench.clock.advance(20)
    assert bench.deactivator.woken == [101, 106]


def test_a_new_connection_arms_the_timer_once() -> None:
    """Celery starts its consumer anew after each loss of the broker."""
    bench = Bench()
    bench.clock.advance(50)
    bench.timer.stop()
    assert bench.clock.pending == 0
    bench.timer.start(bench.hub)
    bench.timer.start(bench.hub)
    assert bench.clock.pending == 1
    bench.clock.advance(100)
    assert bench.deactivator.tried == [150]

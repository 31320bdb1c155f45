"""When a worker tries to scale to zero, and how the timer handles each outcome."""

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
    """The part of Kombu's event loop used by the timer, on a manual clock."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def call_later(self, delay: float, callback: Any, *args: Any) -> Any:
        return self._clock.call_at(self._clock.now + delay, lambda: callback(*args))


class FakeDeactivator:
    """A deactivator with scripted answers and recorded times of calls."""

    def __init__(self, clock: ManualClock, *answers: ScaleToZeroOutcome | Exception) -> None:
        self._clock = clock
        self._answers = list(answers)
        self.failing_wakes: list[DroplineError] = []
        self.tried: list[float] = []
        self.woken: list[float] = []
        #: Set for a Redis, and a Postgres, that is away when the worker stops.
        self.failing_forget: DroplineError | None = None
        self.failing_hand_over: DroplineError | None = None
        self.forget_tried = False
        self.forgotten = 0
        self.handed_over = 0

    def try_scale_to_zero(self) -> ScaleToZeroOutcome:
        self.tried.append(self._clock.now)
        answer = self._answers.pop(0) if self._answers else ScaleToZeroOutcome.ASLEEP
        if isinstance(answer, Exception):
            raise answer
        return answer

    def forget_awake(self) -> None:
        self.forget_tried = True
        if self.failing_forget is not None:
            raise self.failing_forget
        self.forgotten += 1

    def hand_over(self) -> None:
        """Have the worker pool checked."""
        assert self.forget_tried, "an event that reads `awake` later would be missed"
        if self.failing_hand_over is not None:
            raise self.failing_hand_over
        self.handed_over += 1

    def scale_up_again(self) -> None:
        self.woken.append(self._clock.now)
        if self.failing_wakes:
            raise self.failing_wakes.pop(0)


class Bench:
    """A timer on a manual clock, and the recorded effects."""

    def __init__(self, *answers: ScaleToZeroOutcome | Exception) -> None:
        self.clock = ManualClock()
        self.deactivator = FakeDeactivator(self.clock, *answers)
        self.looks = 0
        #: Time of the last caption of any worker.
        self.captioned_at = -POLICY.idle_s
        idle_period = IdlePeriod(POLICY.idle_s, self.clock.time)
        self.timer = IdleTimer(lambda: self.deactivator, POLICY, self._look, self._quiet_s, idle_period)
        self.hub = cast("Hub", ClockHub(self.clock))
        self.timer.start(self.hub)

    def _quiet_s(self) -> float:
        return self.clock.now - self.captioned_at

    def _look(self) -> None:
        self.looks += 1


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


def test_the_worker_pool_is_scaled_to_zero_at_the_end_of_the_idle_period() -> None:
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
    """The next try is after the time given by the outcome."""
    bench = Bench(outcome)
    bench.clock.advance(100 + outcome.again_after_s(POLICY))
    assert bench.deactivator.tried == [100, 100 + outcome.again_after_s(POLICY)]


def test_rows_without_messages_are_looked_for() -> None:
    """The worker looks at the queue after each UNFINISHED outcome: Redis may have lost messages."""
    bench = Bench(ScaleToZeroOutcome.UNFINISHED, ScaleToZeroOutcome.UNFINISHED, ScaleToZeroOutcome.QUEUED)
    bench.clock.advance(300)
    assert (bench.looks, bench.deactivator.tried) == (2, [100, 200, 300])


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), BrokerUnavailable("away"), RuntimeError("a bug")])
def test_no_error_leaves_the_worker_pool_up_for_good(error: Exception) -> None:
    """The timer tries again after another idle period."""
    bench = Bench(error)
    bench.clock.advance(200)
    assert bench.deactivator.tried == [100, 200]


@pytest.mark.parametrize("error", [ScalingRefused("no"), ScalingDenied("no"), ScalingUnknown("?")])
def test_a_late_scale_to_zero_is_undone_until_a_call_succeeds(error: DroplineError) -> None:
    """No second scale to zero is tried while the first may have stranded an image."""
    bench = Bench(error)
    bench.deactivator.failing_wakes = [ScalingUnknown("?"), ScalingRefused("no")]
    bench.clock.advance(150)
    assert (bench.deactivator.tried, bench.deactivator.woken) == ([100], [105, 110, 115])
    bench.clock.advance(65)
    assert bench.deactivator.tried == [100, 215]


def test_a_stopping_worker_still_scales_up_again() -> None:
    """The call to 0 stops the very worker responsible for the next call, so a stopping worker scales up too."""
    bench = Bench(ScalingUnknown("?"))
    bench.clock.advance(101)
    bench.timer.stop()
    assert (bench.deactivator.woken, bench.clock.pending) == ([101], 0)


def test_a_pool_is_idle_when_all_its_workers_are() -> None:
    """The worker had no message for 100 s, and another worker captioned an image at 60 s."""
    bench = Bench()
    bench.captioned_at = 60
    bench.clock.advance(159)
    assert bench.deactivator.tried == []
    bench.clock.advance(1)
    assert bench.deactivator.tried == [160]


def test_a_new_message_does_not_delay_a_pending_scale_up() -> None:
    """The stranded image may still reach the stopping worker."""
    bench = Bench(ScalingUnknown("?"))
    bench.clock.advance(101)
    bench.timer.touch()
    bench.clock.advance(20)
    assert bench.deactivator.woken == [105]


def test_a_pending_scale_up_is_tried_soon_after_a_new_connection() -> None:
    """A failover of Redis loses the mark and the connection of the worker."""
    bench = Bench(ScalingUnknown("?"))
    bench.deactivator.failing_wakes = [ScalingUnknown("?")]
    bench.clock.advance(101)
    bench.timer.stop()
    bench.timer.start(bench.hub)
    bench.clock.advance(20)
    assert bench.deactivator.woken == [101, 106]


def test_a_new_connection_arms_the_timer_once() -> None:
    """Celery restarts the consumer after each loss of the broker."""
    bench = Bench()
    bench.clock.advance(50)
    bench.timer.stop()
    assert bench.clock.pending == 0
    bench.timer.start(bench.hub)
    bench.timer.start(bench.hub)
    assert bench.clock.pending == 1
    bench.clock.advance(100)
    assert bench.deactivator.tried == [150]


def test_a_worker_that_stops_removes_the_mark() -> None:
    """The next event scales up."""
    bench = Bench()
    bench.timer.end()
    assert (bench.deactivator.forgotten, bench.deactivator.handed_over) == (1, 1)


def test_a_worker_that_stops_without_redis_has_its_rows_handed_over() -> None:
    """The check of the worker pool needs Postgres and Cloud Tasks alone."""
    bench = Bench()
    bench.deactivator.failing_forget = BrokerUnavailable("away")
    bench.timer.end()
    assert (bench.deactivator.forgotten, bench.deactivator.handed_over) == (0, 1)


def test_a_worker_that_stops_without_postgres_removes_the_mark() -> None:
    """The worker ends all the same."""
    bench = Bench()
    bench.deactivator.failing_hand_over = DatabaseUnavailable("away")
    bench.timer.end()
    assert (bench.deactivator.forgotten, bench.deactivator.handed_over) == (1, 0)


def test_a_worker_that_has_scaled_to_zero_leaves_the_mark() -> None:
    """An event may have scaled the worker pool up since; a message that arrives meanwhile changes that."""
    bench = Bench()
    bench.clock.advance(POLICY.idle_s)
    bench.timer.end()
    assert bench.deactivator.forgotten == 0
    bench.timer.touch()
    bench.timer.end()
    assert bench.deactivator.forgotten == 1

"""The alarm of a worker, on a manual clock: when it looks at the queue, and what it publishes."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.asynchronous import Hub

from dropline.broker.alarms import AlarmNotice
from dropline.errors import BrokerUnavailable, DatabaseUnavailable, DroplineError
from tests.support.clock import ManualClock
from worker.alarm import GRACE_S, Alarm, AlarmTimes

LEASE_S = 181.0
LONGEST_PAUSE_S = 64.0

seconds = st.floats(0, 1000)
names = st.sampled_from(["a", "b", "c"])


@given(st.lists(st.tuples(names, st.none() | seconds)), st.none() | seconds, st.none() | seconds)
def test_the_next_alarm_is_the_earliest_of_all(
    heard: list[tuple[str, float | None]], row_at: float | None, lease_at: float | None
) -> None:
    """The own alarm counts, and the latest notice of each other worker with its grace, unless it is None."""
    times = AlarmTimes()
    times.row_at, times.lease_at = row_at, lease_at
    for worker, in_s in heard:
        times.hear(7.0, AlarmNotice(worker, in_s))
    latest = [7.0 + in_s + GRACE_S for in_s in dict(heard).values() if in_s is not None]
    own = [each for each in (row_at, lease_at) if each is not None]
    assert times.own_at == min(own, default=None)
    assert times.next_at() == min([*latest, *own], default=None)


@given(st.lists(st.tuples(names, seconds)), st.none() | seconds, st.none() | seconds, st.floats(0, 2000))
def test_alarms_sound_once(
    heard: list[tuple[str, float]], row_at: float | None, lease_at: float | None, now: float
) -> None:
    """The alarms whose time has come are removed, and no other."""
    times = AlarmTimes()
    times.row_at, times.lease_at = row_at, lease_at
    for worker, in_s in heard:
        times.hear(0.0, AlarmNotice(worker, in_s))
    every = [row_at, lease_at, *(in_s + GRACE_S for in_s in dict(heard).values())]
    times.sound(now)
    assert times.next_at() == min((at for at in every if at is not None and at > now), default=None)


@given(st.lists(seconds, min_size=1), st.none() | seconds)
def test_a_row_brings_the_alarm_forward_and_never_puts_it_off(rows: list[float], before: float | None) -> None:
    """The earliest time stays."""
    times = AlarmTimes()
    times.row_at = before
    for at in rows:
        times.bring_forward(at)
    assert times.row_at == min([*rows, *([] if before is None else [before])])


@dataclass
class Loop:
    """The part of Kombu's event loop that the alarm uses, and the subscription."""

    clock: ManualClock
    readers: list[tuple[int, Callable[[], object]]] = field(default_factory=list)
    published: list[float | None] = field(default_factory=list)
    arrived: list[AlarmNotice] = field(default_factory=list)
    #: Errors of the next calls, by method.
    errors: dict[str, DroplineError] = field(default_factory=dict)
    is_open: bool = False

    def call_later(self, delay: float, callback: Any, *args: Any) -> Any:
        return self.clock.call_at(self.clock.now + delay, lambda: callback(*args))

    def add_reader(self, descriptor: int, callback: Any, *args: Any) -> None:
        self.readers.append((descriptor, lambda: callback(*args)))

    def publish(self, notice: AlarmNotice) -> None:
        assert notice.worker.startswith("me")
        self._check("publish")
        self.published.append(notice.in_s)

    def subscribe(self) -> int:
        self._check("subscribe")
        self.is_open = True
        return 40 + len(self.readers)

    def received(self) -> list[AlarmNotice]:
        self._check("received")
        found, self.arrived = self.arrived, []
        return found

    def close(self) -> None:
        self.is_open = False

    def hear(self, *notices: AlarmNotice) -> None:
        """Notices arrive on the latest subscription."""
        self.arrived += notices
        self.readers[-1][1]()

    def _check(self, method: str) -> None:
        if method in self.errors:
            raise self.errors.pop(method)


class Bench:
    """An alarm, and the times of its looks."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.loop = Loop(self.clock)
        self.looks: list[float] = []
        #: Answers of the next looks; then no row is to be awaited.
        self.answers: list[float | DroplineError | None] = []
        self.alarm = Alarm("me", LEASE_S, self._look, self.loop, self.clock.time)

    def start(self) -> None:
        """The consumer starts."""
        self.alarm.start(cast("Hub", self.loop))

    def _look(self) -> float | None:
        self.looks.append(self.clock.now)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, DroplineError):
            raise answer
        return answer


@pytest.fixture
def bench() -> Bench:
    """A started alarm without a row to await."""
    found = Bench()
    found.start()
    return found


def test_a_start_looks_at_once_and_nothing_more_without_rows(bench: Bench) -> None:
    """No timer is set: an idle worker is silent."""
    assert (bench.looks, bench.clock.pending, bench.loop.published) == ([0], 0, [])
    bench.clock.advance(10_000)
    assert bench.looks == [0]


def test_the_pauses_after_failures_of_children_grow(bench: Bench) -> None:
    """Postgres refuses the claims and serves the looks: each look sends messages, whose claims fail."""
    bench.alarm.taken("m")
    for _ in range(200):
        bench.alarm.failed("m")
        before = len(bench.looks)
        while len(bench.looks) == before:
            bench.clock.advance(0.25)
        bench.alarm.taken("m")
    gaps = [after - before for before, after in itertools.pairwise(bench.looks[1:])]
    assert max(gaps[:2]) <= 2.5
    assert min(gaps[-10:]) >= LONGEST_PAUSE_S / 2
    assert max(gaps) <= LONGEST_PAUSE_S + 0.25
    bench.alarm.ended("m", None)
    bench.alarm.failed("m2")
    looks = len(bench.looks)
    bench.clock.advance(1.0)
    assert len(bench.looks) == looks + 1


def test_a_row_in_a_back_off_is_looked_for_at_its_time(bench: Bench) -> None:
    """The result of the child has the seconds; the look reads the time of the row after the next."""
    bench.alarm.taken("m1")
    bench.alarm.ended("m1", 30.0)
    bench.answers = [100.0]
    bench.clock.advance(1000)
    assert bench.looks == [0, 30, 130]


def test_the_latest_look_decides(bench: Bench) -> None:
    """A look that finds a later row puts the alarm off."""
    bench.alarm.ended("m1", 30.0)
    bench.answers = [100.0]
    bench.alarm.look()
    bench.clock.advance(1000)
    assert bench.looks == [0, 0, 100]


def test_results_are_never_put_off_by_another_result(bench: Bench) -> None:
    """A child may have read the table before another, whose result comes first."""
    for message, next_in_s in (("m1", 30.0), ("m2", None), ("m3", 100.0), ("m4", 20.0)):
        bench.alarm.ended(message, next_in_s)
    bench.clock.advance(50)
    assert bench.looks == [0, 20]


def test_while_a_child_has_a_message_the_alarm_is_set_for_a_lease(bench: Bench) -> None:
    """The row of a child that hangs is due at the end of its lease; without a message no alarm is left."""
    bench.alarm.taken("m1")
    bench.alarm.taken("m2")
    bench.clock.advance(100)
    bench.alarm.ended("m1", None)
    bench.clock.advance(LEASE_S - 1)
    assert bench.looks == [0]
    bench.clock.advance(1)
    assert bench.looks == [0, 100 + LEASE_S]
    bench.alarm.ended("m2", None)
    assert bench.clock.pending == 0


def test_two_looks_are_a_moment_apart(bench: Bench) -> None:
    """A row that is due in no time at all does not make the event loop spin."""
    bench.alarm.ended("m1", 0.0)
    bench.answers = [0.0] * 3
    bench.clock.advance(0.9)
    assert bench.looks == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), BrokerUnavailable("full")])
def test_a_look_that_fails_is_repeated_with_growing_pauses(bench: Bench, error: DroplineError) -> None:
    """The pauses grow to a minute at most, with jitter; after a success they begin anew."""
    bench.answers = [error] * 12
    bench.alarm.look()
    bench.clock.advance(12 * LONGEST_PAUSE_S)
    pauses = [later - earlier for earlier, later in zip(bench.looks[1:], bench.looks[2:], strict=False)]
    assert len(pauses) == 12
    for number, pause_s in enumerate(pauses):
        longest = min(LONGEST_PAUSE_S, 2.0**number)
        assert longest / 2 <= pause_s <= longest
    assert bench.clock.pending == 0
    bench.answers = [error]
    bench.alarm.look()
    bench.clock.advance(1.0)
    assert bench.clock.pending == 0


def test_the_alarm_is_published_when_it_changes(bench: Bench) -> None:
    """The seconds until the alarm; None when none is left. A change of less than a second is left out."""
    bench.alarm.taken("m1")
    bench.alarm.ended("m1", 30.0)
    bench.alarm.ended("m2", 29.5)
    assert bench.loop.published == [LEASE_S, 30.0]
    bench.clock.advance(29.5)
    assert bench.loop.published == [LEASE_S, 30.0, None]


def test_an_alarm_that_redis_does_not_take_is_published_later(bench: Bench) -> None:
    """The alarm itself is set all the same."""
    bench.loop.errors["publish"] = BrokerUnavailable("away")
    bench.alarm.ended("m1", 30.0)
    assert (bench.loop.published, bench.clock.pending) == ([], 1)
    bench.clock.advance(10)
    bench.alarm.ended("m2", None)
    assert bench.loop.published == [20.0]


def test_the_alarm_of_another_worker_sounds_here_a_moment_later(bench: Bench) -> None:
    """The other worker may have died; the own notices are left out."""
    bench.loop.hear(AlarmNotice("other", 30.0), AlarmNotice("me", 1.0))
    bench.clock.advance(30 + GRACE_S - 0.01)
    assert bench.looks == [0]
    bench.clock.advance(0.01)
    assert bench.looks == [0, 30 + GRACE_S]
    assert bench.clock.pending == 0


def test_the_alarm_of_a_worker_that_lives_is_taken_back(bench: Bench) -> None:
    """The other worker has looked first."""
    bench.loop.hear(AlarmNotice("other", 30.0))
    bench.clock.advance(30)
    bench.loop.hear(AlarmNotice("other", None))
    assert bench.clock.pending == 0


def test_a_lost_subscription_is_made_anew_and_the_queue_looked_at(bench: Bench) -> None:
    """Notices may be lost, so the look reads the table."""
    bench.answers = [40.0]
    bench.loop.errors["received"] = BrokerUnavailable("lost")
    bench.loop.hear()
    assert [descriptor for descriptor, _ in bench.loop.readers] == [40, 41]
    bench.loop.hear(AlarmNotice("other", 10.0))
    bench.clock.advance(100)
    assert bench.looks == [0, 0, 10 + GRACE_S]


def test_without_a_subscription_the_own_alarm_works() -> None:
    """Redis refuses the subscription: the worker starts, and its own alarm is set."""
    bench = Bench()
    bench.loop.errors["subscribe"] = BrokerUnavailable("away")
    bench.answers = [30.0]
    bench.start()
    bench.clock.advance(100)
    assert (bench.looks, bench.loop.readers) == ([0, 30], [])


def test_a_stopped_alarm_is_silent_until_the_next_start(bench: Bench) -> None:
    """Celery drops timers and readers with the connection; messages of before are of no consumer any more."""
    bench.alarm.taken("m1")
    bench.alarm.stop()
    assert (bench.clock.pending, bench.loop.is_open) == (0, False)
    bench.alarm.ended("m2", 5.0)
    assert bench.clock.pending == 0
    bench.clock.advance(100)
    bench.start()
    assert (bench.looks, bench.clock.pending, bench.loop.is_open) == ([0, 100], 0, True)


def test_a_worker_that_stops_has_the_others_look(bench: Bench) -> None:
    """Also where a child ends later, and its alarm is taken back; without Redis every worker reconnects."""
    told: list[AlarmNotice] = []

    def tell(notice: AlarmNotice) -> None:
        told.append(notice)

    bench.loop.publish = tell  # type: ignore[method-assign]
    bench.alarm.taken("m1")
    bench.alarm.stop()
    bench.alarm.hand_over()
    bench.alarm.ended("m1", None)
    assert [(notice.worker, notice.in_s) for notice in told] == [
        ("me", LEASE_S),
        ("me stopped", 0.0),
        ("me", None),
    ]
    other = Bench()
    other.start()
    other.loop.hear(*told)
    other.clock.advance(GRACE_S)
    assert other.looks == [0, GRACE_S]
    del bench.loop.publish
    bench.loop.errors["publish"] = BrokerUnavailable("away")
    bench.alarm.hand_over()

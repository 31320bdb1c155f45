"""The gate: what the parent may take, when it probes, and what it saves, on a manual clock."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery.worker import state
from celery.worker.request import Request
from kombu.asynchronous import Hub

from dropline.errors import DatabaseUnavailable
from dropline.settings import WorkerSettings
from tests.support.clock import ManualClock
from worker.breaker import DEATHS, EngineUse
from worker.engine.board import Trust
from worker.gate import Gate

SETTINGS = WorkerSettings(retry_base_s=1, retry_cap_s=10, retry_for_s=1000)


class Message:
    """Stands for a request that a child has; referenced weakly by Celery."""


class Bench:
    """A gate, the channel that it guards, and the recorded effects."""

    def __init__(self, *devices: str) -> None:
        self.clock = ManualClock()
        #: What the children know, by engine.
        self.trust: dict[int, Trust] = {}
        #: Saved reasons and attempts.
        self.saved: list[tuple[str | None, Mapping[int, int]]] = []
        self.looked_at: list[float] = []
        self.is_postgres_away = False
        self.channel_has_room = True
        self.channel = SimpleNamespace(qos=SimpleNamespace(can_consume=lambda: self.channel_has_room))
        self.gate = Gate(
            SETTINGS,
            self._save,
            lambda: self.looked_at.append(self.clock.now),
            self.clock.time,
            devices=devices or ("",),
            set_trust=self.trust.__setitem__,
        )
        self.engine = 0
        self.start()

    def start(self) -> None:
        """Start the consumer, as after a connection."""
        hub = SimpleNamespace(
            call_later=lambda delay, callback: self.clock.call_at(self.clock.now + delay, callback)
        )
        self.gate.start(cast("Hub", hub), self.channel)

    def _save(self, reason: str | None, lost_attempts: Mapping[int, int]) -> None:
        if self.is_postgres_away:
            raise DatabaseUnavailable("away")
        self.saved.append((reason, dict(lost_attempts)))

    def die(self, row_id: int) -> None:
        """The next engine dies on a row."""
        self.engine += 1
        self.gate.report(EngineUse(self.engine, row_id, lost=True))

    def caption(self, row_id: int) -> None:
        """The next engine captions a row."""
        self.engine += 1
        self.gate.report(EngineUse(self.engine, row_id, lost=False))

    def open(self) -> None:
        """Deaths on different rows."""
        for row_id in range(1, DEATHS + 1):
            self.die(row_id)

    def may_take(self) -> bool:
        """Kombu's question before each BRPOP."""
        return bool(self.channel.qos.can_consume())


@pytest.fixture
def bench() -> Bench:
    """A gate whose breaker is closed."""
    return Bench()


def test_a_closed_breaker_leaves_the_channel_alone(bench: Bench) -> None:
    """Celery's own limit holds; no timer is set and nothing is saved."""
    bench.die(1)
    bench.caption(2)
    assert bench.may_take()
    bench.channel_has_room = False
    assert not bench.may_take()
    assert (bench.saved, bench.looked_at) == ([], [])


def test_an_open_breaker_takes_nothing_until_its_probe(bench: Bench) -> None:
    """The state and the attempts are saved at once; after the pause a look sends a message for the probe."""
    bench.open()
    assert not bench.may_take()
    ((reason, lost),) = bench.saved
    assert (reason is not None, lost) == (True, {1: 1, 2: 1, 3: 1})
    bench.clock.advance(0.9)
    assert not bench.may_take()
    bench.clock.advance(0.2)
    assert bench.may_take()
    assert bench.looked_at == [1.0]


def test_a_probe_is_one_message(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a child has it, no further one is taken; a probe without a result is followed by another."""
    reserved: set[Request] = set()
    monkeypatch.setattr(state, "reserved_requests", reserved)
    bench.open()
    bench.clock.advance(1)
    reserved.add(cast("Request", Message()))
    assert not bench.may_take()
    reserved.clear()
    assert bench.may_take()


def test_the_pauses_between_probes_grow(bench: Bench) -> None:
    """To the largest back-off of the settings."""
    bench.open()
    for _ in range(6):
        bench.clock.advance(20)
        bench.die(7)
    gaps = [now - before for before, now in zip(range(0, 120, 20), bench.looked_at, strict=True)]
    assert gaps == [1, 2, 4, 8, 10, 10]
    assert all(reason is not None for reason, _ in bench.saved)
    assert [lost for _, lost in bench.saved[1:]] == [{7: 1}] * 6


def test_a_caption_lets_all_children_work(bench: Bench) -> None:
    """The state is saved, and a look sends messages for all children; no further probe follows."""
    bench.open()
    bench.clock.advance(1)
    bench.caption(9)
    assert bench.may_take()
    assert bench.saved[-1] == (None, {})
    bench.clock.advance(500)
    assert bench.looked_at == [1.0, 1.0]


def test_the_next_opening_begins_with_the_shortest_pause(bench: Bench) -> None:
    """The pauses of the last time are over."""
    bench.open()
    bench.clock.advance(20)
    bench.die(7)
    bench.clock.advance(20)
    bench.caption(9)
    for row_id in (11, 12, 13):
        bench.die(row_id)
    bench.looked_at.clear()
    bench.clock.advance(1)
    assert bench.looked_at == [41.0]


def test_what_postgres_refuses_is_saved_later(bench: Bench) -> None:
    """With growing pauses, each attempt once, also after the breaker has closed."""
    bench.is_postgres_away = True
    bench.open()
    bench.clock.advance(2)
    bench.caption(9)
    assert bench.saved == []
    bench.is_postgres_away = False
    bench.clock.advance(100)
    assert bench.saved == [(None, {1: 1, 2: 1, 3: 1})]


def test_after_a_reconnection_the_new_channel_is_guarded(bench: Bench) -> None:
    """Celery drops the timers of the event loop: the pause begins again."""
    bench.open()
    bench.gate.stop()
    bench.channel = SimpleNamespace(qos=SimpleNamespace(can_consume=lambda: True))
    bench.clock.advance(50)
    assert bench.looked_at == []
    bench.start()
    assert not bench.may_take()
    bench.clock.advance(1)
    assert bench.may_take()


def test_what_was_not_saved_before_a_reconnection_is_saved_after_it(bench: Bench) -> None:
    """The connection may have been lost together with Postgres."""
    bench.is_postgres_away = True
    bench.open()
    bench.gate.stop()
    bench.is_postgres_away = False
    bench.start()
    assert bench.saved[0][1] == {1: 1, 2: 1, 3: 1}


def test_the_breaker_is_given_up_with_the_time_of_retries(bench: Bench) -> None:
    """From then on lost attempts count, so that the rows end and the worker pool may sleep."""
    bench.open()
    while bench.clock.now < 1000:
        bench.clock.advance(20)
        bench.die(7)
    bench.saved.clear()
    bench.clock.advance(20)
    assert bench.saved == [(None, {})]
    bench.die(8)
    assert bench.may_take()
    assert len(bench.saved) == 1


def test_a_stopped_gate_sets_no_timer(bench: Bench) -> None:
    """A child's last result arrives while the worker stops."""
    bench.gate.stop()
    bench.is_postgres_away = True
    bench.open()
    bench.clock.advance(100)
    assert bench.looked_at == []


def test_the_channel_is_any_object_with_kombus_question(bench: Bench) -> None:
    """Each start guards the channel of its consumer alone."""
    old: Any = bench.channel
    bench.channel = SimpleNamespace(qos=SimpleNamespace(can_consume=lambda: False))
    bench.start()
    assert not bench.may_take()
    assert old.qos.can_consume()


def test_a_broken_engine_of_two_stops_no_message() -> None:
    """The captions of the other engine do not close the breaker; one of a later start of the same engine does."""
    bench = Bench("cuda:0", "cuda:1")
    for engine, row_id in ((1, 11), (3, 12), (5, 13)):
        bench.gate.report(EngineUse(2, 10 + row_id, lost=False))
        bench.gate.report(EngineUse(engine, row_id, lost=True))
    assert bench.may_take()
    assert bench.trust == {0: Trust.OPEN}
    ((reason, lost),) = bench.saved
    assert lost == {11: 1, 12: 1, 13: 1}
    assert reason == "engine 1 (cuda:0) died on 3 different images in a row, and gets one image at a time"
    bench.clock.advance(1.1)
    assert bench.trust == {0: Trust.PROBE}
    bench.gate.report(EngineUse(2, 99, lost=False))
    assert bench.trust == {0: Trust.PROBE}
    bench.gate.report(EngineUse(7, 14, lost=False))
    assert bench.trust == {0: Trust.CLOSED}
    assert bench.saved[-1] == (None, {})


def test_a_fault_of_the_machine_opens_all_breakers_before_an_image_is_set_aside() -> None:
    """Each engine died too seldom for its own breaker; all attempts are given back, and captions end it."""
    bench = Bench("cuda:0", "cuda:1")
    for engine, row_id in ((1, 11), (2, 12), (3, 13)):
        bench.gate.report(EngineUse(engine, row_id, lost=True))
    assert bench.trust == {0: Trust.OPEN, 1: Trust.OPEN}
    assert not bench.may_take()
    reason, lost = bench.saved[-1]
    assert lost == {11: 1, 12: 1, 13: 1}
    assert "engine 2 (cuda:1) gets one image at a time, since engines died on 3 different images" in (reason or "")
    bench.clock.advance(1.1)
    for engine in (4, 5):
        bench.gate.report(EngineUse(engine, 20 + engine, lost=False))
    assert bench.trust == {0: Trust.CLOSED, 1: Trust.CLOSED}
    assert bench.saved[-1] == (None, {})


def test_a_caption_of_either_engine_ends_a_row_of_deaths() -> None:
    """Deaths with captions between them are those of their images."""
    bench = Bench("cuda:0", "cuda:1")
    for engine, row_id in ((1, 11), (2, 12), (3, 13), (4, 14)):
        bench.gate.report(EngineUse(engine, row_id, lost=True))
        bench.gate.report(EngineUse(1, 100 + row_id, lost=False))
    assert bench.may_take()
    assert bench.trust == {}


def test_with_two_broken_engines_one_message_passes_at_a_time() -> None:
    """Both reasons are saved; the probe of either is enough."""
    bench = Bench("cuda:0", "cuda:1")
    for start in range(DEATHS):
        for index in range(2):
            bench.gate.report(EngineUse(2 * start + index + 1, 10 * start + index, lost=True))
    assert not bench.may_take()
    assert (bench.saved[-1][0] or "").count("different images in a row") == 2
    bench.clock.advance(1.1)
    assert bench.may_take()
    bench.gate.report(EngineUse(8, 77, lost=False))
    assert bench.may_take()
    assert bench.trust == {0: Trust.PROBE, 1: Trust.CLOSED}

"""The queue's protocol in virtual time: whatever is lost, no row stays due while a worker is idle."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.queue_world import LEASE_S, MOST_MESSAGES, World

#: A look follows within a minute of the time when a row is due; the alarm of a dead worker has a grace.
PATIENCE_S = 60.0

Step = Callable[[World], None]


def _to_worker(number: int, act: Callable[..., None]) -> Step:
    def step(world: World) -> None:
        names = sorted(world.workers)
        if names:
            act(world.workers[names[number % len(names)]])

    return step


def _act(name: str) -> Callable[[int], Step]:
    return lambda number: _to_worker(number, lambda worker: getattr(worker, name)())


def _switch(name: str, *, on: bool) -> Step:
    def step(world: World) -> None:
        setattr(world, name, on)
        if name == "redis_up":
            for worker in list(world.workers.values()):
                if on:
                    worker.connect()
                else:
                    worker.disconnect()

    return step


steps = st.one_of(
    st.builds(
        lambda priority, backoffs: lambda world: world.drop(priority=priority, backoffs=tuple(backoffs)),
        st.integers(0, 2),
        st.lists(st.floats(0, 400), max_size=2),
    ),
    st.builds(lambda seconds: lambda world: world.advance(seconds), st.floats(0, 250)),
    st.builds(lambda slots: lambda world: world.start(slots), st.integers(1, 3)),
    *(st.builds(_act(name), st.integers(0, 3)) for name in ("kill", "kill_child", "stop", "freeze", "thaw")),
    st.builds(lambda keep: lambda world: world.lose_messages(keep), st.integers(0, 3)),
    st.builds(lambda keep: lambda world: world.restart_redis(keep), st.integers(0, 3)),
    st.builds(
        lambda name, on: _switch(name, on=on),
        st.sampled_from(["redis_up", "takes_writes", "postgres_up"]),
        st.booleans(),
    ),
)


def _recover(world: World) -> None:
    """Every server is up, every parent runs, and at least one worker lives and does not stop."""
    for name in ("takes_writes", "postgres_up", "redis_up"):
        _switch(name, on=True)(world)
    for worker in list(world.workers.values()):
        worker.thaw()
    if world.must_restart or all(worker.stopping for worker in world.workers.values()):
        world.start()


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=40))
def test_every_row_is_captioned_once_whatever_happens(taken: list[Step]) -> None:
    """After any sequence of drops, losses, kills, freezes and outages, all rows end, each with one caption."""
    world = World()
    world.start()
    for step in taken:
        step(world)
        assert len(world.messages) <= MOST_MESSAGES + 3 * len(world.workers) + 3
    _recover(world)
    longest = (
        sum(sum(row.backoffs) for row in world.rows) + sum(row.due_at > world.now for row in world.rows) * LEASE_S
    )
    world.advance(2 * LEASE_S + longest + len(world.rows) * 10 + PATIENCE_S)
    assert [row for row in world.rows if not row.done] == []
    assert {row.captions for row in world.rows} <= {1}


def test_the_row_of_a_killed_worker_reaches_an_idle_one() -> None:
    """The idle worker has heard the alarm; the killed worker is never started again."""
    world = World()
    busy, _idle = world.start(), world.start()
    world.drop()
    assert busy.jobs
    busy.kill()
    world.advance(LEASE_S + PATIENCE_S)
    assert world.rows[0].done


def test_a_worker_that_starts_late_hears_of_the_next_message() -> None:
    """The busy worker has published its alarm before, for a row that is no longer there."""
    world = World()
    busy = world.start()
    world.drop(backoffs=(200.0,))
    world.advance(100.0)
    world.rows[0].done = True
    world.start()
    world.drop()
    assert busy.jobs
    busy.kill()
    world.advance(2 * LEASE_S + PATIENCE_S)
    assert world.rows[1].done


@pytest.mark.parametrize("publishes", [True, False])
def test_a_worker_that_stops_leaves_its_rows_to_the_others(publishes: bool) -> None:
    """They have heard its alarm. Control: without published alarms, the row waits."""
    world = World(publishes=publishes)
    busy, _idle = world.start(), world.start()
    world.drop(backoffs=(30.0,))
    assert busy.jobs
    busy.stop()
    assert busy.jobs, "the row at work is finished"
    world.advance(30.0 + PATIENCE_S)
    assert list(world.workers) == ["w2"]
    assert world.rows[0].done == publishes


@pytest.mark.parametrize("hands_over", [True, False])
def test_a_message_that_a_stopping_worker_has_not_read_is_replaced(hands_over: bool) -> None:
    """Redis had sent it before the signal. Control: no other worker looks."""
    world = World(hands_over=hands_over)
    stopping, _idle = world.start(), world.start()
    stopping.freeze()
    stopping.stop()
    world.drop()
    stopping.thaw()
    world.advance(PATIENCE_S)
    assert world.rows[0].done == hands_over


def test_without_published_alarms_that_row_waits() -> None:
    """Control: no worker looks."""
    world = World(publishes=False)
    busy, _idle = world.start(), world.start()
    world.drop()
    assert busy.jobs
    busy.kill()
    world.advance(100 * LEASE_S)
    assert not world.rows[0].done


def test_an_older_result_that_is_read_later_puts_no_alarm_off() -> None:
    """The first child read the table before the second queued its row again, and its result comes after."""
    world = World()
    world.start(2)
    world.drop()
    waiting = world.drop(backoffs=(1.0,))
    world.advance(10.0)
    assert world.rows[waiting].done


def test_messages_lost_with_the_connections_open() -> None:
    """FLUSHALL under load: the children's ends find the rows, and all children are at work again."""
    world = World()
    world.start(3)
    for _ in range(40):
        world.drop()
    world.lose_messages()
    world.advance(40 * 2.0 / 3 + 5)
    assert all(row.done for row in world.rows)


def test_one_message_brings_all_children_to_work() -> None:
    """A million rows need no message each."""
    world = World()
    for _ in range(60):
        world.drop(message=False)
    world.start(6)
    world.advance(60 * 2.0 / 6 + 5)
    assert all(row.done for row in world.rows)


def test_urgent_rows_go_first() -> None:
    """A fresh drop behind a bulk of rows is the next to be claimed, and the bulk's messages carry it."""
    world = World()
    for _ in range(30):
        world.drop(priority=2)
    world.start(1)
    world.advance(1.0)
    fresh = world.drop()
    world.advance(4.0)
    assert world.rows[fresh].done


@pytest.mark.parametrize("backoffs", [(), (100.0,)])
def test_an_idle_system_is_silent(backoffs: tuple[float, ...]) -> None:
    """Without unfinished rows no timer is set; a row in a back-off has one look, at its time."""
    world = World()
    world.start()
    world.start()
    world.drop(backoffs=backoffs)
    world.advance(10.0)
    looks, sent = world.looks, world.sent
    world.advance(80.0)
    assert (world.looks, world.sent) == (looks, sent)
    world.advance(3600.0)
    assert world.rows[0].done
    assert world.looks - looks <= 2 * len(backoffs)
    assert world.clock.pending == 0


def test_a_night_without_a_store() -> None:
    """A hundred rows in back-offs cost looks and messages in proportion, and none is lost."""
    world = World()
    world.start(4)
    for number in range(100):
        world.drop(backoffs=(30.0 + number, 300.0, 300.0))
    world.advance(3600.0)
    assert all(row.done for row in world.rows)
    assert len(world.messages) <= MOST_MESSAGES

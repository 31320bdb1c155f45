"""Sleep and wake under any interleaving: nobody waits on a sleeping pool, and no idle pool stays awake.

The same test is pointed at protocols that are wrong on purpose, so that it is known to see what it looks for.
"""

import itertools
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropline.scaling.errors import PoolChanging, ScalingDenied, ScalingRefused, ScalingUnknown
from dropline.scaling.protocol import (
    AWAKE,
    SLEEPING,
    WAKING,
    AskUnfinished,
    Claim,
    Claimed,
    Look,
    Procedure,
    Rules,
    Scale,
    Slept,
    Swap,
    sleep,
    wake,
)
from tests.support.scaling_actors import Atomically
from tests.support.scaling_schedule import live
from tests.support.scaling_store import MemoryStore
from tests.support.scaling_world import Faults, World

INTERLEAVINGS = 3000

Wake = Callable[[str, Rules], Procedure[bool]]
Sleep = Callable[[str, Rules], Procedure[Slept]]

seeds = st.integers(0, 2**63)
lengths = st.integers(20, 200)


def check_any(make_world: Callable[[], World]) -> Counter[str]:
    """Live through many interleavings; what came of the wakes and sleeps in all of them together."""
    seen: Counter[str] = Counter()

    @settings(max_examples=INTERLEAVINGS, deadline=None, derandomize=True, database=None)
    @given(seeds, lengths)
    def check(seed: int, length: int) -> None:
        world = make_world()
        live(world, seed, length)
        seen.update(world.seen)

    check()
    return seen


def goes_wrong(world: World, seed: int) -> bool:
    """Whether the checks see something in this life."""
    try:
        live(world, seed, 150)
    except AssertionError:
        return True
    return False


def test_no_image_waits_on_a_sleeping_pool() -> None:
    """3,000 interleavings with crashes, lost answers, refusals and marks that run out; every outcome was met."""
    seen = check_any(lambda: World(MemoryStore()))
    errors = {kind.default_code for kind in (PoolChanging, ScalingRefused, ScalingDenied, ScalingUnknown)}
    outcomes = {outcome.value for outcome in Slept}
    assert seen.keys() == errors | outcomes | {"acknowledged"}


def test_a_redis_that_forgets_everything_costs_time_and_no_image() -> None:
    """With FLUSHALL at any step, as long as the worker that just calls 0 is not killed too."""
    seen = check_any(lambda: World(MemoryStore(), Faults(flush=True)))
    assert seen[Slept.WOKEN_AGAIN.value]
    assert seen[Slept.UNFINISHED.value]


def wake_if_first(token: str, rules: Rules) -> Procedure[bool]:
    """SET NX, and only the winner calls: one that dies in between leaves a mark that stops all others."""
    won: bool = yield Swap(None, AWAKE)
    if won:
        yield Scale(rules.instances)
    return won


def sleep_then_look_again(token: str, rules: Rules) -> Procedure[Slept]:
    """DEL while the queue is empty, 0, and another look: which a stopping worker may not live to take."""

    def delete(store: MemoryStore) -> bool:
        if not store.queue:
            store.mark = None
        return not store.queue

    deleted: bool = yield Atomically(delete)  # type: ignore[misc]
    if not deleted:
        return Slept.QUEUED
    yield Scale(0)
    if (yield Look()):
        yield Scale(rules.instances)
        return Slept.WOKEN_AGAIN
    return Slept.ASLEEP


def wake_without_proof(token: str, rules: Rules) -> Procedure[bool]:
    """Calls 1 and sets `awake`, whatever has happened meanwhile."""
    mark = yield Look()
    if mark == AWAKE:
        return False
    if mark is not None and mark.startswith(SLEEPING):
        raise PoolChanging("later")
    yield Scale(rules.instances)
    yield Atomically(lambda store: setattr(store, "mark", AWAKE))  # type: ignore[misc]
    return True


def wake_while_it_falls_asleep(token: str, rules: Rules) -> Procedure[bool]:
    """Calls 1 under a sleeping mark, and acknowledges."""
    mark = yield Look()
    if mark != AWAKE:
        yield Scale(rules.instances)
        yield Swap(None, AWAKE)
    return True


def wake_with_one_token_for_all(token: str, rules: Rules) -> Procedure[bool]:
    """A mark that comes back vouches for calls from before the sleep."""
    return (yield from wake("same", rules))


def wake_by_the_first_alone(token: str, rules: Rules) -> Procedure[bool]:
    """Who finds a waking mark leaves the call to whoever set it, and acknowledges."""
    mark = yield Look()
    if mark is not None and mark.startswith(WAKING):
        return False
    return (yield from wake(token, rules))


def sleep_without_asking(token: str, rules: Rules) -> Procedure[Slept]:
    """Trusts the empty queue: what other workers have in hand is not on it."""
    procedure = sleep(token, rules)
    command = next(procedure)
    while True:
        try:
            if isinstance(command, AskUnfinished):
                command = procedure.send(False)
            else:
                command = procedure.send((yield command))
        except StopIteration as end:
            result: Slept = end.value
            return result


def sleep_asking_first(token: str, rules: Rules) -> Procedure[Slept]:
    """Asks Postgres before the mark is set: an event may slip in between."""
    if (yield AskUnfinished()):
        return Slept.UNFINISHED
    return (yield from sleep_without_asking(token, rules))


def sleep_with_a_short_mark(token: str, rules: Rules) -> Procedure[Slept]:
    """Takes the mark away while a call to 0 may still be under way."""
    mark = SLEEPING + token
    if (yield Claim(mark, rules.lease_s)) is not Claimed.GRANTED:
        return Slept.TAKEN
    if (yield AskUnfinished()):
        yield Swap(mark, None)
        return Slept.UNFINISHED
    try:
        yield Scale(0)
    except ScalingUnknown:
        yield Swap(mark, None)
        return Slept.UNKNOWN
    yield Swap(mark, None)
    return Slept.ASLEEP


@pytest.mark.parametrize(
    ("wake_with", "sleep_with"),
    [
        (wake_if_first, sleep),
        (wake, sleep_then_look_again),
        (wake_if_first, sleep_then_look_again),
        (wake_without_proof, sleep),
        (wake_while_it_falls_asleep, sleep),
        (wake_with_one_token_for_all, sleep),
        (wake_by_the_first_alone, sleep),
        (wake, sleep_without_asking),
        (wake, sleep_asking_first),
        (wake, sleep_with_a_short_mark),
    ],
)
def test_the_interleavings_find_what_is_wrong(wake_with: Wake, sleep_with: Sleep) -> None:
    """Each protocol with one protection taken away leaves an image waiting, or believes in a pool that sleeps."""
    worlds = (World(MemoryStore(), wake_with=wake_with, sleep_with=sleep_with) for _ in itertools.count())
    assert any(goes_wrong(next(worlds), seed) for seed in range(10 * INTERLEAVINGS))


def sleep_without_looking_back(token: str, rules: Rules) -> Procedure[Slept]:
    """Does not mind that its mark is gone after the call."""
    mark = SLEEPING + token
    if (yield Claim(mark, rules.lease_s)) is not Claimed.GRANTED:
        return Slept.TAKEN
    if (yield AskUnfinished()):
        yield Swap(mark, None)
        return Slept.UNFINISHED
    if (yield Swap(mark, mark, rules.lease_s)):
        yield Scale(0)
        yield Swap(mark, None)
    return Slept.ASLEEP


def test_a_flush_is_survived_only_by_looking_back() -> None:
    """The same faults, and a worker that does not wake the pool again: an image waits for ever."""
    worlds = (
        World(MemoryStore(), Faults(flush=True), sleep_with=sleep_without_looking_back) for _ in itertools.count()
    )
    assert any(goes_wrong(next(worlds), seed) for seed in range(10 * INTERLEAVINGS))

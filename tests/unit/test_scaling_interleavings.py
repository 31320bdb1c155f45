"""Scale to zero under any interleaving: no image waits at 0 instances, and no idle worker pool stays up.

The same test runs on protocols with a deliberate error each, to prove that the test detects the error.
"""

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropline.errors import DroplineError
from dropline.scaling.errors import PoolChanging, ScalingDenied, ScalingRefused, ScalingUnknown
from dropline.scaling.protocol import (
    AWAKE,
    SLEEPING,
    WAKING,
    Admission,
    ArrangeWake,
    BeginScaleToZero,
    CheckUnfinished,
    ConfirmMark,
    Procedure,
    ReadMark,
    ReplaceMark,
    ScaleToZeroOutcome,
    ScalingPolicy,
    SetInstances,
    scale_to_zero,
    scale_up,
)
from tests.support.scaling_actors import Atomically
from tests.support.scaling_schedule import live
from tests.support.scaling_store import MemoryStore
from tests.support.scaling_world import Faults, World

INTERLEAVINGS = 2000

ScaleUp = Callable[[str, ScalingPolicy], Procedure[bool]]
ScaleToZero = Callable[[str, ScalingPolicy], Procedure[ScaleToZeroOutcome]]

seeds = st.integers(0, 2**63)
lengths = st.integers(20, 200)


def check_any(make_world: Callable[[], World]) -> Counter[str]:
    """Run many interleavings, and return the counts of all outcomes."""
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
    """Return True if a check fails in the run with the seed."""
    try:
        live(world, seed, 150)
    except AssertionError:
        return True
    return False


def test_no_image_waits_on_a_sleeping_pool() -> None:
    """2,000 interleavings with crashes, lost answers, refusals and expired marks pass; every outcome occurs."""
    seen = check_any(lambda: World(MemoryStore()))
    errors = {kind.default_code for kind in (PoolChanging, ScalingRefused, ScalingDenied, ScalingUnknown)}
    outcomes = {outcome.value for outcome in ScaleToZeroOutcome}
    assert seen.keys() == errors | outcomes | {"acknowledged"}


def test_a_redis_that_forgets_everything_costs_time_and_no_image() -> None:
    """No image waits after FLUSHALL at any step, unless the worker that calls 0 is killed in the same moment."""
    seen = check_any(lambda: World(MemoryStore(), Faults(flush=True)))
    assert seen[ScaleToZeroOutcome.WOKEN_AGAIN.value]
    assert seen[ScaleToZeroOutcome.UNFINISHED.value]


def test_a_failover_to_a_replica_that_lags_behind_costs_time_and_no_image() -> None:
    """No image waits, and the mark is never `awake` at 0 instances, after a failover at any step."""
    seen = check_any(lambda: World(MemoryStore(), Faults(failover=True)))
    assert seen[ScaleToZeroOutcome.ABANDONED.value]
    assert seen[ScaleToZeroOutcome.ASLEEP.value]


def scale_up_if_first(token: str, policy: ScalingPolicy) -> Procedure[bool]:
    """SET NX, and only the winner calls: after the death of the winner before the call, no process calls."""
    won: bool = yield ReplaceMark(None, AWAKE)
    if won:
        yield SetInstances(policy.instances)
    return won


def scale_to_zero_then_look_again(token: str, policy: ScalingPolicy) -> Procedure[ScaleToZeroOutcome]:
    """DEL while the queue is empty, 0, and a second check, which a stopping worker may not reach."""

    def delete(store: MemoryStore) -> bool:
        if not store.queue:
            store.mark = None
        return not store.queue

    deleted: bool = yield Atomically(delete)  # type: ignore[misc]
    if not deleted:
        return ScaleToZeroOutcome.QUEUED
    yield SetInstances(0)
    if (yield ReadMark()):
        yield SetInstances(policy.instances)
        return ScaleToZeroOutcome.WOKEN_AGAIN
    return ScaleToZeroOutcome.ASLEEP


def scale_up_without_proof(token: str, policy: ScalingPolicy) -> Procedure[bool]:
    """Calls 1 and sets `awake` without a check of the mark."""
    mark = yield ReadMark()
    if mark == AWAKE:
        return False
    if mark is not None and mark.startswith(SLEEPING):
        raise PoolChanging("later")
    yield SetInstances(policy.instances)
    yield Atomically(lambda store: setattr(store, "mark", AWAKE))  # type: ignore[misc]
    return True


def scale_up_while_it_falls_asleep(token: str, policy: ScalingPolicy) -> Procedure[bool]:
    """Calls 1 under a sleeping mark; the event is acknowledged."""
    mark = yield ReadMark()
    if mark != AWAKE:
        yield SetInstances(policy.instances)
        yield ReplaceMark(None, AWAKE)
    return True


def scale_up_with_one_token_for_all(token: str, policy: ScalingPolicy) -> Procedure[bool]:
    """A reused mark confirms calls made before the scale to zero."""
    return (yield from scale_up("same", policy))


def scale_up_by_the_first_alone(token: str, policy: ScalingPolicy) -> Procedure[bool]:
    """A process does not call under a waking mark; the event is acknowledged."""
    mark = yield ReadMark()
    if mark is not None and mark.startswith(WAKING):
        return False
    return (yield from scale_up(token, policy))


def scale_to_zero_without_asking(token: str, policy: ScalingPolicy) -> Procedure[ScaleToZeroOutcome]:
    """Uses the empty queue as proof, although other workers may hold messages."""
    procedure = scale_to_zero(token, policy)
    command = next(procedure)
    while True:
        try:
            if isinstance(command, CheckUnfinished):
                command = procedure.send(None)
            else:
                command = procedure.send((yield command))
        except StopIteration as end:
            result: ScaleToZeroOutcome = end.value
            return result


def scale_to_zero_asking_first(token: str, policy: ScalingPolicy) -> Procedure[ScaleToZeroOutcome]:
    """Queries Postgres before the mark is set: an event may arrive in between."""
    if (yield CheckUnfinished()) is not None:
        return ScaleToZeroOutcome.UNFINISHED
    return (yield from scale_to_zero_without_asking(token, policy))


def scale_to_zero_with_a_short_mark(token: str, policy: ScalingPolicy) -> Procedure[ScaleToZeroOutcome]:
    """Removes the mark while a call to 0 may still be under way."""
    mark = SLEEPING + token
    if (yield BeginScaleToZero(mark, policy.lease_s)) is not Admission.GRANTED:
        return ScaleToZeroOutcome.TAKEN
    if (yield CheckUnfinished()) is not None:
        yield ReplaceMark(mark, None)
        return ScaleToZeroOutcome.UNFINISHED
    try:
        yield SetInstances(0)
    except ScalingUnknown:
        yield ReplaceMark(mark, None)
        return ScaleToZeroOutcome.UNKNOWN
    yield ReplaceMark(mark, None)
    return ScaleToZeroOutcome.ASLEEP


def scale_to_zero_over_resting_rows(token: str, policy: ScalingPolicy) -> Procedure[ScaleToZeroOutcome]:
    """Scales to zero while rows rest, without a call that wakes the worker pool."""
    return (yield from _without_arranging(scale_to_zero(token, policy)))


def _without_arranging(procedure: Procedure[ScaleToZeroOutcome]) -> Procedure[ScaleToZeroOutcome]:
    command = next(procedure)
    while True:
        try:
            command = procedure.send(None if isinstance(command, ArrangeWake) else (yield command))
        except StopIteration as end:
            result: ScaleToZeroOutcome = end.value
            return result


def scale_to_zero_and_arrange_afterwards(token: str, policy: ScalingPolicy) -> Procedure[ScaleToZeroOutcome]:
    """Arranges the wake-up after the call to 0, which a stopping worker may not reach."""
    due_in_s = yield CheckUnfinished()
    outcome: ScaleToZeroOutcome = yield from _without_arranging(scale_to_zero(token, policy))
    if due_in_s:
        yield ArrangeWake(due_in_s)
    return outcome


def scale_to_zero_with_a_refused_wake(token: str, policy: ScalingPolicy) -> Procedure[ScaleToZeroOutcome]:
    """Takes an error of Cloud Tasks for an answer."""
    procedure = scale_to_zero(token, policy)
    command = next(procedure)
    while True:
        try:
            try:
                answer = yield command
            except ScalingUnknown as error:
                if not isinstance(command, ArrangeWake):
                    command = procedure.throw(error)
                    continue
                answer = None
            except DroplineError as error:
                command = procedure.throw(error)
                continue
            command = procedure.send(answer)
        except StopIteration as end:
            result: ScaleToZeroOutcome = end.value
            return result


@pytest.mark.parametrize(
    ("scale_up_with", "scale_to_zero_with"),
    [
        (scale_up_if_first, scale_to_zero),
        (scale_up, scale_to_zero_then_look_again),
        (scale_up_if_first, scale_to_zero_then_look_again),
        (scale_up_without_proof, scale_to_zero),
        (scale_up_while_it_falls_asleep, scale_to_zero),
        (scale_up_with_one_token_for_all, scale_to_zero),
        (scale_up_by_the_first_alone, scale_to_zero),
        (scale_up, scale_to_zero_without_asking),
        (scale_up, scale_to_zero_asking_first),
        (scale_up, scale_to_zero_with_a_short_mark),
        (scale_up, scale_to_zero_over_resting_rows),
        (scale_up, scale_to_zero_and_arrange_afterwards),
        (scale_up, scale_to_zero_with_a_refused_wake),
    ],
)
def test_the_interleavings_find_what_is_wrong(scale_up_with: ScaleUp, scale_to_zero_with: ScaleToZero) -> None:
    """Each protocol without a protection leaves an image waiting, or has the mark `awake` at 0 instances."""
    worlds = (
        World(MemoryStore(), scale_up_with=scale_up_with, scale_to_zero_with=scale_to_zero_with)
        for _ in itertools.count()
    )
    assert any(goes_wrong(next(worlds), seed) for seed in range(10 * INTERLEAVINGS))


def scale_to_zero_without_looking_back(token: str, policy: ScalingPolicy) -> Procedure[ScaleToZeroOutcome]:
    """Ignores a lost mark after the call."""
    mark = SLEEPING + token
    if (yield BeginScaleToZero(mark, policy.lease_s)) is not Admission.GRANTED:
        return ScaleToZeroOutcome.TAKEN
    if (yield CheckUnfinished()) is not None:
        yield ReplaceMark(mark, None)
        return ScaleToZeroOutcome.UNFINISHED
    if (yield ReplaceMark(mark, mark, policy.lease_s)):
        yield SetInstances(0)
        yield ReplaceMark(mark, None)
    return ScaleToZeroOutcome.ASLEEP


def test_a_flush_is_survived_only_by_looking_back() -> None:
    """After FLUSHALL an image waits for ever if the worker ignores a lost mark."""
    worlds = (
        World(MemoryStore(), Faults(flush=True), scale_to_zero_with=scale_to_zero_without_looking_back)
        for _ in itertools.count()
    )
    assert any(goes_wrong(next(worlds), seed) for seed in range(10 * INTERLEAVINGS))


def scale_to_zero_without_replicas(token: str, policy: ScalingPolicy) -> Procedure[ScaleToZeroOutcome]:
    """Renews the mark in the primary alone."""
    procedure = scale_to_zero(token, policy)
    resume: Callable[[], Any] = partial(next, procedure)
    while True:
        try:
            command = resume()
        except StopIteration as end:
            result: ScaleToZeroOutcome = end.value
            return result
        if isinstance(command, ConfirmMark):
            command = ReplaceMark(command.mark, command.mark, command.ttl_s)
        try:
            resume = partial(procedure.send, (yield command))
        except DroplineError as error:
            resume = partial(procedure.throw, error)


def test_a_failover_is_survived_only_with_the_mark_in_each_replica() -> None:
    """A replica that still has `awake` becomes the primary after the call to 0: an event is acknowledged."""
    worlds = (
        World(MemoryStore(), Faults(failover=True), scale_to_zero_with=scale_to_zero_without_replicas)
        for _ in itertools.count()
    )
    assert any(goes_wrong(next(worlds), seed) for seed in range(10 * INTERLEAVINGS))

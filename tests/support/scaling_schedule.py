"""The possible steps of a world, random runs, and the final state without faults."""

import random
from collections.abc import Callable
from functools import partial

from dropline.scaling.errors import ScalingDenied, ScalingRefused
from dropline.scaling.protocol import AWAKE, SLEEPING, ArrangeWake, ConfirmMark, ScaleToZeroOutcome
from tests.support.scaling_actors import Actor, Call, Instance
from tests.support.scaling_store import MemoryStore
from tests.support.scaling_world import World

#: A kind and an act.
Step = tuple[str, Callable[[], object]]

_MOST_UNACKNOWLEDGED = 2
_MOST_DELIVERIES = 3
_ROUNDS = 20
_FAULTS = {
    "crash of a function",
    "crash of a worker",
    "refusal",
    "lost answer",
    "lost call",
    "lapse",
    "expiry",
    "flush",
    "failover",
    "lag",
}
#: Possible weights of an ordinary step and of a fault.
_TEMPERS = ((0, 1, 5, 20), (0, 0, 0, 1))
#: Probability per step that all weights are drawn again.
_CHANGE = 0.06


def live(world: World, seed: int, length: int) -> None:
    """Take random steps, then come to rest; check the world after each step.

    The weights of the steps are drawn again every few steps: in some phases workers hardly ever crash, in others
    answers are late. With constant weights, frequent faults would stop most runs before the interesting states.

    Raises:
        AssertionError: a check has failed.
    """
    chance = random.Random(seed)
    weights: dict[str, int] = {}
    for _ in range(length):
        if chance.random() < _CHANGE:
            weights.clear()
        steps = possible_steps(world)
        kinds = [weights.setdefault(kind, chance.choice(_TEMPERS[kind in _FAULTS])) for kind, _ in steps]
        if any(kinds):
            chance.choices(steps, kinds)[0][1]()
        else:
            chance.choice(steps)[1]()
        world.check()
    come_to_rest(world)


def possible_steps(world: World) -> list[Step]:
    """All possible steps, each with its kind."""
    found: list[Step] = []
    unacknowledged = world.events - world.acknowledged
    if len(unacknowledged) < _MOST_UNACKNOWLEDGED:
        found.append(("publish", world.publish))
    if len(world.deliveries) < _MOST_DELIVERIES:
        found += [("deliver", partial(world.deliver, row)) for row in unacknowledged]
    for delivery in world.deliveries:
        if not world.calls_of(delivery.actor):
            found.append((f"function {delivery.row % 2}", partial(world.step_delivery, delivery)))
        found.append(("crash of a function", partial(world.crash_function, delivery)))
    for call in world.calls:
        found += _steps_of_call(world, call)
    found += _steps_of_time(world)
    for instance in world.instances:
        found += _steps_of_instance(world, instance)
    if world.must_start():
        found.append(("start", world.start))
    return found + _steps_of_redis(world)


def _steps_of_time(world: World) -> list[Step]:
    found: list[Step] = []
    if world.resting or world.wakes:
        found.append(("time", world.pass_time))
    if world.has_call_of_cloud_tasks():
        found.append(("wake", world.wake))
    for actor in world.waking:
        if not world.calls_of(actor):
            found.append(("step of a wake", partial(world.step_wake, actor)))
        found.append(("crash of a function", partial(world.crash_wake, actor)))
    return found


def _steps_of_call(world: World, call: Call) -> list[Step]:
    # Two kinds, fast and slow calls: a phase can delay the calls of one kind.
    pace = call.number % 2
    if call.applied:
        return [(f"answer {pace}", partial(world.respond, call)), ("lost answer", partial(world.lose, call))]
    found: list[Step] = [(f"effect {pace}", partial(world.apply, call))]
    if call.actor is None:
        return [*found, ("lost call", partial(world.calls.remove, call))]
    return [
        *found,
        ("refusal", partial(world.refuse, call, ScalingRefused("busy"))),
        ("refusal", partial(world.refuse, call, ScalingDenied("no right"))),
        ("lost answer", partial(world.lose, call)),
    ]


def _steps_of_instance(world: World, instance: Instance) -> list[Step]:
    found: list[Step] = []
    if not instance.ready:
        found.append(("ready", partial(world.become_ready, instance)))
    else:
        if world.store.queued():
            found.append(("take", partial(world.take, instance)))
        if instance.hand:
            found.append(("finish", partial(world.finish, instance)))
            found.append(("postpone", partial(world.postpone, instance)))
        if instance.deactivator is None:
            found.append(("idle", partial(world.begin_scale_to_zero, instance)))
        elif not world.calls_of(instance.deactivator):
            found += _steps_of_deactivator(world, instance, instance.deactivator)
    if not (world.faults.flush and instance.deactivator is not None):
        found.append(("crash of a worker", partial(world.crash_worker, instance)))
    return found


def _steps_of_deactivator(world: World, instance: Instance, deactivator: Actor) -> list[Step]:
    found: list[Step] = [("deactivator", partial(world.step_deactivator, instance))]
    if world.faults.failover and isinstance(deactivator.command, ConfirmMark):
        found.append(("lag", partial(world.lag, instance)))
    if isinstance(deactivator.command, ArrangeWake):
        found.append(("refusal", partial(world.refuse_wake, instance, taken=False)))
        found.append(("lost answer", partial(world.refuse_wake, instance, taken=True)))
    return found


def _steps_of_redis(world: World) -> list[Step]:
    mark = world.store.read()
    found: list[Step] = []
    if mark is not None and mark.startswith(SLEEPING):
        found.append(("lapse", world.lapse))
    if mark == AWAKE:
        found.append(("expiry", world.store.expire))
    if world.faults.flush:
        found.append(("flush", world.store.flush))
    if world.faults.failover:
        assert isinstance(world.store, MemoryStore)
        found += [
            ("failover", partial(world.store.fail_over, moment)) for moment in range(len(world.store.past))[-4:]
        ]
    return found


def come_to_rest(world: World) -> None:
    """Run without faults and new events: all rows are captioned, and one idle period later 0 instances run."""
    for _ in range(_ROUNDS):
        _end_what_is_under_way(world)
        for row in world.events - world.acknowledged:
            world.deliver(row)
            _end_what_is_under_way(world)
        _pass_the_time(world)
        _work(world)
        if world.acknowledged == world.events and not world.unfinished() and not world.store.queued():
            break
        for instance in [each for each in world.instances if each.ready]:
            _idle(world, instance)
    assert world.acknowledged == world.events, "events were never acknowledged"
    assert not world.unfinished(), f"rows {world.unfinished()} wait for ever"
    if world.count:
        _work(world)
        assert _idle(world, world.instances[-1]) is ScaleToZeroOutcome.ASLEEP
    assert world.count == 0
    assert world.store.read() != AWAKE


def _pass_the_time(world: World) -> None:
    """All back-offs end, and Cloud Tasks makes all its calls."""
    while world.resting or world.wakes:
        world.pass_time()
        if world.has_call_of_cloud_tasks():
            world.wake()
        _end_what_is_under_way(world)


def _work(world: World) -> None:
    for instance in [each for each in world.instances if each.stopping]:
        world.crash_worker(instance)
    if world.must_start():
        world.start()
    for instance in world.instances:
        if not instance.ready:
            world.become_ready(instance)
        while world.store.queued():
            world.take(instance)
        while instance.hand:
            world.finish(instance)


def _idle(world: World, instance: Instance) -> ScaleToZeroOutcome:
    world.begin_scale_to_zero(instance)
    deactivator = instance.deactivator
    assert deactivator is not None
    _end_what_is_under_way(world)
    assert isinstance(deactivator.result, ScaleToZeroOutcome)
    return deactivator.result


def _end_what_is_under_way(world: World) -> None:
    while world.calls or world.deliveries or world.waking or any(each.deactivator for each in world.instances):
        _end_calls(world)
        _step_all(world)
        world.check()
    if (world.store.read() or "").startswith(SLEEPING):
        world.lapse()


def _step_all(world: World) -> None:
    for actor in list(world.waking):
        if not world.calls_of(actor):
            world.step_wake(actor)
    for delivery in list(world.deliveries):
        if not world.calls_of(delivery.actor):
            world.step_delivery(delivery)
    for instance in world.instances:
        if instance.deactivator is not None and not world.calls_of(instance.deactivator):
            world.step_deactivator(instance)


def _end_calls(world: World) -> None:
    for call in list(world.calls):
        if not call.applied:
            world.apply(call)
        if call in world.calls:
            world.respond(call)

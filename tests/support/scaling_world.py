"""Simulation of scale to zero, step by step: events, functions, workers, Redis and Cloud Run.

Each step is a Redis command, the start or end of an API call, or a fault; the caller chooses the steps and so the
interleaving. After every step the world checks that no acknowledged image waits at 0 instances.

Assumption: a call to 0 takes effect before the mark of the call expires, or never.
"""

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from dropline.errors import DroplineError
from dropline.scaling.errors import ScalingRefused, ScalingUnknown
from dropline.scaling.protocol import (
    AWAKE,
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
from tests.support.scaling_actors import Actor, Atomically, Call, Commit, Delivery, Instance, Push
from tests.support.scaling_store import MemoryStore, Store

POLICY = ScalingPolicy(rest_s=1.0)
_MOST_INSTANCES = 3


@dataclass(frozen=True)
class Faults:
    """Faults beside crashes, lost answers and refusals."""

    flush: bool = False
    #: A replica that lags behind becomes the primary.
    failover: bool = False


class World:
    """The simulated state, and the steps that change the state."""

    def __init__(
        self,
        store: Store,
        faults: Faults = Faults(),
        scale_up_with: Callable[[str, ScalingPolicy], Procedure[bool]] = scale_up,
        scale_to_zero_with: Callable[[str, ScalingPolicy], Procedure[ScaleToZeroOutcome]] = scale_to_zero,
    ) -> None:
        self.store = store
        self.faults = faults
        self.scale_up_with, self.scale_to_zero_with = scale_up_with, scale_to_zero_with
        self.count = 0
        #: Committed rows; the value is True for a finished row.
        self.rows: dict[int, bool] = {}
        #: Published events.
        self.events: set[int] = set()
        self.acknowledged: set[int] = set()
        self.deliveries: list[Delivery] = []
        #: Moments at which rows in a back-off are due.
        self.resting: dict[int, int] = {}
        #: Moments of the calls that Cloud Tasks has taken.
        self.wakes: list[int] = []
        self.waking: list[Actor] = []
        self.now = 0
        self.instances: list[Instance] = []
        self.calls: list[Call] = []
        self.seen: Counter[str] = Counter()
        self._tokens = 0
        self._calls_made = 0

    def must_start(self) -> bool:
        serving = [instance for instance in self.instances if not instance.stopping]
        return self.count > 0 and not serving and len(self.instances) < _MOST_INSTANCES

    def calls_of(self, actor: Actor) -> list[Call]:
        return [call for call in self.calls if call.actor is actor]

    # The function.

    def publish(self) -> None:
        """An image is dropped."""
        self.events.add(len(self.events))

    def deliver(self, row: int) -> None:
        self.deliveries.append(Delivery(row, Actor(self._handle(row))))

    def _handle(self, row: int) -> Generator[Any, Any, None]:
        if (yield Commit(row)):
            yield Push(row)
            yield from self.scale_up_with(self._token(), POLICY)

    def step_delivery(self, delivery: Delivery) -> None:
        self._execute(delivery.actor)
        self._collect(delivery)

    def _collect(self, delivery: Delivery) -> None:
        if not delivery.actor.done:
            return
        self.deliveries.remove(delivery)
        if delivery.actor.error is None:
            self.acknowledged.add(delivery.row)
            self.seen["acknowledged"] += 1
        else:
            self.seen[delivery.actor.error.code] += 1

    def crash_function(self, delivery: Delivery) -> None:
        self.deliveries.remove(delivery)
        self._abandon(delivery.actor)

    def _abandon(self, actor: Actor) -> None:
        for call in self.calls_of(actor):
            call.actor = None
            if call.applied:
                self.calls.remove(call)

    # A worker.

    def start(self) -> None:
        self.instances.append(Instance())

    def become_ready(self, instance: Instance) -> None:
        instance.ready = True
        self._recover()

    def _recover(self) -> None:
        queued = self.store.queued()
        for row in self.due():
            if row not in queued:
                self.store.push(row)

    def take(self, instance: Instance) -> None:
        row = self.store.pop()
        if row is not None and row in self.due():
            instance.hand.add(row)

    def finish(self, instance: Instance) -> None:
        self.rows[instance.hand.pop()] = True

    def postpone(self, instance: Instance) -> None:
        """A transient error: the row is due after one or two moments."""
        self.resting[instance.hand.pop()] = self.now + 1 + self._tokens % 2

    def pass_time(self) -> None:
        """The next moment: rows become due, which an alarm tells a running worker, and Cloud Tasks calls."""
        self.now += 1
        self.resting = {row: at for row, at in self.resting.items() if at > self.now}
        if any(instance.ready for instance in self.instances):
            self._recover()

    def wake(self) -> None:
        """Cloud Tasks makes a call; after an error, the call comes again."""
        self.wakes.remove(min(self.wakes))
        self.waking.append(Actor(self.scale_up_with(self._token(), POLICY)))

    def has_call_of_cloud_tasks(self) -> bool:
        return any(at <= self.now for at in self.wakes)

    def step_wake(self, actor: Actor) -> None:
        self._execute(actor)
        self._collect_wake(actor)

    def _collect_wake(self, actor: Actor) -> None:
        if actor.done:
            self.waking.remove(actor)
            if actor.error is not None:
                self.wakes.append(self.now)

    def crash_wake(self, actor: Actor) -> None:
        """The function dies: Cloud Tasks has no answer, and calls again."""
        self.waking.remove(actor)
        self.wakes.append(self.now)
        self._abandon(actor)

    def refuse_wake(self, instance: Instance, *, taken: bool) -> None:
        """Cloud Tasks does not answer the deactivator, with or without a task."""
        assert instance.deactivator is not None
        assert isinstance(instance.deactivator.command, ArrangeWake)
        if taken:
            self.wakes.append(instance.deactivator.checked_at + round(instance.deactivator.command.in_s))
        instance.deactivator.fail(ScalingUnknown("no answer"))
        self._collect_deactivator(instance)

    def lag(self, instance: Instance) -> None:
        """A replica does not confirm the mark in time."""
        assert instance.deactivator is not None
        instance.deactivator.answer(False)
        self._collect_deactivator(instance)

    def begin_scale_to_zero(self, instance: Instance) -> None:
        instance.late = False
        instance.deactivator = Actor(self.scale_to_zero_with(self._token(), POLICY))

    def step_deactivator(self, instance: Instance) -> None:
        assert instance.deactivator is not None
        if (
            instance.late
            and isinstance(instance.deactivator.command, SetInstances)
            and instance.deactivator.command.instances == 0
        ):
            # `Deactivator` refuses to call 0 under an expired mark.
            instance.deactivator.fail(ScalingRefused("late"))
        else:
            self._execute(instance.deactivator)
        self._collect_deactivator(instance)

    def _collect_deactivator(self, instance: Instance) -> None:
        assert instance.deactivator is not None
        if not instance.deactivator.done:
            return
        result = instance.deactivator.result
        if instance.deactivator.error is None:
            self.seen[result.value] += 1
        if result is ScaleToZeroOutcome.UNFINISHED:
            self._recover()
        instance.deactivator = None

    def crash_worker(self, instance: Instance) -> None:
        """Killed by a fault, or after SIGTERM: then it may have removed the mark before."""
        self.instances.remove(instance)
        if instance.stopping and instance.ready:
            self.store.replace(ReplaceMark(AWAKE, None))
        if instance.deactivator is not None:
            self._abandon(instance.deactivator)

    # Cloud Run.

    def apply(self, call: Call) -> None:
        call.applied = True
        self.count = call.instances
        for instance in self.instances:
            instance.stopping = instance.stopping or not self.count
        if call.actor is None:
            self.calls.remove(call)

    def respond(self, call: Call) -> None:
        self._end(call, lambda actor: actor.answer(None))

    def refuse(self, call: Call, error: DroplineError) -> None:
        self._end(call, lambda actor: actor.fail(error))

    def lose(self, call: Call) -> None:
        """The caller gives up; the call may still take effect."""
        actor, applied = call.actor, call.applied
        self._end(call, lambda actor: actor.fail(ScalingUnknown("no answer")))
        if actor is not None and not applied:
            self.calls.append(Call(call.instances, None, call.number))

    def _end(self, call: Call, tell: Callable[[Actor], None]) -> None:
        self.calls.remove(call)
        if call.actor is None:
            return
        tell(call.actor)
        for delivery in [each for each in self.deliveries if each.actor is call.actor]:
            self._collect(delivery)
        for instance in [each for each in self.instances if each.deactivator is call.actor]:
            self._collect_deactivator(instance)
        if call.actor in self.waking:
            self._collect_wake(call.actor)

    # Redis.

    def lapse(self) -> None:
        """A sleeping mark expires, and with the mark every running call to 0."""
        self.store.expire()
        for call in [each for each in self.calls if each.instances == 0 and not each.applied]:
            self.lose(call)
        self.calls = [call for call in self.calls if call.instances or call.applied]
        for instance in self.instances:
            instance.late = instance.deactivator is not None

    def _execute(self, actor: Actor) -> None:
        match actor.command:
            case Commit(row):
                actor.answer(not self.rows.setdefault(row, False))
            case CheckUnfinished():
                # Real time between check and arrangement is short: the mark would expire.
                actor.checked_at = self.now
                actor.answer(self._due_in_s())
            case ArrangeWake(in_s):
                self.wakes.append(actor.checked_at + round(in_s))
                actor.answer(None)
            case SetInstances(instances):
                self._calls_made += 1
                self.calls.append(Call(instances, actor, self._calls_made))
            case command:
                actor.answer(self._in_redis(command))

    def _in_redis(self, command: Any) -> Any:
        match command:
            case Push(row):
                return self.store.push(row)
            case ReadMark():
                return self.store.read()
            case ReplaceMark():
                return self.store.replace(command)
            case BeginScaleToZero():
                return self.store.begin(command)
            case ConfirmMark():
                return self.store.confirm(command)
            case Atomically(act):
                assert isinstance(self.store, MemoryStore)
                return act(self.store)
        raise AssertionError(f"{command} is no step of this world")

    # Checks.

    def unfinished(self) -> list[int]:
        return [row for row, finished in self.rows.items() if not finished]

    def due(self) -> list[int]:
        """The unfinished rows whose time has come."""
        return [row for row in self.unfinished() if row not in self.resting]

    def _due_in_s(self) -> float | None:
        if self.due():
            return 0.0
        return float(min(self.resting.values()) - self.now) if self.resting else None

    def _has_wake_by(self, moment: int) -> bool:
        return bool(self.waking) or any(at <= moment for at in self.wakes)

    def check(self) -> None:
        """No acknowledged row waits at 0 instances, and the mark is never `awake` at 0 instances.

        A row that rests, or whose time has just come, may wait for a call of Cloud Tasks.
        """
        if self.faults.flush:
            return
        waiting = {
            row
            for row in self.acknowledged & set(self.unfinished())
            if not self._has_wake_by(self.resting.get(row, self.now))
        }
        assert self.count or not waiting, f"rows {waiting} are acknowledged and wait at 0 instances"
        if self.store.read() == AWAKE:
            assert self.count, "the mark is awake at 0 instances"
            assert not any(call.instances == 0 and not call.applied for call in self.calls), "and 0 is under way"

    def _token(self) -> str:
        self._tokens += 1
        return str(self._tokens)

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
    BeginScaleToZero,
    CheckUnfinished,
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

POLICY = ScalingPolicy()
_MOST_INSTANCES = 3


@dataclass(frozen=True)
class Faults:
    """Faults beside crashes, lost answers and refusals."""

    flush: bool = False


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
        for row in self.unfinished():
            if row not in queued:
                self.store.push(row)

    def take(self, instance: Instance) -> None:
        row = self.store.pop()
        if row is not None and not self.rows[row]:
            instance.hand.add(row)

    def finish(self, instance: Instance) -> None:
        self.rows[instance.hand.pop()] = True

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
        """Killed by a fault, or after SIGTERM."""
        self.instances.remove(instance)
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
                actor.answer(bool(self.unfinished()))
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
            case Atomically(act):
                assert isinstance(self.store, MemoryStore)
                return act(self.store)
        raise AssertionError(f"{command} is no step of this world")

    # Checks.

    def unfinished(self) -> list[int]:
        return [row for row, finished in self.rows.items() if not finished]

    def check(self) -> None:
        """No acknowledged row waits at 0 instances, and the mark is never `awake` at 0 instances."""
        if self.faults.flush:
            return
        waiting = self.acknowledged & set(self.unfinished())
        assert self.count or not waiting, f"rows {waiting} are acknowledged and wait at 0 instances"
        if self.store.read() == AWAKE:
            assert self.count, "the mark is awake at 0 instances"
            assert not any(call.instances == 0 and not call.applied for call in self.calls), "and 0 is under way"

    def _token(self) -> str:
        self._tokens += 1
        return str(self._tokens)

"""A world in which a pool is woken and put to sleep: events, functions, workers, Redis and Cloud Run, step by step.

Each step is one Redis command, one API call or one end of it, or one fault; whoever chooses the steps chooses the
interleaving. After every step the world looks for an image that was acknowledged and waits on a sleeping pool.

What it takes for granted: a call to 0 takes effect before its mark runs out, or never.
"""

import random
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from dropline.errors import DroplineError
from dropline.scaling.errors import ScalingDenied, ScalingRefused, ScalingUnknown
from dropline.scaling.protocol import (
    AWAKE,
    SLEEPING,
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

RULES = Rules()
_MOST_UNACKNOWLEDGED = 2
_MOST_DELIVERIES = 3
_MOST_INSTANCES = 3
_ROUNDS = 20


@dataclass(frozen=True)
class Commit:
    """The function writes the row: whether it is unfinished."""

    row: int


@dataclass(frozen=True)
class Push:
    """The function puts the message on the queue."""

    row: int


@dataclass(frozen=True)
class Atomically:
    """For protocols that are wrong on purpose: any single step in Redis."""

    act: Callable[["MemoryStore"], Any]


class Store(Protocol):
    """What is in Redis."""

    def look(self) -> str | None: ...
    def swap(self, swap: Swap) -> bool: ...
    def claim(self, claim: Claim) -> Claimed: ...
    def push(self, row: int) -> None: ...
    def pop(self) -> int | None: ...
    def queued(self) -> list[int]: ...
    def expire(self) -> None: ...
    def flush(self) -> None: ...


class MemoryStore:
    """The mark and the queue as they should be, in a few lines of Python: what the scripts are compared with."""

    def __init__(self) -> None:
        self.mark: str | None = None
        self.queue: list[int] = []

    def look(self) -> str | None:
        return self.mark

    def swap(self, swap: Swap) -> bool:
        if self.mark != swap.expected:
            return False
        self.mark = swap.new
        return True

    def claim(self, claim: Claim) -> Claimed:
        if self.mark is not None and self.mark.startswith(SLEEPING):
            return Claimed.TAKEN
        if self.queue:
            return Claimed.QUEUED
        self.mark = claim.mark
        return Claimed.GRANTED

    def push(self, row: int) -> None:
        self.queue.append(row)

    def pop(self) -> int | None:
        return self.queue.pop(0) if self.queue else None

    def queued(self) -> list[int]:
        return list(self.queue)

    def expire(self) -> None:
        self.mark = None

    def flush(self) -> None:
        self.mark, self.queue = None, []


class Actor:
    """A procedure under way, and the command it waits for."""

    def __init__(self, procedure: Generator[Any, Any, Any]) -> None:
        self._procedure = procedure
        self.command: Any = None
        self.done = False
        self.result: Any = None
        self.error: DroplineError | None = None
        self._run(lambda: next(procedure))

    def answer(self, value: Any) -> None:
        self._run(lambda: self._procedure.send(value))

    def fail(self, error: DroplineError) -> None:
        self._run(lambda: self._procedure.throw(error))

    def _run(self, resume: Callable[[], Any]) -> None:
        try:
            self.command = resume()
        except StopIteration as end:
            self.done, self.result = True, end.value
        except DroplineError as error:
            self.done, self.error = True, error


@dataclass(eq=False)
class Delivery:
    """An event in the function's hands."""

    row: int
    actor: Actor


@dataclass(eq=False)
class Instance:
    """A worker."""

    ready: bool = False
    #: Told to stop; it goes on until it is killed.
    stopping: bool = False
    hand: set[int] = field(default_factory=set)
    sleeper: Actor | None = None
    #: The sleeper's mark ran out between being renewed and the call.
    late: bool = False


@dataclass(eq=False)
class Call:
    """A call to Cloud Run under way."""

    instances: int
    #: Who waits for the answer; None: nobody any more.
    actor: Actor | None
    number: int
    applied: bool = False


@dataclass(frozen=True)
class Faults:
    """What may go wrong beside crashes, lost answers and refusals."""

    flush: bool = False


#: A kind and an act.
Step = tuple[str, Callable[[], object]]


class World:
    """Everything, and the steps that are possible now."""

    def __init__(
        self,
        store: Store,
        faults: Faults = Faults(),  # noqa: B008 - frozen
        wake_with: Callable[[str, Rules], Procedure[bool]] = wake,
        sleep_with: Callable[[str, Rules], Procedure[Slept]] = sleep,
    ) -> None:
        self.store = store
        self.faults = faults
        self.wake_with, self.sleep_with = wake_with, sleep_with
        self.count = 0
        #: Row to whether it is finished; a row is there once it is committed.
        self.rows: dict[int, bool] = {}
        #: Events that Pub/Sub has, or had.
        self.events: set[int] = set()
        self.acknowledged: set[int] = set()
        self.deliveries: list[Delivery] = []
        self.instances: list[Instance] = []
        self.calls: list[Call] = []
        self.seen: Counter[str] = Counter()
        self._tokens = 0
        self._calls_made = 0

    # What may happen next.

    def steps(self) -> list[Step]:
        """All that can happen now, each with its kind."""
        found: list[Step] = []
        unacknowledged = self.events - self.acknowledged
        if len(unacknowledged) < _MOST_UNACKNOWLEDGED:
            found.append(("publish", self.publish))
        if len(self.deliveries) < _MOST_DELIVERIES:
            found += [("deliver", partial(self.deliver, row)) for row in unacknowledged]
        for delivery in self.deliveries:
            if not self._calls_of(delivery.actor):
                found.append((f"function {delivery.row % 2}", partial(self.step_delivery, delivery)))
            found.append(("crash of a function", partial(self.crash_function, delivery)))
        for call in self.calls:
            found += self._steps_of_call(call)
        for instance in self.instances:
            found += self._steps_of_instance(instance)
        if self._must_start():
            found.append(("start", self.start))
        return found + self._steps_of_redis()

    def _steps_of_call(self, call: Call) -> list[Step]:
        # Swift and slow ones are of different kinds, so that a world may be patient with one of them.
        pace = call.number % 2
        if call.applied:
            return [(f"answer {pace}", partial(self.respond, call)), ("lost answer", partial(self.lose, call))]
        found: list[Step] = [(f"effect {pace}", partial(self.apply, call))]
        if call.actor is None:
            return [*found, ("lost call", partial(self.calls.remove, call))]
        return [
            *found,
            ("refusal", partial(self.refuse, call, ScalingRefused("busy"))),
            ("refusal", partial(self.refuse, call, ScalingDenied("no right"))),
            ("lost answer", partial(self.lose, call)),
        ]

    def _steps_of_instance(self, instance: Instance) -> list[Step]:
        found: list[Step] = []
        if not instance.ready:
            found.append(("ready", partial(self.become_ready, instance)))
        else:
            if self.store.queued():
                found.append(("take", partial(self.take, instance)))
            if instance.hand:
                found.append(("finish", partial(self.finish, instance)))
            if instance.sleeper is None:
                found.append(("idle", partial(self.begin_to_sleep, instance)))
            elif not self._calls_of(instance.sleeper):
                found.append(("sleeper", partial(self.step_sleeper, instance)))
        if not (self.faults.flush and instance.sleeper is not None):
            found.append(("crash of a worker", partial(self.crash_worker, instance)))
        return found

    def _steps_of_redis(self) -> list[Step]:
        mark = self.store.look()
        found: list[Step] = []
        if mark is not None and mark.startswith(SLEEPING):
            found.append(("lapse", self.lapse))
        if mark == AWAKE:
            found.append(("expiry", self.store.expire))
        if self.faults.flush:
            found.append(("flush", self.store.flush))
        return found

    def _must_start(self) -> bool:
        serving = [instance for instance in self.instances if not instance.stopping]
        return self.count > 0 and not serving and len(self.instances) < _MOST_INSTANCES

    def _calls_of(self, actor: Actor) -> list[Call]:
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
            yield from self.wake_with(self._token(), RULES)

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
        for call in self._calls_of(actor):
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

    def begin_to_sleep(self, instance: Instance) -> None:
        instance.late = False
        instance.sleeper = Actor(self.sleep_with(self._token(), RULES))

    def step_sleeper(self, instance: Instance) -> None:
        assert instance.sleeper is not None
        if instance.late and isinstance(instance.sleeper.command, Scale) and instance.sleeper.command.instances == 0:
            # What `Sleeper` does with a mark that has run out meanwhile.
            instance.sleeper.fail(ScalingRefused("late"))
        else:
            self._execute(instance.sleeper)
        self._collect_sleeper(instance)

    def _collect_sleeper(self, instance: Instance) -> None:
        assert instance.sleeper is not None
        if not instance.sleeper.done:
            return
        result = instance.sleeper.result
        if instance.sleeper.error is None:
            self.seen[result.value] += 1
        if result is Slept.UNFINISHED:
            self._recover()
        instance.sleeper = None

    def crash_worker(self, instance: Instance) -> None:
        """Killed, by a fault or because it was told to stop and did not."""
        self.instances.remove(instance)
        if instance.sleeper is not None:
            self._abandon(instance.sleeper)

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
        """The caller gives up; what it asked for may still happen."""
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
        for instance in [each for each in self.instances if each.sleeper is call.actor]:
            self._collect_sleeper(instance)

    # Redis.

    def lapse(self) -> None:
        """A sleeping mark runs out, and with it what may still be under way to 0."""
        self.store.expire()
        for call in [each for each in self.calls if each.instances == 0 and not each.applied]:
            self.lose(call)
        self.calls = [call for call in self.calls if call.instances or call.applied]
        for instance in self.instances:
            instance.late = instance.sleeper is not None

    def _execute(self, actor: Actor) -> None:
        match actor.command:
            case Commit(row):
                actor.answer(not self.rows.setdefault(row, False))
            case Push(row):
                actor.answer(self.store.push(row))
            case Look():
                actor.answer(self.store.look())
            case Swap() as swap:
                actor.answer(self.store.swap(swap))
            case Claim() as claim:
                actor.answer(self.store.claim(claim))
            case AskUnfinished():
                actor.answer(bool(self.unfinished()))
            case Scale(instances):
                self._calls_made += 1
                self.calls.append(Call(instances, actor, self._calls_made))
            case Atomically(act):
                assert isinstance(self.store, MemoryStore)
                actor.answer(act(self.store))

    # What must hold.

    def unfinished(self) -> list[int]:
        return [row for row, finished in self.rows.items() if not finished]

    def check(self) -> None:
        """Nobody who was promised a caption waits on a sleeping pool; nobody believes in one that sleeps."""
        if self.faults.flush:
            return
        waiting = self.acknowledged & set(self.unfinished())
        assert self.count or not waiting, f"rows {waiting} are acknowledged and wait on a sleeping pool"
        if self.store.look() == AWAKE:
            assert self.count, "the mark says awake, and the pool sleeps"
            assert not any(call.instances == 0 and not call.applied for call in self.calls), "and 0 is under way"

    def come_to_rest(self) -> None:
        """No more faults and no new events: everything is captioned, and one idle period later the pool sleeps."""
        for _ in range(_ROUNDS):
            self._end_what_is_under_way()
            for row in self.events - self.acknowledged:
                self.deliver(row)
                self._end_what_is_under_way()
            self._work()
            if self.acknowledged == self.events and not self.unfinished() and not self.store.queued():
                break
            for instance in [each for each in self.instances if each.ready]:
                self._idle(instance)
        assert self.acknowledged == self.events, "events were never acknowledged"
        assert not self.unfinished(), f"rows {self.unfinished()} wait for ever"
        if self.count:
            self._work()
            assert self._idle(self.instances[-1]) is Slept.ASLEEP
        assert self.count == 0
        assert self.store.look() != AWAKE

    def _work(self) -> None:
        for instance in [each for each in self.instances if each.stopping]:
            self.crash_worker(instance)
        if self._must_start():
            self.start()
        for instance in self.instances:
            if not instance.ready:
                self.become_ready(instance)
            while self.store.queued():
                self.take(instance)
            while instance.hand:
                self.finish(instance)

    def _idle(self, instance: Instance) -> Slept:
        self.begin_to_sleep(instance)
        sleeper = instance.sleeper
        assert sleeper is not None
        self._end_what_is_under_way()
        assert isinstance(sleeper.result, Slept)
        return sleeper.result

    def _end_what_is_under_way(self) -> None:
        while self.calls or self.deliveries or any(instance.sleeper for instance in self.instances):
            for call in list(self.calls):
                if not call.applied:
                    self.apply(call)
                if call in self.calls:
                    self.respond(call)
            for delivery in list(self.deliveries):
                if not self._calls_of(delivery.actor):
                    self.step_delivery(delivery)
            for instance in self.instances:
                if instance.sleeper is not None and not self._calls_of(instance.sleeper):
                    self.step_sleeper(instance)
            self.check()
        if (self.store.look() or "").startswith(SLEEPING):
            self.lapse()

    def _token(self) -> str:
        self._tokens += 1
        return str(self._tokens)


def live(world: World, seed: int, length: int) -> None:
    """Take random steps, then come to rest; look at the world after each.

    What is likely is drawn anew for each life: in some worlds workers hardly ever crash, in others answers take for
    ever. Otherwise everything would go wrong all the time, and nothing would get far enough to go wrong in earnest.

    Raises:
        AssertionError: something does not hold.
    """
    chance = random.Random(seed)
    weights: dict[str, int] = {}
    for _ in range(length):
        steps = world.steps()
        kinds = [weights.setdefault(kind, chance.choice((0, 1, 1, 5, 20))) for kind, _ in steps]
        if any(kinds):
            chance.choices(steps, kinds)[0][1]()
        else:
            chance.choice(steps)[1]()
        world.check()
    world.come_to_rest()

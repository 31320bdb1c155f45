"""The protocol, without any I/O: who may call Cloud Run, when, and what may be believed afterwards.

Each procedure is a generator. It yields one command at a time, each a single Redis command, API call or
question, and is sent the answer; so a test can put anything between any two of them. One key in Redis, the mark,
says what is known of the pool:

    (none)          nothing is: whoever has work for the pool calls Cloud Run
    waking:TOKEN    somebody has begun to call; so does everybody else until one of them has had an answer
    awake           a call to wake it was answered, and no call to put it to sleep can come after that one
    sleeping:TOKEN  a worker is calling 0; nobody may call 1 now, or believe anything. Runs out by itself.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from dropline.errors import BrokerUnavailable
from dropline.scaling.errors import PoolChanging, ScalingDenied, ScalingRefused, ScalingUnknown

T = TypeVar("T")

AWAKE = "awake"
WAKING = "waking:"
SLEEPING = "sleeping:"

#: Rounds of a waker whose mark somebody changes under its hands, before it leaves the event to its redelivery.
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Rules:
    """What a deployment decides."""

    #: Instances of a pool that is awake.
    instances: int = 1
    #: Seconds without work after which a worker puts the pool to sleep.
    idle_s: float = 300.0
    #: Seconds for which a sleeping mark holds: longer than a call to Cloud Run can possibly be under way.
    lease_s: float = 60.0
    #: Seconds for which `awake` is believed; then the next event calls Cloud Run again, whatever went wrong.
    awake_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Look:
    """Read the mark: a `str`, or None."""


@dataclass(frozen=True, slots=True)
class Swap:
    """Replace the mark if it is as expected: whether it was."""

    expected: str | None
    new: str | None
    #: Seconds until the new one is gone; None: it stays.
    ttl_s: float | None = None


class Claimed(Enum):
    """The answer to `Claim`."""

    GRANTED = "granted"
    #: There are messages on a queue.
    QUEUED = "queued"
    #: Another worker is at it.
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class Claim:
    """In one step: if all queues are empty and no worker's mark is there, set this one. Answers `Claimed`."""

    mark: str
    ttl_s: float


@dataclass(frozen=True, slots=True)
class AskUnfinished:
    """Ask Postgres whether any row is unfinished: a `bool`."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Call Cloud Run. Answers None; raises ScalingRefused, ScalingDenied or ScalingUnknown."""

    instances: int


Command = Look | Swap | Claim | AskUnfinished | Scale
Procedure = Generator[Command, Any, T]


class Slept(Enum):
    """What came of a worker's attempt to put the pool to sleep."""

    #: Done; this process will be told to stop.
    ASLEEP = "asleep"
    #: There are messages on a queue: they are being worked on, or will be at once.
    QUEUED = "queued"
    #: The queues are empty and rows are not finished: another worker has them, or nobody knows of them.
    UNFINISHED = "unfinished"
    #: Another worker is at it, or died at it.
    TAKEN = "taken"
    #: The mark was lost before the call; nothing was called.
    ABANDONED = "abandoned"
    #: Cloud Run did not do it.
    REFUSED = "refused"
    #: Cloud Run may have done it.
    UNKNOWN = "unknown"
    #: The mark was lost during the call, so that an event may have been told that the pool is awake: woken again.
    WOKEN_AGAIN = "woken_again"

    def again_after_s(self, rules: Rules) -> float:
        """Seconds until the worker, should it live, tries again."""
        waits_for_a_lease = self in (Slept.TAKEN, Slept.UNKNOWN)
        return rules.lease_s if waits_for_a_lease else rules.idle_s


def wake(token: str, rules: Rules) -> Procedure[bool]:
    """See to it that the pool is awake; for after the enqueueing, and before the event is acknowledged.

    Args:
        token: never used before.
        rules: of this deployment.

    Returns:
        Whether Cloud Run was called.

    Raises:
        PoolChanging: a worker is putting it to sleep; the event must come again.
        ScalingRefused, ScalingDenied, ScalingUnknown: likewise.
    """
    for number in range(_ROUNDS):
        mark = yield Look()
        if mark == AWAKE:
            return False
        if mark is not None and mark.startswith(SLEEPING):
            break
        if mark is None:
            # Of this round alone: one that came back could vouch for a call from before the pool fell asleep.
            mark = f"{WAKING}{token}.{number}"
            if not (yield Swap(None, mark)):
                continue
        yield Scale(rules.instances)
        if (yield Swap(mark, AWAKE, rules.awake_s)):
            return True
    raise PoolChanging("a worker is putting the pool to sleep; deliver the event again, and it will be woken")


def sleep(token: str, rules: Rules) -> Procedure[Slept]:
    """Put the pool to sleep if there is nothing to do; for a worker that has been idle.

    Args:
        token: never used before.
        rules: of this deployment.

    Raises:
        DatabaseUnavailable: Postgres could not be asked; the pool stays awake.
        BrokerUnavailable: nothing was called; the pool stays awake.
    """
    mark = SLEEPING + token
    claimed = yield Claim(mark, rules.lease_s)
    if claimed is not Claimed.GRANTED:
        return Slept.QUEUED if claimed is Claimed.QUEUED else Slept.TAKEN
    # Asked after the claim: what was acknowledged before it is a row by now, and what comes after it waits.
    if (yield from _unfinished(mark)):
        return Slept.UNFINISHED
    if not (yield Swap(mark, mark, rules.lease_s)):
        return Slept.ABANDONED
    try:
        yield Scale(0)
    except (ScalingRefused, ScalingDenied):
        yield Swap(mark, None)
        return Slept.REFUSED
    except ScalingUnknown:
        # It may still take effect: until the mark runs out by itself, nobody may call 1.
        return Slept.UNKNOWN
    return (yield from _settle(mark, rules))


def _unfinished(mark: str) -> Procedure[bool]:
    try:
        unfinished: bool = yield AskUnfinished()
    except Exception:
        # Whatever it was: under a mark that nobody needs, events would wait for nothing.
        yield Swap(mark, None)
        raise
    if unfinished:
        yield Swap(mark, None)
    return unfinished


def _settle(mark: str, rules: Rules) -> Procedure[Slept]:
    try:
        if (yield Swap(mark, None)):
            return Slept.ASLEEP
    except BrokerUnavailable:
        pass  # a Redis that is away may come back without the mark
    yield Scale(rules.instances)
    return Slept.WOKEN_AGAIN


def carry_out(procedure: Procedure[T], execute: Callable[[Command], Any]) -> T:
    """Lead a procedure to its end.

    Raises:
        DroplineError: what a command raised and the procedure had no answer to.
    """
    try:
        command = next(procedure)
        while True:
            try:
                answer = execute(command)
            except Exception as error:  # noqa: BLE001 - the procedure raises what it has no answer to
                command = procedure.throw(error)
            else:
                command = procedure.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result

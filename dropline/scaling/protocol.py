"""The protocol of scale to zero, without I/O: when to call Cloud Run, and how far each answer can be trusted.

Each procedure is a generator. A procedure yields one command at a time (a single Redis command, API call or
database query) and is sent the answer, so a test can put other steps between any two commands. One key in
Redis, the mark, records the state of the worker pool:

    (absent)        unknown: a process with work for the worker pool calls 1 (sets the number of instances to 1)
    waking:TOKEN    a call to 1 has begun; every other process calls 1 too, until one call has been answered
    awake           a call to 1 was answered, and no call to 0 can take effect after that call
    sleeping:TOKEN  a worker is calling 0; no process may call 1 or trust an earlier mark. Expires.
    held:F          at 0: the workers of fingerprint F (image, settings) could not start. No event calls 1 until
                    the fingerprint changes, or a person has the worker pool tried again.
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
HELD = "held:"

#: Tries of `scale_up` while other processes change the mark; after the last try, the event is left to redelivery.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """The scaling settings of a deployment."""

    #: Instances of a scaled-up worker pool.
    instances: int = 1
    #: Seconds without work before a worker scales the worker pool to zero.
    idle_s: float = 300.0
    #: Seconds until a sleeping mark expires: longer than any call to Cloud Run can be under way.
    lease_s: float = 60.0
    #: Seconds until `awake` expires; the next event then calls 1 again, which ends any undetected error.
    awake_s: float = 600.0
    #: The worker pool may sleep while each unfinished row waits for at least this long; None: it may not.
    rest_s: float | None = None
    #: Seconds after a call to 1 until it is checked whether a worker is there.
    check_s: float = 300.0


@dataclass(frozen=True, slots=True)
class ReadMark:
    """Read the mark. Answer: a `str`, or None."""


@dataclass(frozen=True, slots=True)
class ReplaceMark:
    """Replace the mark if its value is `expected`. Answer: True if the mark was replaced."""

    expected: str | None
    new: str | None
    #: Seconds until the new mark expires; None: the mark does not expire.
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True)
class ConfirmMark:
    """Renew the mark, and wait until each replica of Redis has it.

    Answer: True if the mark was renewed and each replica has it.
    """

    mark: str
    #: Seconds until the mark expires.
    ttl_s: float


class Admission(Enum):
    """The answer to `BeginScaleToZero`."""

    #: The mark was set.
    GRANTED = "granted"
    #: A queue has messages.
    QUEUED = "queued"
    #: Another worker's sleeping mark exists.
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class BeginScaleToZero:
    """Set `mark` if all queues are empty and no sleeping mark exists, in one step. Answer: an `Admission`."""

    mark: str
    ttl_s: float
    #: Set the mark although a queue has messages.
    even_if_queued: bool = False


@dataclass(frozen=True, slots=True)
class CheckUnfinished:
    """Query Postgres for unfinished rows.

    Answer: seconds until the first of them is due, 0 if a row is due or at work, None if no row is unfinished.
    """


@dataclass(frozen=True, slots=True)
class ArrangeWake:
    """Arrange for a call of `scale_up`, tried until it succeeds. Answer: None, or an error of `SetInstances`."""

    in_s: float


@dataclass(frozen=True, slots=True)
class SetInstances:
    """Call Cloud Run. Answer: None, or an error ScalingRefused, ScalingDenied or ScalingUnknown."""

    instances: int


Command = ReadMark | ReplaceMark | ConfirmMark | BeginScaleToZero | CheckUnfinished | ArrangeWake | SetInstances
Procedure = Generator[Command, Any, T]


class ScaleToZeroOutcome(Enum):
    """Outcome of a worker's attempt to scale the worker pool to zero."""

    #: Scaled to zero; Cloud Run is about to stop this process.
    ASLEEP = "asleep"
    #: A queue has messages: workers are busy or about to be.
    QUEUED = "queued"
    #: The queues are empty and rows are unfinished: another worker holds the rows, or their messages are lost.
    UNFINISHED = "unfinished"
    #: Another worker is scaling to zero, or died while scaling to zero.
    TAKEN = "taken"
    #: The mark was lost before the call to 0, or a replica of Redis does not have it; Cloud Run was not called.
    ABANDONED = "abandoned"
    #: Cloud Run refused the call to 0, or Cloud Tasks did not take the call that wakes the worker pool.
    REFUSED = "refused"
    #: Cloud Run may have set 0.
    UNKNOWN = "unknown"
    #: The mark was lost during the call to 0, so an event may have read `awake`: scaled up again.
    WOKEN_AGAIN = "woken_again"

    def again_after_s(self, policy: ScalingPolicy) -> float:
        """Seconds until the worker, if still running, tries again."""
        must_expire = self in (ScaleToZeroOutcome.TAKEN, ScaleToZeroOutcome.UNKNOWN)
        return policy.lease_s if must_expire else policy.idle_s


def is_waking(mark: str | None) -> bool:
    """True if workers are on their way or running: a call to 1 has begun or was answered, and none to 0 since."""
    return mark is not None and not mark.startswith((SLEEPING, HELD))


def held_fingerprint(mark: str | None) -> str | None:
    """The fingerprint of a worker pool that is held at 0; None: it is not held."""
    return mark.removeprefix(HELD) if mark is not None and mark.startswith(HELD) else None


def scale_up(token: str, policy: ScalingPolicy) -> Procedure[bool]:
    """Ensure that the worker pool is scaled up; runs after enqueueing and before the event is acknowledged.

    Args:
        token: unique to this run.
        policy: of this deployment.

    Returns:
        True if Cloud Run was called.

    Raises:
        PoolChanging: a worker is scaling to zero; the event must be redelivered.
        ScalingRefused, ScalingDenied, ScalingUnknown: the event must be redelivered.
    """
    for number in range(_TRIES):
        mark = yield ReadMark()
        if mark == AWAKE:
            return False
        if mark is not None and mark.startswith(SLEEPING):
            break
        if mark is None or mark.startswith(HELD):
            # Each try has its own mark: a mark reused after a scale-down would confirm a call made before the
            # scale-down.
            found, mark = mark, f"{WAKING}{token}.{number}"
            if not (yield ReplaceMark(found, mark)):
                continue
        yield SetInstances(policy.instances)
        if (yield ReplaceMark(mark, AWAKE, policy.awake_s)):
            return True
    raise PoolChanging("a worker is scaling the worker pool to zero; deliver the event again to scale the pool up")


def scale_to_zero(token: str, policy: ScalingPolicy) -> Procedure[ScaleToZeroOutcome]:
    """Scale the worker pool to zero if no work is left; for a worker whose idle period is over.

    Args:
        token: unique to this run.
        policy: of this deployment.

    Raises:
        DatabaseUnavailable: the query failed; the worker pool stays up.
        BrokerUnavailable: Cloud Run was not called; the worker pool stays up.
    """
    mark = SLEEPING + token
    admission = yield BeginScaleToZero(mark, policy.lease_s)
    if admission is not Admission.GRANTED:
        return ScaleToZeroOutcome.QUEUED if admission is Admission.QUEUED else ScaleToZeroOutcome.TAKEN
    if (obstacle := (yield from _find_obstacle(mark, policy))) is not None:
        yield ReplaceMark(mark, None)
        return obstacle
    # A replica that lags behind may still have `awake`, and become the primary after the call to 0.
    if not (yield ConfirmMark(mark, policy.lease_s)):
        yield ReplaceMark(mark, None)
        return ScaleToZeroOutcome.ABANDONED
    try:
        yield SetInstances(0)
    except (ScalingRefused, ScalingDenied):
        yield ReplaceMark(mark, None)
        return ScaleToZeroOutcome.REFUSED
    except ScalingUnknown:
        # The call to 0 may still take effect: calls to 1 stay forbidden until the mark expires.
        return ScaleToZeroOutcome.UNKNOWN
    return (yield from _end_mark_or_scale_up(mark, None, policy))


def hold(token: str, fingerprint: str, policy: ScalingPolicy) -> Procedure[ScaleToZeroOutcome]:
    """Scale the worker pool to zero although work is left, and keep events from scaling it up.

    For a worker that could not start. A process that dies in between leaves a sleeping mark or none: the next
    event scales up, the worker cannot start again, and holds again.

    Args:
        token: unique to this run.
        fingerprint: of the image and settings with which workers cannot start.
        policy: of this deployment.

    Raises:
        BrokerUnavailable: Cloud Run was not called.
        ScalingRefused, ScalingDenied, ScalingUnknown: the mark was lost, and the call to scale up again failed.
    """
    mark = SLEEPING + token
    admission = yield BeginScaleToZero(mark, policy.lease_s, even_if_queued=True)
    if admission is not Admission.GRANTED:
        return ScaleToZeroOutcome.TAKEN
    if not (yield ConfirmMark(mark, policy.lease_s)):
        yield ReplaceMark(mark, None)
        return ScaleToZeroOutcome.ABANDONED
    try:
        yield SetInstances(0)
    except (ScalingRefused, ScalingDenied):
        yield ReplaceMark(mark, None)
        return ScaleToZeroOutcome.REFUSED
    except ScalingUnknown:
        return ScaleToZeroOutcome.UNKNOWN
    return (yield from _end_mark_or_scale_up(mark, HELD + fingerprint, policy))


def _find_obstacle(mark: str, policy: ScalingPolicy) -> Procedure[ScaleToZeroOutcome | None]:
    """The reason why the worker pool must stay up. Rows that rest are none, once their wake-up is arranged."""
    try:
        # Queried while the mark is set: an event acknowledged earlier has a row by now, a later event gets a 503.
        due_in_s: float | None = yield CheckUnfinished()
        if due_in_s is None:
            return None
        if policy.rest_s is None or due_in_s < policy.rest_s:
            return ScaleToZeroOutcome.UNFINISHED
        # Before the call to 0, which may end this process.
        yield ArrangeWake(due_in_s)
    except (ScalingRefused, ScalingDenied, ScalingUnknown):
        return ScaleToZeroOutcome.REFUSED
    except Exception:
        # Remove the mark after any error: under a useless mark, events would get 503 for no reason.
        yield ReplaceMark(mark, None)
        raise
    return None


def _end_mark_or_scale_up(
    mark: str, following: str | None, policy: ScalingPolicy
) -> Procedure[ScaleToZeroOutcome]:
    """Replace the mark after the call to 0. An event may have read `awake` if the mark was lost: then call 1."""
    try:
        if (yield ReplaceMark(mark, following)):
            return ScaleToZeroOutcome.ASLEEP
    except BrokerUnavailable:
        pass  # an unreachable Redis may come back without the mark
    yield SetInstances(policy.instances)
    return ScaleToZeroOutcome.WOKEN_AGAIN


def run_procedure(procedure: Procedure[T], execute: Callable[[Command], Any]) -> T:
    """Execute a procedure's commands until the procedure returns.

    Raises:
        DroplineError: raised by a command and not handled by the procedure.
    """
    try:
        command = next(procedure)
        while True:
            try:
                answer = execute(command)
            except Exception as error:  # noqa: BLE001 - the procedure raises every error without a handler again
                command = procedure.throw(error)
            else:
                command = procedure.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result

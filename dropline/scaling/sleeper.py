"""For the worker: puts the pool to sleep once there has been nothing to do for a while."""

import time
import uuid
from collections.abc import Callable
from typing import Any

from dropline.errors import DroplineError
from dropline.log import get_logger
from dropline.scaling.awake import AwakeMark
from dropline.scaling.errors import ScalingRefused
from dropline.scaling.protocol import (
    AskUnfinished,
    Claim,
    Command,
    Look,
    Rules,
    Scale,
    Slept,
    Swap,
    carry_out,
    sleep,
)
from dropline.scaling.worker_pool import WorkerPool

log = get_logger(__name__)


class IdleWatch:
    """How long ago the last message came."""

    def __init__(self, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s = idle_s
        self._clock = clock
        self._since = clock()

    def touch(self) -> None:
        """A message has come."""
        self._since = self._clock()

    def left_s(self) -> float:
        """Seconds until the idle period is over; 0 when it is."""
        return max(0.0, self._since + self._idle_s - self._clock())


class Sleeper:
    """Puts the pool to sleep. For one thread."""

    def __init__(
        self,
        mark: AwakeMark,
        pool: WorkerPool,
        rules: Rules,
        unfinished: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A sleeper that asks `unfinished` whether Postgres has a row that is queued, or has a lease."""
        self._mark = mark
        self._pool = pool
        self._rules = rules
        self._unfinished = unfinished
        self._clock = clock
        self._marked_at = clock()

    def try_to_sleep(self) -> Slept:
        """To be called when the idle period is over; the answer says when to call it again.

        Raises:
            DatabaseUnavailable, BrokerUnavailable: the pool stays awake; try again after the idle period.
            ScalingRefused, ScalingDenied, ScalingUnknown: the mark was lost, and the pool could not be woken again
                for those who may have been told that it is awake; `wake_again` until it succeeds.
        """
        if not self._prepared():
            return Slept.REFUSED
        outcome = carry_out(sleep(uuid.uuid4().hex, self._rules), self._execute)
        log.info("pool_sleep_tried", outcome=outcome.value)
        return outcome

    def _prepared(self) -> bool:
        """Get a token, which may take long, before the mark is set, which does not hold for long."""
        try:
            self._pool.prepare()
        except ScalingRefused as error:
            log.warning("pool_not_scaled", instances=0, code=error.code, error=str(error))
            return False
        return True

    def wake_again(self) -> None:
        """Call what `try_to_sleep` could not at its end; to wake a pool that is awake does no harm.

        Raises:
            ScalingRefused, ScalingDenied, ScalingUnknown: try again.
        """
        self._pool.scale(self._rules.instances)

    def _execute(self, command: Command) -> Any:
        match command:
            case Claim():
                return self._mark.claim(command)
            case Swap():
                self._marked_at = self._clock()
                return self._mark.swap(command)
            case AskUnfinished():
                return self._unfinished()
            case Scale(instances):
                return self._scale(instances)
            case Look():
                raise TypeError("a sleeper does not look: it claims")

    def _scale(self, instances: int) -> None:
        try:
            self._refuse_when_late(instances)
            self._pool.scale(instances)
        except DroplineError as error:
            # The protocol knows what to do about it; a person has to learn of it.
            log.warning("pool_not_scaled", instances=instances, code=error.code, error=str(error))
            raise

    def _refuse_when_late(self, instances: int) -> None:
        """A process that was frozen between the mark and the call must not call under a mark that has run out."""
        late_s = self._clock() - self._marked_at
        if instances == 0 and late_s > self._rules.lease_s / 4:
            raise ScalingRefused(
                f"{late_s:.0f} s have passed since the pool was marked, more than a quarter of the lease of "
                f"{self._rules.lease_s:.0f} s; it stays awake until the next idle period"
            )

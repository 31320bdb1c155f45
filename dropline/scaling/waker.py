"""For whoever enqueues: the pool is awake when `ensure_awake` returns."""

import threading
import uuid
from typing import Any

from dropline.log import get_logger
from dropline.scaling.awake import AwakeMark
from dropline.scaling.protocol import AWAKE, Command, Look, Rules, Scale, Swap, carry_out, wake
from dropline.scaling.worker_pool import WorkerPool

log = get_logger(__name__)


class Waker:
    """Wakes the pool when it may be asleep. Threads may share it."""

    def __init__(self, mark: AwakeMark, pool: WorkerPool, rules: Rules) -> None:
        self._mark = mark
        self._pool = pool
        self._rules = rules
        self._one_call = threading.Lock()

    def ensure_awake(self) -> None:
        """To be called after the enqueueing and before the event is acknowledged; one GET where the pool is awake.

        Raises:
            PoolChanging, ScalingRefused, ScalingUnknown, BrokerUnavailable: the event must come again.
            ScalingDenied: likewise, once somebody has set the deployment right.
        """
        if not self.is_awake():
            self.wake()

    def is_awake(self) -> bool:
        """Whether the pool is known to be awake; one GET.

        Raises:
            BrokerUnavailable: Redis is away.
        """
        return self._mark.look() == AWAKE

    def wake(self) -> None:
        """Wake the pool unless somebody has meanwhile; raises as `ensure_awake` does."""
        # Requests of one process share one call: who waits here finds the pool awake.
        with self._one_call:
            called = carry_out(wake(uuid.uuid4().hex, self._rules), self._execute)
        if called:
            log.info("pool_woken", instances=self._rules.instances)

    def _execute(self, command: Command) -> Any:
        match command:
            case Look():
                return self._mark.look()
            case Swap():
                return self._mark.swap(command)
            case Scale(instances):
                return self._pool.scale(instances)
            case _:
                raise TypeError(f"{command} is no command of a waker")

"""Scale to zero, the side of processes that enqueue messages: `Activator` scales the worker pool up."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from dropline.errors import DroplineError
from dropline.log import get_logger
from dropline.redis_url import check_redis_url
from dropline.scaling.mark import PoolMark
from dropline.scaling.protocol import (
    AWAKE,
    Command,
    ReadMark,
    ReplaceMark,
    ScalingPolicy,
    SetInstances,
    held_fingerprint,
    run_procedure,
    scale_up,
)
from dropline.scaling.wake_queue import WakeQueue, make_wake_queue
from dropline.scaling.worker_pool import WorkerPool, make_worker_pool
from dropline.settings import BrokerSettings, PoolSettings, require

log = get_logger(__name__)

_BROKER_URL = "DROPLINE_BROKER__URL"
#: A worker pool that is held is compared with its mark once in this many seconds, however many events arrive.
_HELD_FOR_S = 30.0
#: Longest pause between two checks that a worker is ready, in seconds.
_LONGEST_PAUSE_S = 3600.0


def check_pause_s(policy: ScalingPolicy, number: int) -> float:
    """Seconds until check `number` after the call or the check before it: doubled each time, an hour at most."""
    return min(_LONGEST_PAUSE_S, policy.check_s * 2.0 ** min(number, 20))


class Activator:
    """Scales the worker pool up if the worker pool may be at zero. Threads may share it."""

    def __init__(
        self,
        mark: PoolMark,
        pool: WorkerPool,
        policy: ScalingPolicy,
        wakes: WakeQueue | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store the parts; without `wakes`, no call is followed by a check that a worker is ready."""
        self._mark = mark
        self._pool = pool
        self._policy = policy
        self._wakes = wakes
        self._clock = clock
        self._one_call = threading.Lock()
        #: The mark of a worker pool that is still held, and until when no GET is needed to know.
        self._held: tuple[str, float] = ("", 0.0)
        #: Number of the check after the next call.
        self._check = 0

    def ensure_awake(self) -> None:
        """Scale up unless the mark is `awake` (one GET); call after enqueueing, before acknowledging the event.

        Raises:
            PoolChanging, ScalingRefused, ScalingUnknown, BrokerUnavailable: the event must be redelivered.
            ScalingDenied: the event must be redelivered after an operator has corrected the deployment.
        """
        if not self.is_awake():
            self.scale_up()

    def is_awake(self) -> bool:
        """Return True if the mark is `awake`; one GET.

        Raises:
            BrokerUnavailable: Redis is unreachable.
        """
        return self._mark.read() == AWAKE

    def scale_up(self) -> None:
        """Scale up unless another process has set `awake` in the meantime, or the worker pool is held at 0.

        Raises the errors of `ensure_awake`.
        """
        # Requests of one process share one call: each request that waits for the lock then reads `awake`.
        with self._one_call:
            if not self._is_held():
                self._scale_up()

    def scale_up_again(self, check: int) -> None:
        """Scale up whatever the mark says, unless a worker is scaling to zero; raises as `ensure_awake` does.

        Args:
            check: number of the check that follows the call.
        """
        with self._one_call:
            self._mark.replace(ReplaceMark(AWAKE, None))
            self._check = check
            try:
                self._scale_up()
            finally:
                self._check = 0

    def read_mark(self) -> str | None:
        """Return the mark.

        Raises:
            BrokerUnavailable: Redis is unreachable.
        """
        return self._mark.read()

    def release(self) -> bool:
        """Have the next event scale up a worker pool that is held at 0; True if it was held.

        Raises:
            BrokerUnavailable: Redis is unreachable.
        """
        return release_hold(self._mark)

    def _scale_up(self) -> None:
        if run_procedure(scale_up(uuid.uuid4().hex, self._policy), self._execute):
            log.info("pool_woken", instances=self._policy.instances)

    def _is_held(self) -> bool:
        """True if the worker pool is held at 0, and has the image and settings with which no worker could start.

        Raises:
            BrokerUnavailable, ScalingRefused, ScalingDenied: not known.
        """
        mark = self._mark.read()
        fingerprint = held_fingerprint(mark)
        if mark is None or fingerprint is None:
            return False
        if self._held[0] == mark and self._clock() < self._held[1]:
            return True
        if self._pool.read().fingerprint != fingerprint:
            log.info("pool_released", reason="its image or settings have changed")
            return False
        self._held = (mark, self._clock() + _HELD_FOR_S)
        log.warning("pool_stays_held")
        return True

    def _call(self, instances: int) -> None:
        operation = self._pool.scale(instances)
        # Before the mark is `awake`: an event that is not acknowledged yet makes the call, and the task, again.
        arrange_check(self._wakes, check_pause_s(self._policy, self._check), self._check, operation)

    def _execute(self, command: Command) -> Any:
        match command:
            case ReadMark():
                return self._mark.read()
            case ReplaceMark():
                return self._mark.replace(command)
            case SetInstances(instances):
                return self._call(instances)
            case _:
                raise TypeError(f"{command} is not a command of scale_up")


def arrange_check(wakes: WakeQueue | None, in_s: float, number: int = 0, operation: str = "") -> None:
    """Have the function check that a worker is ready. A failure is logged: the worker pool was called already."""
    if wakes is None:
        return
    try:
        wakes.arrange_check(in_s, number, operation)
    except DroplineError as error:
        log.warning("check_not_arranged", number=number, code=error.code, error=str(error))


def release_hold(mark: PoolMark) -> bool:
    """Remove the mark of a hold; True if there was one."""
    found = mark.read()
    return held_fingerprint(found) is not None and mark.replace(ReplaceMark(found, None))


def policy_from_settings(pool: PoolSettings) -> ScalingPolicy:
    """The policy of a deployment."""
    # A worker pool that sleeps for less than an idle period is not worth its start.
    rest_s = pool.idle_s if pool.wake_queue else None
    return ScalingPolicy(pool.instances, pool.idle_s, pool.lease_s, pool.awake_s, rest_s, pool.check_s)


@contextmanager
def open_activator(pool: PoolSettings, broker: BrokerSettings) -> Iterator[Activator | None]:
    """Yield an activator that connects on first use; None if the settings name no worker pool.

    Raises:
        AccessDenied: no credentials were found.
        SettingsError: Redis's URL is missing or wrong, or `DROPLINE_POOL__WAKE_URL` is missing.
    """
    if not pool.name:
        yield None
        return
    with (
        closing(connect_mark(broker)) as mark,
        closing(make_worker_pool(pool.name, pool.api)) as workers,
    ):
        yield Activator(mark, workers, policy_from_settings(pool), make_wake_queue(pool))


def connect_mark(broker: BrokerSettings) -> PoolMark:
    """The mark in the broker's Redis. Raises SettingsError."""
    url = check_redis_url(require(broker.url, _BROKER_URL), _BROKER_URL)
    return PoolMark.connect(url, broker.publish_timeout_s)

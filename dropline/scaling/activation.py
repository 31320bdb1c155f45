"""Both sides of scale to zero, built from the settings: `Activator` scales up, `Deactivator` scales to zero."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from dropline.errors import DroplineError
from dropline.log import get_logger
from dropline.redis_url import check_redis_url
from dropline.scaling.errors import ScalingRefused
from dropline.scaling.mark import PoolMark
from dropline.scaling.protocol import (
    AWAKE,
    ArrangeWake,
    BeginScaleToZero,
    CheckUnfinished,
    Command,
    ConfirmMark,
    ReadMark,
    ReplaceMark,
    ScaleToZeroOutcome,
    ScalingPolicy,
    SetInstances,
    run_procedure,
    scale_to_zero,
    scale_up,
)
from dropline.scaling.wake_queue import WakeQueue, make_wake_queue
from dropline.scaling.worker_pool import WorkerPool, make_worker_pool
from dropline.settings import BrokerSettings, PoolSettings, require

log = get_logger(__name__)

_BROKER_URL = "DROPLINE_BROKER__URL"


class Activator:
    """Scales the worker pool up if the worker pool may be at zero. Threads may share it."""

    def __init__(self, mark: PoolMark, pool: WorkerPool, policy: ScalingPolicy) -> None:
        self._mark = mark
        self._pool = pool
        self._policy = policy
        self._one_call = threading.Lock()

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
        """Scale up unless another process has set `awake` in the meantime; raises the errors of `ensure_awake`."""
        # Requests of one process share one call: each request that waits for the lock then reads `awake`.
        with self._one_call:
            called = run_procedure(scale_up(uuid.uuid4().hex, self._policy), self._execute)
        if called:
            log.info("pool_woken", instances=self._policy.instances)

    def _execute(self, command: Command) -> Any:
        match command:
            case ReadMark():
                return self._mark.read()
            case ReplaceMark():
                return self._mark.replace(command)
            case SetInstances(instances):
                return self._pool.scale(instances)
            case _:
                raise TypeError(f"{command} is not a command of scale_up")


class Deactivator:
    """Scales the worker pool to zero. For one thread."""

    def __init__(
        self,
        mark: PoolMark,
        pool: WorkerPool,
        policy: ScalingPolicy,
        due_in_s: Callable[[], float | None],
        wakes: WakeQueue | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store the parts.

        Args:
            mark: in Redis.
            pool: in Cloud Run.
            policy: of this deployment; with `rest_s`, `wakes` is required.
            due_in_s: the answer to `CheckUnfinished`.
            wakes: takes the calls that wake the worker pool later.
            clock: in seconds.
        """
        self._mark = mark
        self._pool = pool
        self._policy = policy
        self._due_in_s = due_in_s
        self._wakes = wakes
        self._clock = clock
        self._marked_at = clock()

    def try_scale_to_zero(self) -> ScaleToZeroOutcome:
        """Scale to zero unless work is left; call when the idle period is over.

        Returns:
            The outcome; `again_after_s` of the outcome is the time of the next call.

        Raises:
            DatabaseUnavailable, BrokerUnavailable: the worker pool stays up; try again after the idle period.
            ScalingRefused, ScalingDenied, ScalingUnknown: the mark was lost, and the call to scale up again
                failed. An event may have read `awake`: call `scale_up_again` until the call succeeds.
        """
        if not self._prepared():
            return ScaleToZeroOutcome.REFUSED
        outcome = run_procedure(scale_to_zero(uuid.uuid4().hex, self._policy), self._execute)
        log.info("pool_sleep_tried", outcome=outcome.value)
        return outcome

    def _prepared(self) -> bool:
        """Fetch an access token before the mark is set: the fetch may be slow, and the mark expires soon."""
        try:
            self._pool.prepare()
        except ScalingRefused as error:
            log.warning("pool_not_scaled", instances=0, code=error.code, error=str(error))
            return False
        return True

    def scale_up_again(self) -> None:
        """Repeat the failed last call of `try_scale_to_zero`; harmless if the worker pool is up.

        Raises:
            ScalingRefused, ScalingDenied, ScalingUnknown: try again.
        """
        self._pool.scale(self._policy.instances)

    def forget_awake(self) -> None:
        """Remove the mark `awake`, so that the next event scales up; call when this worker stops.

        The worker cannot tell why it is stopped: an operator or Terraform may have set 0.

        Raises:
            BrokerUnavailable: Redis is unreachable; the mark expires by itself.
        """
        self._mark.replace(ReplaceMark(AWAKE, None))

    def _execute(self, command: Command) -> Any:
        match command:
            case BeginScaleToZero():
                return self._mark.begin(command)
            case ReplaceMark():
                return self._mark.replace(command)
            case ConfirmMark():
                self._marked_at = self._clock()
                return self._mark.confirm(command)
            case CheckUnfinished():
                return self._due_in_s()
            case ArrangeWake(in_s):
                return self._arrange_wake(in_s)
            case SetInstances(instances):
                return self._scale(instances)
            case ReadMark():
                raise TypeError(f"{command} is not a command of scale_to_zero")

    def _arrange_wake(self, in_s: float) -> None:
        assert self._wakes is not None, "a policy with rest_s needs a queue of Cloud Tasks"
        try:
            self._wakes.arrange(in_s)
        except DroplineError as error:
            log.warning("wake_not_arranged", in_s=round(in_s), code=error.code, error=str(error))
            raise
        log.info("wake_arranged", in_s=round(in_s))

    def _scale(self, instances: int) -> None:
        try:
            # Before each request that may change the number: the worker pool is read before.
            self._pool.scale(instances, lambda: self._refuse_when_late(instances))
        except DroplineError as error:
            # The protocol handles the error; the log line is for the operator.
            log.warning("pool_not_scaled", instances=instances, code=error.code, error=str(error))
            raise

    def _refuse_when_late(self, instances: int) -> None:
        """Refuse to call 0 under an expired mark, as after a freeze of the process between mark and call."""
        late_s = self._clock() - self._marked_at
        if instances == 0 and late_s > self._policy.lease_s / 4:
            raise ScalingRefused(
                f"{late_s:.0f} s have passed since the mark was set, more than a quarter of the lease of "
                f"{self._policy.lease_s:.0f} s; the worker pool stays up until the next idle period"
            )


def policy_from_settings(pool: PoolSettings) -> ScalingPolicy:
    """The policy of a deployment."""
    # A worker pool that sleeps for less than an idle period is not worth its start.
    rest_s = pool.idle_s if pool.wake_queue else None
    return ScalingPolicy(pool.instances, pool.idle_s, pool.lease_s, pool.awake_s, rest_s)


@contextmanager
def open_activator(pool: PoolSettings, broker: BrokerSettings) -> Iterator[Activator | None]:
    """Yield an activator that connects on first use; None if the settings name no worker pool.

    Raises:
        AccessDenied: no credentials were found.
        SettingsError: Redis's URL is missing or wrong.
    """
    if not pool.name:
        yield None
        return
    with (
        closing(_connect_mark(broker)) as mark,
        closing(make_worker_pool(pool.name, pool.api)) as workers,
    ):
        yield Activator(mark, workers, policy_from_settings(pool))


def make_deactivator(
    pool: PoolSettings, broker: BrokerSettings, due_in_s: Callable[[], float | None]
) -> Deactivator:
    """Return a deactivator that connects on first use, for the rest of this process.

    Args:
        pool: settings with the name of a worker pool.
        broker: settings of the Redis with the mark.
        due_in_s: the answer to `CheckUnfinished`.

    Raises:
        AccessDenied: no credentials were found.
        SettingsError: Redis's URL is missing or wrong, or `DROPLINE_POOL__WAKE_URL` is missing.
    """
    mark, wakes = _connect_mark(broker), make_wake_queue(pool)
    workers = make_worker_pool(pool.name, pool.api)
    return Deactivator(mark, workers, policy_from_settings(pool), due_in_s, wakes)


def _connect_mark(broker: BrokerSettings) -> PoolMark:
    url = check_redis_url(require(broker.url, _BROKER_URL), _BROKER_URL)
    return PoolMark.connect(url, broker.publish_timeout_s)

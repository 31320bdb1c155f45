"""Scale to zero, the worker's side: `Deactivator` scales the worker pool to zero, or holds it there."""

import time
import uuid
from collections.abc import Callable
from typing import Any

from dropline.errors import DroplineError
from dropline.log import get_logger
from dropline.scaling.activation import (
    arrange_check,
    check_pause_s,
    connect_mark,
    policy_from_settings,
    release_hold,
)
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
    hold,
    run_procedure,
    scale_to_zero,
)
from dropline.scaling.wake_queue import WakeQueue, make_wake_queue
from dropline.scaling.worker_pool import WorkerPool, make_worker_pool
from dropline.settings import BrokerSettings, PoolSettings

log = get_logger(__name__)


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

    def hold(self, fingerprint: str) -> ScaleToZeroOutcome:
        """Set the number of instances to 0 and hold it: workers with this fingerprint cannot start.

        Raises:
            ScalingRefused, ScalingDenied, ScalingUnknown, BrokerUnavailable: not held; the next start of a worker
                tries again.
        """
        self._pool.prepare()
        try:
            return run_procedure(hold(uuid.uuid4().hex, fingerprint, self._policy), self._execute)
        finally:
            # Until something changes, an hourly check looks whether it has.
            arrange_check(self._wakes, check_pause_s(self._policy, 0))

    def read_fingerprint(self) -> str:
        """The fingerprint of the worker pool's image and settings.

        Raises:
            ScalingRefused, ScalingDenied: it cannot be read.
        """
        return self._pool.read().fingerprint

    def release(self) -> None:
        """End a hold: a worker is ready.

        Raises:
            BrokerUnavailable: Redis is unreachable.
        """
        release_hold(self._mark)

    def hand_over(self) -> None:
        """Have the function check the worker pool, if rows are unfinished; call after `forget_awake`.

        The worker is stopped by somebody else, and no event may come that scales the worker pool up.

        Raises:
            DatabaseUnavailable: Postgres is unreachable.
        """
        if self._wakes is None:
            return
        due_in_s = self._due_in_s()
        if due_in_s is not None:
            arrange_check(self._wakes, max(due_in_s, self._policy.check_s))

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
    mark, wakes = connect_mark(broker), make_wake_queue(pool)
    workers = make_worker_pool(pool.name, pool.api)
    return Deactivator(mark, workers, policy_from_settings(pool), due_in_s, wakes)

"""Scale to zero, the worker's side: a timer in the parent's event loop ends the idle period.

The timer is armed for the end of the idle period; when the timer fires early, it is armed again for the rest.
"""

import time
from collections.abc import Callable
from typing import Protocol

from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry

from dropline.errors import DroplineError
from dropline.log import get_logger
from dropline.scaling.errors import ScalingDenied, ScalingRefused, ScalingUnknown
from dropline.scaling.protocol import ScaleToZeroOutcome, ScalingPolicy

log = get_logger(__name__)

#: Seconds between calls that undo a scale to zero.
_SCALE_UP_AGAIN_S = 5.0


class PoolScaler(Protocol):
    """The methods of `dropline.scaling.activation.Deactivator` that the timer calls."""

    def try_scale_to_zero(self) -> ScaleToZeroOutcome: ...

    def scale_up_again(self) -> None: ...

    def forget_awake(self) -> None: ...

    def hand_over(self) -> None: ...


class IdlePeriod:
    """The time since the last message."""

    def __init__(self, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s = idle_s
        self._clock = clock
        self._since = clock()

    def touch(self) -> None:
        """Start the idle period again: a message has arrived."""
        self._since = self._clock()

    def left_s(self) -> float:
        """Seconds until the idle period is over; 0 afterwards."""
        return max(0.0, self._since + self._idle_s - self._clock())


class IdleTimer:
    """Tries to scale the worker pool to zero after each idle period without a message."""

    def __init__(
        self,
        scaler: Callable[[], PoolScaler],
        policy: ScalingPolicy,
        look: Callable[[], None],
        quiet_s: Callable[[], float],
        idle_period: IdlePeriod | None = None,
    ) -> None:
        """Create a timer, not armed yet.

        Args:
            scaler: called on each use; may raise a DroplineError.
            policy: of this deployment.
            look: at the queue in Postgres; sends messages for due rows.
            quiet_s: seconds since any worker of the worker pool captioned an image; may raise a DroplineError.
            idle_period: for tests, with a clock of their own.
        """
        self._scaler = scaler
        self._policy = policy
        self._look = look
        self._quiet_s = quiet_s
        self._idle_period = idle_period or IdlePeriod(policy.idle_s)
        self._entry: Entry | None = None
        self._must_scale_up_again = False
        self._has_scaled_to_zero = False

    def start(self, hub: Hub) -> None:
        """Arm the timer; call at each start of the consumer, because Celery drops timers with the connection."""
        self._idle_period.touch()
        self._arm(hub, _SCALE_UP_AGAIN_S if self._must_scale_up_again else self._policy.idle_s)

    def touch(self) -> None:
        """Start the idle period again: a message has arrived."""
        self._has_scaled_to_zero = False
        self._idle_period.touch()

    def stop(self) -> None:
        """Disarm the timer, and try a pending scale-up once more."""
        self._disarm()
        if self._must_scale_up_again:
            self._act()

    def end(self) -> None:
        """The worker stops. Unless it has scaled to zero itself, the state of the worker pool is unknown."""
        if self._has_scaled_to_zero:
            return
        try:
            self._scaler().forget_awake()
        except DroplineError as error:
            log.info("mark_not_removed", code=error.code, error=str(error))
        try:
            # After the mark is gone: an event that has read `awake` has its row by now. Redis is not needed.
            self._scaler().hand_over()
        except DroplineError as error:
            log.warning("rows_not_handed_over", code=error.code, error=str(error))

    def _disarm(self) -> None:
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def _arm(self, hub: Hub, delay_s: float) -> None:
        self._disarm()
        self._entry = hub.call_later(delay_s, self._on_time, hub)

    def _on_time(self, hub: Hub) -> None:
        again_s = self._policy.idle_s
        try:
            # A new message must not delay a pending scale-up: the message may need the scale-up.
            left_s = 0 if self._must_scale_up_again else self._idle_period.left_s()
            again_s = left_s or self._act()
        except Exception:
            # Arm the timer again after any error: without a timer, the worker pool would stay up for good.
            log.exception("pool_kept_awake")
        finally:
            self._arm(hub, again_s)

    def _act(self) -> float:
        """Scale up again if pending, else try to scale to zero; return the seconds until the next time."""
        try:
            if self._must_scale_up_again:
                self._scaler().scale_up_again()
                self._must_scale_up_again = False
                return self._policy.idle_s
            if (left_s := self._policy.idle_s - self._quiet_s()) > 0:
                return left_s
            return self._after(self._scaler().try_scale_to_zero())
        except (ScalingRefused, ScalingDenied, ScalingUnknown) as error:
            # Raised only by calls that scale up again: images may wait while Cloud Run stops the workers.
            self._must_scale_up_again = True
            log.error("pool_not_woken_again", code=error.code, error=str(error))
            return _SCALE_UP_AGAIN_S
        except DroplineError as error:
            log.warning("pool_kept_awake", code=error.code, error=str(error))
            return self._policy.idle_s

    def _after(self, outcome: ScaleToZeroOutcome) -> float:
        self._has_scaled_to_zero = outcome is ScaleToZeroOutcome.ASLEEP
        if outcome is ScaleToZeroOutcome.UNFINISHED:
            # Another worker has the rows, Redis has lost their messages, or the rows wait for their time.
            self._look()
        return outcome.again_after_s(self._policy)

"""Puts the worker pool to sleep after an idle period, from the parent's event loop.

One timer: it is armed for the end of the idle period, and when it fires, for what is then left of it.
"""

from collections.abc import Callable
from typing import Protocol

from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry

from dropline.errors import DroplineError
from dropline.log import get_logger
from dropline.scaling.errors import ScalingDenied, ScalingRefused, ScalingUnknown
from dropline.scaling.protocol import Rules, Slept
from dropline.scaling.sleeper import IdleWatch

log = get_logger(__name__)

#: Between calls that are to take back a sleep that came too late.
_WAKE_AGAIN_S = 5.0


class Sleeps(Protocol):
    """See `dropline.scaling.sleeper.Sleeper`."""

    def try_to_sleep(self) -> Slept: ...

    def wake_again(self) -> None: ...


class SleepTimer:
    """Tries to put the pool to sleep whenever no message has come for an idle period."""

    def __init__(
        self,
        sleeper: Callable[[], Sleeps],
        rules: Rules,
        recover: Callable[[], None],
        quiet_s: Callable[[], float],
        watch: IdleWatch | None = None,
    ) -> None:
        """A timer that is not armed yet.

        Args:
            sleeper: called when there is something to do for it; may raise a DroplineError.
            rules: of this deployment.
            recover: sends the message that has rows looked for which nobody knows of.
            quiet_s: seconds since any worker of the pool captioned an image; may raise a DroplineError.
            watch: for tests, with a clock of their own.
        """
        self._sleeper = sleeper
        self._rules = rules
        self._recover = recover
        self._quiet_s = quiet_s
        self._watch = watch or IdleWatch(rules.idle_s)
        self._entry: Entry | None = None
        self._owes_a_wake = False

    def start(self, hub: Hub) -> None:
        """Arm it; for each start of the consumer, since Celery forgets such timers when it loses the broker."""
        self._watch.touch()
        self._arm(hub, _WAKE_AGAIN_S if self._owes_a_wake else self._rules.idle_s)

    def touch(self) -> None:
        """A message has come."""
        self._watch.touch()

    def stop(self) -> None:
        """Disarm it; what it owes is done now, as far as that can be."""
        self._disarm()
        if self._owes_a_wake:
            self._act()

    def _disarm(self) -> None:
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def _arm(self, hub: Hub, delay_s: float) -> None:
        self._disarm()
        self._entry = hub.call_later(delay_s, self._on_time, hub)

    def _on_time(self, hub: Hub) -> None:
        again_s = self._rules.idle_s
        try:
            # A message does not put off what is owed: it may be the very one that is owed it.
            again_s = (0 if self._owes_a_wake else self._watch.left_s()) or self._act()
        except Exception:
            # Whatever it was: a timer that is not armed again would leave the pool awake for good.
            log.exception("pool_kept_awake")
        finally:
            self._arm(hub, again_s)

    def _act(self) -> float:
        """Seconds until the next time."""
        try:
            if self._owes_a_wake:
                self._sleeper().wake_again()
                self._owes_a_wake = False
                return self._rules.idle_s
            if (left_s := self._rules.idle_s - self._quiet_s()) > 0:
                return left_s
            return self._after(self._sleeper().try_to_sleep())
        except (ScalingRefused, ScalingDenied, ScalingUnknown) as error:
            # Only a call to wake it again ends like this: images may wait for workers that are being stopped.
            self._owes_a_wake = True
            log.error("pool_not_woken_again", code=error.code, error=str(error))
            return _WAKE_AGAIN_S
        except DroplineError as error:
            log.warning("pool_kept_awake", code=error.code, error=str(error))
            return self._rules.idle_s

    def _after(self, outcome: Slept) -> float:
        if outcome is Slept.UNFINISHED:
            # Rows without messages: in another worker's hands, or forgotten by Redis.
            self._recover()
        return outcome.again_after_s(self._rules)

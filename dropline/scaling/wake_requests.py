"""Scale to zero for a process without rights on the worker pool: a task of Cloud Tasks has the function scale up.

The gallery can be reached from outside. With the right to change the worker pool, its account could run any image
with the worker's rights (`docs/decisions/0029-the-gallery-does-not-scale.md`).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from dropline.scaling.activation import connect_mark
from dropline.scaling.mark import PoolMark
from dropline.scaling.protocol import AWAKE
from dropline.scaling.wake_queue import WakeQueue, make_wake_queue
from dropline.settings import BrokerSettings, PoolSettings

#: Least time between two tasks of a process, in seconds: a task that is refused for hours is repeated for hours.
PAUSE_S = 30.0
#: A task that is due in less than this, in seconds, may have been called already: clocks differ.
_MARGIN_S = 5.0
_CONSEQUENCE = "the worker pool may stay at zero"


class WakeRequester:
    """Has the function scale the worker pool up. Threads may share it."""

    def __init__(self, mark: PoolMark, wakes: WakeQueue, clock: Callable[[], float] = time.monotonic) -> None:
        """Store the parts; no task is known to be due."""
        self._mark = mark
        self._wakes = wakes
        self._clock = clock
        self._one_call = threading.Lock()
        #: Time of the latest task that Cloud Tasks has taken.
        self._task_at: float | None = None

    def ensure_awake(self) -> None:
        """Have a task call the function, unless the mark is `awake`; call after the commit of the row.

        Cloud Tasks calls until the function answers that the worker pool is awake, as Pub/Sub does for an event.

        Raises:
            BrokerUnavailable: Redis is unreachable.
            ScalingRefused, ScalingUnknown: no task is known to be taken; try again.
            ScalingDenied: an operator must correct a permission or a name first.
        """
        if self._mark.read() == AWAKE:
            return
        with self._one_call:
            now = self._clock()
            due = self._task_at
            if due is not None and now < due - _MARGIN_S:
                return
            at = now if due is None else max(now, due + PAUSE_S)
            self._wakes.arrange(at - now, _CONSEQUENCE)
            self._task_at = at


@contextmanager
def open_requester(pool: PoolSettings, broker: BrokerSettings) -> Iterator[WakeRequester | None]:
    """Yield a requester that connects on first use; None if the settings name no queue of Cloud Tasks.

    Raises:
        AccessDenied: no credentials were found.
        SettingsError: Redis's URL is missing or wrong, or `DROPLINE_POOL__WAKE_URL` is missing.
    """
    wakes = make_wake_queue(pool)
    if wakes is None:
        yield None
        return
    with closing(connect_mark(broker)) as mark:
        yield WakeRequester(mark, wakes)

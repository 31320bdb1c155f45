"""The function's side of sleep and wake: workers are on their way before an event is acknowledged."""

from dropline.scaling.errors import ScalingUnknown
from dropline.scaling.waker import Waker
from trigger_fn.deadline import Deadline, Lanes

#: Reading the mark takes a fraction of a millisecond; a call to Cloud Run is shared by all who wait for it.
_LANES = 4


class Pool:
    """Workers that may be asleep."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._lanes = Lanes("pool", _LANES)

    def ensure_awake(self, deadline: Deadline) -> None:
        """Wake the workers if they may be asleep.

        Raises:
            TransientError: it is not known that they are awake; the event must come again. A call that outlives
                the deadline goes on, and the event finds what it did.
            ScalingDenied: likewise, once somebody has set the deployment right.
        """
        late = ScalingUnknown("the worker pool was not awake within the time that a request may take")
        self._lanes.run(self._waker.ensure_awake, deadline, late)

    def close(self) -> None:
        """Let go of all threads, once a call under way is over."""
        self._lanes.close()

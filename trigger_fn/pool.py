"""The function's side of sleep and wake: workers are on their way before an event is acknowledged."""

from dropline.deadline import Bulkhead, Deadline
from dropline.scaling.errors import ScalingUnknown
from dropline.scaling.waker import Waker

#: For each of the two: reading the mark takes a fraction of a millisecond, and a call to Cloud Run is shared by
#: all who wait for it. A call that hangs must not keep anybody from reading.
_THREADS = 4


class Pool:
    """Workers that may be asleep."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._looking = Bulkhead("mark", _THREADS)
        self._waking = Bulkhead("pool", _THREADS)

    def ensure_awake(self, deadline: Deadline) -> None:
        """Wake the workers if they may be asleep.

        Raises:
            TransientError: it is not known that they are awake; the event must come again. A call that outlives
                the deadline goes on, and the event finds what it did.
            ScalingDenied: likewise, once somebody has set the deployment right.
        """
        late = ScalingUnknown("the worker pool was not awake within the time that a request may take")
        if not self._looking.run(self._waker.is_awake, deadline, late):
            self._waking.run(self._waker.wake, deadline, late)

    def close(self) -> None:
        """Let go of all threads, once a call under way is over."""
        self._looking.close()
        self._waking.close()

"""Scale to zero, the function's side: the worker pool is scaled up before an event is acknowledged."""

from dropline.deadline import Bulkhead, Deadline
from dropline.scaling.activation import Activator
from dropline.scaling.errors import ScalingUnknown

#: Threads for reading the mark, and as many for calls to Cloud Run. A read takes a fraction of a millisecond, and
#: concurrent requests share one call. Separate threads: a call that hangs must not delay reads.
_THREADS = 4


class DeadlineActivator:
    """Scales the worker pool up within the deadline of a request."""

    def __init__(self, activator: Activator) -> None:
        self._activator = activator
        self._reads = Bulkhead("mark", _THREADS)
        self._calls = Bulkhead("pool", _THREADS)

    def ensure_awake(self, deadline: Deadline) -> None:
        """Scale the worker pool up if the worker pool may be at zero.

        Raises:
            TransientError: the worker pool may be at zero; the event must be redelivered. A call that outlives the
                deadline continues, and the redelivered event reads the result.
            ScalingDenied: the event must be redelivered after an operator has corrected the deployment.
        """
        late = ScalingUnknown("the worker pool was not awake within the time that a request may take")
        if not self._reads.run(self._activator.is_awake, deadline, late):
            self._calls.run(self._activator.scale_up, deadline, late)

    def close(self) -> None:
        """End the threads after the current calls."""
        self._reads.close()
        self._calls.close()

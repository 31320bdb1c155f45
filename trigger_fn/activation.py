"""Scale to zero, the function's side: the worker pool is scaled up before an event is acknowledged."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from dropline.deadline import Bulkhead, Deadline
from dropline.scaling.activation import Activator
from dropline.scaling.errors import ScalingUnknown

#: Longest wait for Cloud Run, in seconds, after the time for row and message: its Admin API may need more than the
#: time in which an outage of Postgres or Redis is answered. A call that outlives its request has no CPU until the
#: next request, where Cloud Run gives CPU to requests alone.
WAKE_BUDGET_S = 10.0
#: Most requests that wait so long. The other threads of the process (80, Dockerfile) stay free for probes, and for
#: requests that are answered at once.
MOST_WAITING = 40
#: Threads for reading the mark, which takes a fraction of a millisecond. Separate from the thread of the calls: a
#: call that hangs must not delay reads.
_READ_THREADS = 4


class DeadlineActivator:
    """Scales the worker pool up within a time limit; the requests of a process share one call to Cloud Run."""

    def __init__(self, activator: Activator) -> None:
        self._activator = activator
        self._reads = Bulkhead("mark", _READ_THREADS)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pool")
        self._waiting = threading.Semaphore(MOST_WAITING)
        self._lock = threading.Lock()
        #: The latest call, and its number: calls are counted from 1.
        self._call: Future[None] | None = None
        self._number = 0

    def ensure_awake(self, deadline: Deadline) -> None:
        """Scale the worker pool up if the worker pool may be at zero; call after row and message are written.

        The deadline is for reading the mark. The wait for Cloud Run has `WAKE_BUDGET_S` of its own, unless
        `MOST_WAITING` requests wait already.

        Raises:
            TransientError: the worker pool may be at zero; the event must be redelivered. A call that outlives its
                time continues, and the redelivered event reads the result.
            ScalingDenied: the event must be redelivered after an operator has corrected the deployment.
        """
        if self._reads.run(self._activator.is_awake, deadline, _late()):
            return
        with self._limit(deadline) as limit:
            earlier, number = self._latest()
            # A call under way may have read the mark before the row of this event was written, so its result does
            # not count. All that have waited for its end share the next call, which mostly reads `awake`.
            if earlier is not None:
                _wait(earlier, limit)
            call = self._call_after(number)
            _wait(call, limit)
            call.result()

    def close(self) -> None:
        """End the threads after the current calls."""
        self._reads.close()
        self._thread.shutdown(cancel_futures=True)

    @contextmanager
    def _limit(self, deadline: Deadline) -> Iterator[Deadline]:
        """Until when a request may wait."""
        may_wait = self._waiting.acquire(blocking=False)
        try:
            yield Deadline.after(WAKE_BUDGET_S) if may_wait else deadline
        finally:
            if may_wait:
                self._waiting.release()

    def _latest(self) -> tuple[Future[None] | None, int]:
        """The latest call, and its number."""
        with self._lock:
            return self._call, self._number

    def _call_after(self, number: int) -> Future[None]:
        """A call that began after the call with this number; it may have ended."""
        with self._lock:
            if self._call is None or self._number == number:
                self._call = self._thread.submit(self._activator.scale_up)
                self._number += 1
            return self._call


def _wait(call: Future[None], limit: Deadline) -> None:
    """Wait for the end of a call. Raises ScalingUnknown at the limit."""
    wait([call], timeout=limit.remaining_s())
    if not call.done():
        raise _late()


def _late() -> ScalingUnknown:
    return ScalingUnknown("the worker pool was not awake within the time that a request may take")

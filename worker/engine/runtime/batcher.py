"""Forms batches of queued requests, and runs a batch so that one bad image fails alone."""

import bisect
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

from dropline.errors import DroplineError, EngineUnavailable, InferenceFailed
from worker.engine.runtime.model import BatchTooLarge, DeviceBroken


class Batchable(Protocol):
    """The properties of a request that the batcher needs."""

    @property
    def child(self) -> Hashable:
        """The sender of the request."""
        ...

    @property
    def isolated(self) -> bool:
        """True if the request must run in a batch of its own."""
        ...

    @property
    def size(self) -> int:
        """Its number of tasks, of which each is an answer to generate."""
        ...

    @property
    def priority(self) -> int:
        """Of its row: 0 fresh, 1 redone, 2 bulk."""
        ...


#: Full batches that fit before a larger one is tried. Doubled with each one that does not fit, up to the most:
#: where another program keeps the memory, failed tries cost at most one batch in so many.
_FIRST_PATIENCE = 8
_MOST_PATIENCE = 1024


class BatchLimit:
    """The largest batch at the moment: halved when the device's memory is full, and raised again after a while.

    Not thread-safe.
    """

    def __init__(self, most: int, begin: int | None = None) -> None:
        """Begin with `begin`, by default with the most: memory may be short at the start alone."""
        self._most = most
        self.value = most if begin is None else begin
        self._patience = _FIRST_PATIENCE
        #: Full batches until a larger one is tried.
        self._left = _FIRST_PATIENCE

    def did_not_fit(self, size: int) -> None:
        """Lower the limit to half of a batch that the device's memory did not hold; it stays at least 1."""
        if size // 2 < self.value:
            self.value = max(1, size // 2)
            self._patience = min(_MOST_PATIENCE, 2 * self._patience)
        self._left = self._patience

    def did_fit(self, size: int) -> None:
        """Count a batch that ended, if it had more than half of the limit; a smaller one says nothing.

        A batch of images with several tasks each may be full with fewer tasks than the limit.
        """
        if 2 * size <= self.value and self.value > 1:
            return
        if self.value == self._most:
            self._patience = _FIRST_PATIENCE
            return
        self._left -= 1
        if self._left <= 0:
            self.value = min(self._most, 2 * self.value)
            self._left = self._patience


B = TypeVar("B", bound=Batchable)
T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[B]):
    """A thread-safe queue of requests, read in batches. A free model waits only for announced requests.

    All tasks may share a batch: the images are 85 % of the work and of one size, and prompts are padded.
    """

    def __init__(
        self,
        max_batch: int,
        max_wait_s: float,
        begin: int | None = None,
        *,
        priority_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """An empty queue.

        Args:
            max_batch: most tasks in one batch, ever.
            max_wait_s: longest wait for announced requests, in seconds.
            begin: most tasks in the first batches; by default `max_batch`.
            priority_s: a request goes before those of the next lower priority that arrived in so many seconds
                before it. So each waits at most as much longer as in the order of arrival, for each step.
            clock: seconds.
        """
        self._limit = BatchLimit(max_batch, begin)
        self._max_wait_s = max_wait_s
        self._priority_s, self._clock = priority_s, clock
        #: In the order of their turns, with the time of the turn.
        self._queue: list[tuple[float, B]] = []
        #: Children whose next request is announced and has not arrived.
        self._announced: set[Hashable] = set()
        self._closed = False
        self._changed = threading.Condition()

    @property
    def max_batch(self) -> int:
        """Maximum number of tasks in one batch, at the moment."""
        return self._limit.value

    def did_not_fit(self, size: int) -> None:
        """Form smaller batches for a while, after one of `size` tasks that the device's memory did not hold."""
        with self._changed:
            self._limit.did_not_fit(size)

    def did_fit(self, size: int) -> None:
        """Count a batch of `size` tasks that ended; after some, larger ones are tried again."""
        with self._changed:
            self._limit.did_fit(size)

    def announce(self, child: Hashable) -> None:
        """Note that a request of this child will follow; a batch may wait a moment for the request."""
        with self._changed:
            self._announced.add(child)

    def retract(self, child: Hashable) -> None:
        """Note that the announced request will not follow."""
        with self._changed:
            self._announced.discard(child)
            self._changed.notify_all()

    def submit(self, request: B) -> None:
        """Add an arrived request to the queue."""
        with self._changed:
            self._announced.discard(request.child)
            turn = self._clock() + request.priority * self._priority_s
            bisect.insort(self._queue, (turn, request), key=itemgetter(0))
            self._changed.notify_all()

    def remove(self, child: Hashable) -> None:
        """Remove the queued requests and the announcement of a child that has disconnected."""
        with self._changed:
            self._announced.discard(child)
            self._queue = [each for each in self._queue if each[1].child != child]
            self._changed.notify_all()

    def close(self) -> None:
        """Return no further batch."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def next_batch(self, wanted: Callable[[int], int] | None = None) -> list[B]:
        """Block until a request is queued, then return a batch in order of the turns; empty once closed.

        A request with more tasks than the maximum is a batch of its own.

        Args:
            wanted: the most tasks of the batch, at least 1, by the number of tasks that wait; None: `max_batch`.
        """
        with self._changed:
            while not self._closed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                self._changed.wait_for(self._need_not_wait, self._max_wait_s)
                if self._queue and not self._closed:
                    return self._take(wanted(self._waiting) if wanted else self.max_batch)
            return []

    def take(self, wanted: Callable[[int], int]) -> list[B]:
        """As `next_batch`, at once, where it may be empty; a request that must run alone is left in the queue."""
        with self._changed:
            if self._closed or not self._queue or self._first.isolated:
                return []
            room = wanted(self._waiting)
            return self._take(room) if room else []

    @property
    def _first(self) -> B:
        return self._queue[0][1]

    @property
    def _waiting(self) -> int:
        return sum(request.size for _, request in self._queue)

    def _need_not_wait(self) -> bool:
        full = self._waiting >= self.max_batch
        return full or not self._announced or not self._queue or self._first.isolated or self._closed

    def _take(self, room: int) -> list[B]:
        if self._first.isolated:
            return [self._queue.pop(0)[1]]
        batch: list[B] = []
        left: list[tuple[float, B]] = []
        for turn, request in self._queue:
            if (request.size <= room or not batch) and not request.isolated:
                batch.append(request)
                room -= request.size
            else:
                left.append((turn, request))
                # Requests behind one that does not fit keep their turn, unless it runs alone.
                room = room if request.isolated else 0
        self._queue = left
        return batch


def run_with_bisection(
    batch: Sequence[T], run: Callable[[Sequence[T]], Sequence[R]], probe: Callable[[], None]
) -> Iterator[tuple[T, R | DroplineError]]:
    """Run a batch; after an error run each half, down to the item at fault.

    Args:
        batch: the items; not empty.
        run: returns the results of all items, or raises; `BatchTooLarge` is no fault of an item.
        probe: raises if the model itself is broken, so that no image is set aside for a broken model.

    Returns:
        Every item once, in order, with the item's result or error.

    Raises:
        DeviceBroken: of `run`; the remaining items have no result.
        Exception: the error of `probe`; the remaining items have no result.
    """
    try:
        results = run(batch)
    except DeviceBroken:
        raise
    except Exception as error:  # noqa: BLE001 - an error of the model concerns this batch only
        if len(batch) == 1:
            yield batch[0], _error_of_item(error, probe)
            return
    else:
        yield from zip(batch, results, strict=True)
        return
    # Outside the handler: the frames of the error hold the tensors of the failed attempt.
    middle = len(batch) // 2
    yield from run_with_bisection(batch[:middle], run, probe)
    yield from run_with_bisection(batch[middle:], run, probe)


def _error_of_item(error: Exception, probe: Callable[[], None]) -> DroplineError:
    if isinstance(error, BatchTooLarge):
        return EngineUnavailable(
            f"the device's memory does not hold even one image ({error}); end other programs that use the device, "
            "or lower DROPLINE_ENGINE__NUM_BEAMS"
        )
    if isinstance(error, InferenceFailed):
        return error
    try:
        probe()
    except BatchTooLarge as full:
        return EngineUnavailable(f"the device's memory is full ({full}); the image is tried again")
    return InferenceFailed(
        f"the model fails on this image and task, though not on others ({type(error).__name__}: {error}); "
        "look at the image, or try another task"
    )

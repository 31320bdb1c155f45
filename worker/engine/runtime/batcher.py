"""Forms batches of what has arrived, and never keeps a free model waiting for what nobody announced."""

import threading
from collections import deque
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What the batcher looks at in a request."""

    @property
    def child(self) -> Hashable:
        """Who asked."""
        ...

    @property
    def isolated(self) -> bool:
        """Whether it must run alone."""
        ...


Q = TypeVar("Q", bound=Queued)


class Batcher(Generic[Q]):
    """A queue that hands out batches; thread-safe.

    All tasks may share a batch: the images are 85 % of the work and of one size, and prompts are padded.
    """

    def __init__(self, max_batch: int, max_wait_s: float) -> None:
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._queue: deque[Q] = deque()
        self._coming: set[Hashable] = set()
        self._closed = False
        self._changed = threading.Condition()

    @property
    def max_batch(self) -> int:
        """Most requests in one batch."""
        return self._max_batch

    def shrink(self, max_batch: int) -> None:
        """Lower the limit: the device's memory turned out to hold no more."""
        with self._changed:
            self._max_batch = max(1, min(self._max_batch, max_batch))

    def announce(self, child: Hashable) -> None:
        """A request of this child is on its way; a batch may wait a moment for it."""
        with self._changed:
            self._coming.add(child)

    def retract(self, child: Hashable) -> None:
        """The announced request will not come."""
        with self._changed:
            self._coming.discard(child)
            self._changed.notify_all()

    def submit(self, request: Q) -> None:
        """A request has arrived."""
        with self._changed:
            self._coming.discard(request.child)
            self._queue.append(request)
            self._changed.notify_all()

    def forget(self, child: Hashable) -> None:
        """The child is gone: nobody waits for what it asked."""
        with self._changed:
            self._coming.discard(child)
            self._queue = deque(request for request in self._queue if request.child != child)
            self._changed.notify_all()

    def close(self) -> None:
        """Hand out no further batch."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def next_batch(self) -> list[Q]:
        """Block until there is work, then return it in order of arrival; empty once closed."""
        with self._changed:
            while not self._closed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                self._changed.wait_for(self._nothing_to_wait_for, self._max_wait_s)
                if self._queue and not self._closed:
                    return self._take()
            return []

    def _nothing_to_wait_for(self) -> bool:
        full = len(self._queue) >= self._max_batch
        return full or not self._coming or not self._queue or self._queue[0].isolated or self._closed

    def _take(self) -> list[Q]:
        if self._queue[0].isolated:
            return [self._queue.popleft()]
        batch: list[Q] = []
        left: deque[Q] = deque()
        for request in self._queue:
            fits = len(batch) < self._max_batch and not request.isolated
            (batch if fits else left).append(request)
        self._queue = left
        return batch

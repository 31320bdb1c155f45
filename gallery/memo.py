"""A value read again after a time, however many requests need the value."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """Threads may share the memo: a single thread reads, and all others get the same value or error."""

    def __init__(self, read: Callable[[], T], age_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep the call; the first `get` makes it.

        Args:
            read: reads the value.
            age_s: longest time, in seconds, for which a value is given again.
            clock: seconds.
        """
        self._read = read
        self._age_s = age_s
        self._clock = clock
        self._lock = Lock()
        self._held: tuple[float, T] | None = None
        self._running: Future[T] | None = None

    def get(self) -> T:
        """The value; raises the errors of `read`, and keeps no error."""
        with self._lock:
            if self._held is not None and self._clock() - self._held[0] < self._age_s:
                return self._held[1]
            running, is_first = self._running or Future(), self._running is None
            self._running = running
        # In sequence, readers of a silent server would add up the waits.
        if is_first:
            self._run(running)
        return running.result()

    def _run(self, running: Future[T]) -> None:
        try:
            value = self._read()
        except BaseException as error:  # noqa: BLE001 - every waiting thread gets the error
            with self._lock:
                self._running = None
            running.set_exception(error)
        else:
            with self._lock:
                self._held, self._running = (self._clock(), value), None
            running.set_result(value)

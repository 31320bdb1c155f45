"""A value that is read again after a time, however many requests need it."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """Threads may share it: one thread reads, and the others wait for its value."""

    def __init__(self, read: Callable[[], T], age_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Read nothing yet.

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

    def get(self) -> T:
        """The value; raises the errors of `read`, and keeps no error."""
        with self._lock:
            if self._held is None or self._clock() - self._held[0] >= self._age_s:
                self._held = (self._clock(), self._read())
            return self._held[1]

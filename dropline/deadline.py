"""A request's time is bounded from outside, because no client library bounds all of its waits.

Connect and statement timeouts do not cover a name server that is silent, a frozen process behind a live socket, or
the sum of several waits.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Self, TypeVar

from dropline.errors import TransientError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """The point `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())


class Lanes:
    """Runs one kind of effect on a fixed number of threads, and stops waiting when a deadline has passed.

    What is given up keeps its thread until the client library lets go, so an outage occupies at most `count` of
    them. The effects are idempotent: one that still goes through after its request was answered with 503 does no
    harm.
    """

    def __init__(self, name: str, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)

    def run(self, effect: Callable[[], T], deadline: Deadline, late: TransientError) -> T:
        """The effect's result, or its error.

        Raises:
            TransientError: `late`, where the deadline passes first.
        """
        future = self._threads.submit(effect)
        wait([future], timeout=deadline.remaining_s())
        if not future.done():
            future.cancel()
            raise late
        return future.result()

    def close(self) -> None:
        """Wait for what is running, and end the threads."""
        self._threads.shutdown(cancel_futures=True)

"""Deadlines for a request, enforced from outside: no client library bounds all of its waits.

Connect and statement timeouts do not cover a silent name server, a frozen process behind a live socket, or the
sum of several waits.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Self, TypeVar

from dropline.errors import TransientError

T = TypeVar("T")

#: Longest time for which the start-up probe of a service waits for Postgres, in seconds from the start of the
#: process. An instance of Cloud Run may need a minute or more until it can connect through its network.
START_WAIT_S = 90.0


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


class Bulkhead:
    """Runs one kind of effect on a fixed number of threads; a caller stops waiting at its deadline.

    An abandoned effect keeps its thread until the client library returns, so an outage occupies at most `count`
    threads. Every effect must be idempotent: an abandoned effect may still succeed after its request was answered
    with 503.
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
        """Wait for running effects and end the threads."""
        self._threads.shutdown(cancel_futures=True)

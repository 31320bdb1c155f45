"""The pace of bulk work: a cap on rows per second, and calls made less often than batches."""

import time
from collections.abc import Callable

#: Time whose rows a batch has: rows that come together would take all children of a worker at once.
_SPREAD_S = 0.1
#: The same behind a batch without a new row: a run over rows that exist is not slowed down.
_SEARCH_S = 1.0


class Pacer:
    """Keeps the number of rows per second below a rate. After a pause, no lost time is made up for."""

    def __init__(
        self,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """A pacer before its begin; a `rate` of None is no cap."""
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._next = float("-inf")
        self._batch_s = _SPREAD_S

    def most(self, batch: int) -> int:
        """Rows of the next batch, `batch` at most: the rows of a short time, and one at least."""
        return batch if self._rate is None else max(1, min(batch, int(self._rate * self._batch_s)))

    def wait(self) -> None:
        """Return when the next batch may be inserted."""
        if (pause_s := self._next - self._clock()) > 0:
            self._sleep(pause_s)

    def spend(self, rows: int) -> None:
        """Count the inserted rows of a batch."""
        self._batch_s = _SPREAD_S if rows else _SEARCH_S
        if self._rate is not None and rows:
            self._next = max(self._next, self._clock()) + rows / self._rate


class Spaced:
    """Makes a call at once, then at most once in `interval_s` seconds; `flush` makes the last call."""

    def __init__(
        self, call: Callable[[int], None], interval_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """A pending call; the argument is a row id."""
        self._call = call
        self._interval_s = interval_s
        self._clock = clock
        self._next = float("-inf")
        self._pending: int | None = None

    def __call__(self, row_id: int) -> None:
        """Make the call, or leave it for later."""
        self._pending = row_id
        if self._clock() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Make the call left for later."""
        if self._pending is not None:
            row_id, self._pending = self._pending, None
            self._call(row_id)
            self._next = self._clock() + self._interval_s

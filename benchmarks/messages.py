"""The messages on Redis."""

import time
from collections import Counter

import redis

from benchmarks.errors import RunInvalidError
from dropline.broker.queue import row_id_of
from dropline.contract import CAPTION_QUEUE

#: Between two reads during the set-up, before any measurement.
_PAUSE_S = 0.05


class Messages:
    """The messages of the caption queue."""

    def __init__(self, broker_url: str) -> None:
        self._redis = redis.Redis.from_url(broker_url, decode_responses=True)

    def rows(self) -> Counter[int]:
        """Number of messages by row id."""
        return Counter(row_id_in(str(body)) for body in self._redis.lrange(CAPTION_QUEUE, 0, -1))

    def wait_for(self, count: int, timeout_s: float) -> None:
        """Wait until at least `count` messages are on the queue.

        Raises:
            RunInvalidError: fewer messages after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while (found := self._redis.llen(CAPTION_QUEUE)) < count:
            if time.monotonic() > deadline:
                raise RunInvalidError(f"{found} of {count} messages were on Redis after {timeout_s:g} s")
            time.sleep(_PAUSE_S)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def row_id_in(message: str) -> int:
    """The row id of a caption message on Redis.

    Raises:
        RunInvalidError: the message has no row id.
    """
    row_id = row_id_of(message)
    if row_id is None:
        raise RunInvalidError(f"a message on Redis names no row: {message[:200]!r}")
    return row_id

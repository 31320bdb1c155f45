"""What waits on the broker."""

import base64
import json
import time
from collections import Counter

import redis

from benchmarks.errors import RunInvalidError
from dropline.contract import CAPTION_QUEUE

#: Between two looks while a part is set up; nothing is measured then.
_PAUSE_S = 0.05


class Messages:
    """The messages of the caption queue."""

    def __init__(self, broker_url: str) -> None:
        self._redis = redis.Redis.from_url(broker_url, decode_responses=True)

    def rows(self) -> Counter[int]:
        """Row id → how many messages name it."""
        return Counter(row_id_in(str(body)) for body in self._redis.lrange(CAPTION_QUEUE, 0, -1))

    def wait_for(self, count: int, timeout_s: float) -> None:
        """Waits until at least `count` messages are on the queue.

        Raises:
            RunInvalidError: they did not come in time.
        """
        deadline = time.monotonic() + timeout_s
        while (found := self._redis.llen(CAPTION_QUEUE)) < count:
            if time.monotonic() > deadline:
                raise RunInvalidError(f"{found} of {count} messages were on Redis after {timeout_s:g} s")
            time.sleep(_PAUSE_S)

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()


def row_id_in(message: str) -> int:
    """The row that a message of Celery's names.

    Raises:
        RunInvalidError: it names none.
    """
    try:
        return int(json.loads(base64.b64decode(json.loads(message)["body"]))[0][0])
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise RunInvalidError(f"a message on Redis names no row ({error!r}): {message[:200]!r}") from error

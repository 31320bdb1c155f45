"""The mark in Redis: one key, and two scripts that look and change it in one step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dropline.contract import CAPTION_QUEUE, RECOVERY_QUEUE
from dropline.errors import BrokerUnavailable
from dropline.scaling.protocol import SLEEPING, Claim, Claimed, Swap

if TYPE_CHECKING:
    from redis import Redis

#: Says what is known of the pool; see `dropline.scaling.protocol`.
MARK_KEY = "dropline.pool"
#: A pool with messages on one of these is not put to sleep.
QUEUES = (CAPTION_QUEUE, RECOVERY_QUEUE)

# An empty string stands for no mark.
_SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
    redis.call('DEL', KEYS[1])
elseif ARGV[3] == '0' then
    redis.call('SET', KEYS[1], ARGV[2])
else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
"""
_CLAIM = """
local mark = redis.call('GET', KEYS[1]) or ''
if string.sub(mark, 1, #ARGV[3]) == ARGV[3] then return 'taken' end
for number = 2, #KEYS do
    if redis.call('LLEN', KEYS[number]) > 0 then return 'queued' end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 'granted'
"""


class AwakeMark:
    """The mark, as threads may share it. Each method is one round trip, and one atomic step of Redis."""

    def __init__(self, client: "Redis", key: str = MARK_KEY, queues: Sequence[str] = QUEUES) -> None:
        self._client = client
        self._keys = (key, *queues)
        self._swap = client.register_script(_SWAP)
        self._claim = client.register_script(_CLAIM)

    @classmethod
    def connect(cls, url: str, timeout_s: float) -> "AwakeMark":
        """A mark in the broker's Redis; connects on first use.

        Args:
            url: as Celery gets it.
            timeout_s: for connecting, and for each answer.
        """
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # Nothing is sent twice: a swap whose first answer was lost would say that it had failed.
        return cls(
            Redis.from_url(
                url,
                socket_connect_timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_keepalive=True,
                retry=Retry(NoBackoff(), 0),
            )
        )

    def look(self) -> str | None:
        """The mark; None where there is none.

        Raises:
            BrokerUnavailable: Redis is away.
        """
        with _named_errors("read"):
            found = self._client.get(self._keys[0])
        return None if found is None else _text(found)

    def swap(self, swap: Swap) -> bool:
        """Replace the mark if it is as expected: whether it was.

        Raises:
            BrokerUnavailable: Redis is away; it may have been replaced.
        """
        arguments: list[str | int] = [swap.expected or "", swap.new or "", _milliseconds(swap.ttl_s)]
        with _named_errors("change"):
            return bool(self._swap(keys=self._keys[:1], args=arguments))

    def claim(self, claim: Claim) -> Claimed:
        """Set a sleeping mark if all queues are empty and there is none.

        Raises:
            BrokerUnavailable: Redis is away; it may have been set.
        """
        arguments: list[str | int] = [claim.mark, _milliseconds(claim.ttl_s), SLEEPING]
        with _named_errors("claim"):
            answer = self._claim(keys=self._keys, args=arguments)
        return Claimed(_text(answer))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _milliseconds(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, round(seconds * 1000))


def _text(answer: bytes | str) -> str:
    return answer.decode() if isinstance(answer, bytes) else answer


@contextmanager
def _named_errors(what: str) -> Iterator[None]:
    from redis.exceptions import RedisError

    try:
        yield
    except RedisError as error:
        raise BrokerUnavailable(
            f"cannot {what} the pool's mark in Redis, so nothing is known of the pool: {error}; try again"
        ) from error

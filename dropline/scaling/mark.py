"""The mark in Redis: one key, and two scripts that compare and change the key in one atomic step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dropline.contract import CAPTION_QUEUE
from dropline.errors import BrokerUnavailable
from dropline.log import get_logger
from dropline.scaling.protocol import SLEEPING, Admission, BeginScaleToZero, ConfirmMark, ReplaceMark

if TYPE_CHECKING:
    from redis import Redis

log = get_logger(__name__)

#: Longest wait for the replicas, in milliseconds: less than the time limit of an answer.
_REPLICATION_MS = 500
#: The key of the mark; `dropline.scaling.protocol` explains its values.
MARK_KEY = "dropline.pool"
#: Messages on any of these queues keep the worker pool from being scaled to zero.
QUEUES = (CAPTION_QUEUE,)

# An empty string stands for an absent mark.
_REPLACE = """
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
_BEGIN = """
local mark = redis.call('GET', KEYS[1]) or ''
if string.sub(mark, 1, #ARGV[3]) == ARGV[3] then return 'taken' end
for number = 2, #KEYS do
    if redis.call('LLEN', KEYS[number]) > 0 then return 'queued' end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 'granted'
"""


class PoolMark:
    """The mark of the worker pool. Threads may share it. Each method is one round trip and one atomic step."""

    def __init__(self, client: "Redis", key: str = MARK_KEY, queues: Sequence[str] = QUEUES) -> None:
        self._client = client
        self._keys = (key, *queues)
        self._replace = client.register_script(_REPLACE)
        self._begin = client.register_script(_BEGIN)

    @classmethod
    def connect(cls, url: str, timeout_s: float) -> "PoolMark":
        """Return a mark in the broker's Redis; the first command connects.

        Args:
            url: Celery's broker URL.
            timeout_s: seconds for connecting, and for each answer.
        """
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # Send each command once: a replacement repeated after a lost answer would report a failure.
        return cls(
            Redis.from_url(
                url,
                socket_connect_timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_keepalive=True,
                retry=Retry(NoBackoff(), 0),
            )
        )

    def read(self) -> str | None:
        """Return the mark, or None if the key is absent.

        Raises:
            BrokerUnavailable: Redis is unreachable.
        """
        with _named_errors("read"):
            found = self._client.get(self._keys[0])
        return None if found is None else _text(found)

    def replace(self, command: ReplaceMark) -> bool:
        """Replace the mark if its value is the expected value; return True if the mark was replaced.

        Raises:
            BrokerUnavailable: Redis is unreachable; the mark may have been replaced.
        """
        arguments: list[str | int] = [command.expected or "", command.new or "", _milliseconds(command.ttl_s)]
        with _named_errors("change"):
            return bool(self._replace(keys=self._keys[:1], args=arguments))

    def confirm(self, command: ConfirmMark) -> bool:
        """Renew the mark, and wait for each connected replica; return True if all of them have the renewed mark.

        WAIT counts the writes of its own connection, so all three commands share one.

        Raises:
            BrokerUnavailable: Redis is unreachable; the mark may have been renewed.
        """
        arguments: list[str | int] = [command.mark, command.mark, _milliseconds(command.ttl_s)]
        with (
            _named_errors("renew"),
            self._client.client() as connection,  # type: ignore[no-untyped-call]
        ):
            if not self._replace(keys=self._keys[:1], args=arguments, client=connection):
                return False
            return _have_replicas_all(connection)

    def begin(self, command: BeginScaleToZero) -> Admission:
        """Set a sleeping mark if all queues are empty and no sleeping mark exists.

        Raises:
            BrokerUnavailable: Redis is unreachable; the mark may have been set.
        """
        arguments: list[str | int] = [command.mark, _milliseconds(command.ttl_s), SLEEPING]
        keys = self._keys[:1] if command.even_if_queued else self._keys
        with _named_errors("set"):
            answer = self._begin(keys=keys, args=arguments)
        return Admission(_text(answer))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _have_replicas_all(connection: "Redis") -> bool:
    """True if each connected replica has the latest write of the connection; also where Redis does not say."""
    from redis.exceptions import ResponseError

    try:
        replicas = int(connection.info("replication").get("connected_slaves", 0))
        confirmed = int(connection.wait(replicas, _REPLICATION_MS)) if replicas else 0
    except ResponseError as error:
        log.warning("replicas_not_known", error=str(error))
        return True
    if confirmed < replicas:
        log.warning("replicas_lag", replicas=replicas, confirmed=confirmed)
    return confirmed >= replicas


def _milliseconds(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, round(seconds * 1000))


def _text(answer: bytes | str) -> str:
    return answer.decode() if isinstance(answer, bytes) else answer


@contextmanager
def _named_errors(action: str) -> Iterator[None]:
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BrokerUnavailable(
            f"cannot {action} the worker pool's mark in Redis, so its state is unknown: {reason}; try again"
        ) from error

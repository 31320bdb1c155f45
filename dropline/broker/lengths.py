"""Numbers of messages on Redis. Without Celery: the command line imports the module and has to start fast."""

from dataclasses import dataclass

from dropline.broker.errors import explained
from dropline.contract import CAPTION_QUEUE, RECOVERY_QUEUE
from dropline.errors import BrokerUnavailable
from dropline.redis_url import check_redis_url
from dropline.settings import BrokerSettings, require

_VARIABLE = "DROPLINE_BROKER__URL"

_TIMEOUT_S = 2.0
#: Kombu's hash of messages taken by workers and not yet acknowledged.
_UNACKNOWLEDGED = "unacked"


@dataclass(frozen=True, slots=True)
class QueueLengths:
    """Numbers of messages."""

    #: On the queue of captions.
    captions: int
    #: On the queue of recoveries.
    recoveries: int
    #: Taken by workers and not yet acknowledged.
    unacknowledged: int


def read_lengths(settings: BrokerSettings) -> QueueLengths:
    """Count the messages on Redis.

    Raises:
        SettingsError: no URL is set, or the URL is not one of Redis.
        BrokerUnavailable: Redis is unreachable, or its client library is not installed.
    """
    url = check_redis_url(require(settings.url, _VARIABLE), _VARIABLE)
    try:
        # Not at the top: the extra `cli` leaves out the Redis client.
        from redis import Redis, RedisError
    except ImportError as error:
        raise BrokerUnavailable("the queue on Redis is not shown: pip install redis") from error
    try:
        with Redis.from_url(url, socket_connect_timeout=_TIMEOUT_S, socket_timeout=_TIMEOUT_S) as client:
            return QueueLengths(
                captions=int(client.llen(CAPTION_QUEUE)),
                recoveries=int(client.llen(RECOVERY_QUEUE)),
                unacknowledged=int(client.hlen(_UNACKNOWLEDGED)),
            )
    except (RedisError, OSError, ValueError) as error:
        raise BrokerUnavailable(f"cannot read the queue on Redis: {explained(error)}") from error

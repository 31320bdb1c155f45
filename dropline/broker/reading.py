"""A short connection to Redis that reads. Without Celery: the command line imports the module, and starts fast."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dropline.broker.errors import explained
from dropline.errors import BrokerUnavailable
from dropline.redis_url import check_redis_url
from dropline.settings import BrokerSettings, require

if TYPE_CHECKING:
    from redis import Redis

_VARIABLE = "DROPLINE_BROKER__URL"
_TIMEOUT_S = 2.0


@contextmanager
def open_reader(settings: BrokerSettings, subject: str) -> Iterator["Redis"]:
    """Yield a client that connects at the first command; `subject` is the thing to read, for error messages.

    Raises:
        SettingsError: no URL is set, or the URL is not one of Redis.
        BrokerUnavailable: Redis is unreachable or refuses a command, or its client library is not installed.
    """
    url = check_redis_url(require(settings.url, _VARIABLE), _VARIABLE)
    try:
        # Not at the top: the extra `cli` leaves out the Redis client.
        from redis import Redis, RedisError
    except ImportError as error:
        raise BrokerUnavailable(f"{subject} on Redis is not shown: pip install redis") from error
    try:
        with Redis.from_url(url, socket_connect_timeout=_TIMEOUT_S, socket_timeout=_TIMEOUT_S) as client:
            yield client
    except (RedisError, OSError, ValueError) as error:
        raise BrokerUnavailable(f"cannot read {subject} on Redis: {explained(error)}") from error

"""The alarms of the workers on Redis: each worker publishes when its rows are due, in case the worker dies before.

A message is a JSON object with the name of the worker and `in_s`, the seconds until its alarm; null: no alarm is
set. A worker subscribes over a connection of its own. Nothing is stored, and an idle connection is silent.
"""

import json
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from dropline.broker.errors import explained
from dropline.contract import ALARM_CHANNEL
from dropline.errors import BrokerUnavailable
from dropline.log import get_logger
from dropline.redis_url import check_redis_url
from dropline.settings import BrokerSettings, require

log = get_logger(__name__)

_VARIABLE = "DROPLINE_BROKER__URL"
_CONNECT_S = 5.0
#: Longest time until an alarm; a stranger's message cannot set a later one.
_LONGEST_S = 366 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class AlarmNotice:
    """The alarm of another worker."""

    worker: str
    #: Seconds until the alarm; None: the worker has no alarm.
    in_s: float | None


class AlarmChannel:
    """Publishes and receives alarms. For one thread; connects on first use."""

    def __init__(self, settings: BrokerSettings) -> None:
        """A channel that has not connected yet.

        Raises:
            SettingsError: no URL is set, or the URL is not one of Redis.
        """
        url = check_redis_url(require(settings.url, _VARIABLE), _VARIABLE)
        self._client = Redis.from_url(
            url, socket_connect_timeout=_CONNECT_S, socket_timeout=_CONNECT_S, socket_keepalive=True
        )
        self._subscription: Any = None

    def publish(self, notice: AlarmNotice) -> None:
        """Tell the other workers.

        Raises:
            BrokerUnavailable: Redis is unreachable or refuses the command.
        """
        document = json.dumps({"worker": notice.worker, "in_s": notice.in_s})
        try:
            self._client.publish(ALARM_CHANNEL, document)
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis did not take the alarm of this worker: {explained(error)}") from error

    def subscribe(self) -> int:
        """Subscribe anew; the file descriptor of the connection, readable when a notice has arrived.

        Raises:
            BrokerUnavailable: Redis is unreachable or refuses the command.
        """
        self.close()
        try:
            self._subscription = self._client.pubsub()
            self._subscription.subscribe(ALARM_CHANNEL)
            return int(self._subscription.connection._sock.fileno())  # noqa: SLF001 - no public name, as in kombu
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"cannot subscribe to the alarms on Redis: {explained(error)}") from error

    def received(self) -> list[AlarmNotice]:
        """The notices that have arrived; without waiting. A stranger's message is left out.

        Raises:
            BrokerUnavailable: the connection is lost.
        """
        found = []
        try:
            while (message := self._subscription.get_message(timeout=0.0)) is not None:
                if message["type"] == "message":
                    found.append(_parse(message["data"]))
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"the connection with the alarms is lost: {explained(error)}") from error
        return [notice for notice in found if notice is not None]

    def close(self) -> None:
        """Close the subscription, if there is one."""
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None


def _parse(data: bytes) -> AlarmNotice | None:
    try:
        document = json.loads(data)
        worker, in_s = document["worker"], document["in_s"]
    except (ValueError, TypeError, LookupError, RecursionError):
        worker, in_s = None, None
    if not isinstance(worker, str) or not (in_s is None or _is_delay(in_s)):
        log.warning("stranger_alarm_left_out", excerpt=repr(data[:200]))
        return None
    return AlarmNotice(worker, in_s)


def _is_delay(value: Any) -> bool:
    # Also false for NaN.
    return type(value) in (int, float) and 0 <= value <= _LONGEST_S

"""Kombu's Redis transport, except that what a stranger wrote to Dropline's keys is set aside with a log line.

A message that is none of Dropline's never reaches kombu and Celery, which end with it. The first bytes of the
latest such messages are kept in the list `dropline.strangers`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis import Connection, Redis, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from dropline.broker.errors import explained
from dropline.broker.messages import problem_of
from dropline.contract import CAPTION_QUEUE
from dropline.log import get_logger

log = get_logger(__name__)

#: List of the latest strangers' messages.
STRANGERS_KEY = "dropline.strangers"
#: Never set: to delete it is a write without an effect.
_ABSENT_KEY = "dropline.absent"
_KEPT_MESSAGES = 100
_KEPT_BYTES = 4096
#: Longest excerpt in a log line, in bytes.
_EXCERPT_BYTES = 200

_QUEUES = (CAPTION_QUEUE,)
#: The type of each key of the queue: lists of messages (also with kombu's priorities), those taken and not yet
#: acknowledged, and the queue of each exchange.
_TYPES = (
    dict.fromkeys(_QUEUES, "list")
    | {f"{name}{redis.Channel.sep}{step}": "list" for name in _QUEUES for step in redis.PRIORITY_STEPS if step}
    | {redis.Channel.keyprefix_queue % name: "set" for name in _QUEUES}
    | {redis.Channel.unacked_key: "hash", redis.Channel.unacked_index_key: "zset"}
)
#: No message is sent while the queue has this many: more than the children of a large deployment.
MOST_MESSAGES = 2000
_most_messages: ContextVar[int] = ContextVar("most_messages", default=MOST_MESSAGES)
_PUSH = """
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
return redis.call('LPUSH', KEYS[1], ARGV[2])
"""


@contextmanager
def at_most(messages: int) -> Iterator[None]:
    """Within the block, this thread sends no message to a queue that has this many; one command does both."""
    token = _most_messages.set(messages)
    try:
        yield
    finally:
        _most_messages.reset(token)


def install_transport() -> None:
    """Make `Transport` kombu's transport for redis:// and rediss://; kombu chooses by the scheme of the URL."""
    name = f"{__name__}:{Transport.__qualname__}"
    TRANSPORT_ALIASES.update({"redis": name, "rediss": name})


def set_aside_wrong_keys(client: Any) -> None:
    """Rename each key of the queue whose type is not the queue's, to `….stranger`: no command works on the key.

    Raises:
        redis.exceptions.RedisError: Redis is unreachable or refuses a command.
    """
    with client.pipeline(transaction=False) as pipe:
        for key in _TYPES:
            pipe.type(key)
        found = pipe.execute()
    for (key, right), kind in zip(_TYPES.items(), found, strict=True):
        wrong = kind.decode() if isinstance(kind, bytes) else str(kind)
        if wrong not in (right, "none"):
            client.rename(key, f"{key}.stranger")
            log.error("stranger_key_set_aside", key=key, type=wrong, renamed=f"{key}.stranger")


def _set_aside(client: Any, place: str, message: bytes, problem: str) -> None:
    log.error(
        "stranger_message_set_aside",
        place=place,
        problem=problem,
        size_bytes=len(message),
        excerpt=repr(message[:_EXCERPT_BYTES])[2:-1],
    )
    # The log line is enough where Redis does not take the copy.
    with suppress(RedisError, OSError), client.pipeline() as pipe:
        pipe.lpush(STRANGERS_KEY, message[:_KEPT_BYTES])
        pipe.ltrim(STRANGERS_KEY, 0, _KEPT_MESSAGES - 1)
        pipe.execute()


class _NamedWhereAllowed:
    """Names a connection once it is ready, and goes on without a name where Redis refuses CLIENT.

    The client library gives the connection up there. One page of Memorystore's documentation has CLIENT as
    blocked, another as supported; users report refusals. A worker without a name works, and is not counted as
    alive.
    """

    client_name: str | None

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """See `redis.connection.Connection`."""
        name, self.client_name = self.client_name, None
        parent: Any = super()
        parent.on_connect_check_health(check_health)
        self.client_name = name
        if name:
            self._set_name(name, check_health)

    def _set_name(self: Any, name: str, check_health: bool) -> None:
        self.send_command("CLIENT", "SETNAME", name, check_health=check_health)
        try:
            self.read_response()
        except ResponseError as error:
            log.warning("connection_name_refused", name=name, error=explained(error))


class _PlainConnection(_NamedWhereAllowed, Connection):
    """A connection without TLS."""


class _TlsConnection(_NamedWhereAllowed, SSLConnection):
    """A connection with TLS."""


class _Client(Redis):
    """Answers a BRPOP as if its time had run out where the message is a stranger's."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        reply = super().parse_response(connection, command_name, **options)
        if command_name != "BRPOP" or not reply:
            return reply
        queue, message = reply
        problem = problem_of(message)
        if not problem:
            return reply
        _set_aside(self, queue.decode(errors="replace"), message, problem)
        return None


class _QoS(redis.QoS):
    """Restores what a worker took and did not acknowledge; a stranger's entry is set aside."""

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        try:
            super().restore_by_tag(tag, client, leftmost)
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            with self.channel.conn_or_acquire(client) as found:
                entry = found.hget(self.unacked_key, tag) or b""
                _set_aside(found, self.unacked_key, entry, f"not a message that a worker took: {error}")
                self._remove_from_indices(tag, found.pipeline()).execute()


class Channel(redis.Channel):
    """Kombu's channel with `_Client`, `_QoS` and the connections of this module."""

    QoS = _QoS
    connection_class = _PlainConnection
    connection_class_ssl = _TlsConnection

    def _get_client(self) -> Any:
        super()._get_client()  # checks the version of the Redis library
        return _Client

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        if queue != CAPTION_QUEUE:
            super()._put(queue, message, **options)
            return
        with self.conn_or_acquire() as client:
            client.eval(_PUSH, 1, queue, _most_messages.get(), json.dumps(message))

    def _do_restore_message(self, payload: Any, *args: Any, **kwargs: Any) -> None:
        if problem := problem_of(json.dumps(payload).encode()):
            raise ValueError(problem)
        super()._do_restore_message(payload, *args, **kwargs)

    def get_table(self, exchange: str) -> list[tuple[str, ...]]:
        """The queues of an exchange, without members that another program added."""
        return [each for each in super().get_table(exchange) if len(each) == 3]


class Transport(redis.Transport):
    """Kombu's transport with `Channel`; each new connection sets wrong keys aside before the first message.

    A WRONGTYPE of a later command makes a worker connect again.
    """

    Channel = Channel

    def establish_connection(self) -> Any:
        """Connect, and try a write: a worker waits with growing pauses while Redis refuses writes.

        Raises:
            redis.exceptions.ConnectionError: Redis is a replica, loads its data, cannot save, or refuses the user.
        """
        connection = super().establish_connection()
        client = self._avail_channels[-1].client
        try:
            client.delete(_ABSENT_KEY)
            set_aside_wrong_keys(client)
        except ResponseError as error:
            self._avail_channels.pop().close()
            raise RedisConnectionError(explained(error)) from error
        return connection

"""Celery's configuration, as far as producers and workers share it, and kombu's options for Redis."""

from typing import Any, TypeVar

from celery import Celery
from kombu.utils.url import parse_url as parse_celery_url
from redis.connection import parse_url as parse_client_url

from dropline.broker.transport import install_transport
from dropline.broker.workers import new_worker_name
from dropline.errors import SettingsError
from dropline.redis_url import check_redis_url
from dropline.settings import BrokerSettings, require

_VARIABLE = "DROPLINE_BROKER__URL"

#: Most connections of one producer: enqueuing takes half a millisecond, so a few connections serve many requests.
PRODUCER_CONNECTIONS = 8

#: Longest silence of Redis on a worker's connection before kombu checks the connection, in seconds.
_HEALTH_CHECK_S = 10
#: Longest wait of a worker's event loop for the answer to a command, in seconds. A BRPOP is no such wait: kombu
#: gives up its connection up to two health checks after the polling interval. A network that loses every packet
#: leaves several half-open connections, and each costs this wait too; together they take a minute by default.
_ANSWER_S = 5
#: Interval of kombu's timer for returning overdue messages to the queue: ten years, since a recovery returns the
#: messages (see "Nothing polls" in `docs/how-it-works.md`).
_NEVER_S = 10 * 365 * 24 * 3600


class WorkerCelery(Celery):
    """The Celery app of a worker: only the connection that takes messages has the worker's name.

    A connection that sends messages may belong to a child, and a child may outlive the parent for a moment.
    """

    @property
    def connection_name(self) -> str:
        """Name of the worker, and of its connection to Redis; see `dropline.broker.workers`."""
        name: str = self.conf.broker_transport_options["client_name"]
        return name

    def connection_for_write(self, url: Any = None, **options: Any) -> Any:
        """As Celery's method, without the name."""
        nameless = (options.pop("transport_options", None) or {}) | {"client_name": None}
        return super().connection_for_write(url, transport_options=nameless, **options)


def make_worker_app(settings: BrokerSettings) -> WorkerCelery:
    """The Celery app of a worker, Celery's current app of this process; without tasks, opens no connection.

    Raises:
        SettingsError: no URL is set, or the libraries do not read the URL alike.
    """
    return _make_app(WorkerCelery, settings, _worker_transport(settings), set_as_current=True)


_App = TypeVar("_App", bound=Celery)


def _make_app(
    kind: type[_App], settings: BrokerSettings, transport_options: dict[str, Any], *, set_as_current: bool
) -> _App:
    """A Celery app without tasks; opens no connection. Messages are JSON, and no result is stored."""
    install_transport()
    app = kind("dropline", broker=_broker_url(settings), set_as_current=set_as_current)
    app.conf.update(
        broker_transport_options=transport_options,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
    )
    return app


def make_producer(settings: BrokerSettings) -> Celery:
    """The Celery app of a process that only sends messages, each of them once.

    Raises:
        SettingsError: no URL is set, or the libraries do not read the URL alike.
    """
    app = _make_app(Celery, settings, _producer_transport(settings), set_as_current=False)
    app.conf.update(
        task_publish_retry=False,
        broker_pool_limit=PRODUCER_CONNECTIONS,
        broker_connection_timeout=settings.publish_timeout_s,
    )
    # Made now, without a connection. Threads that send the first messages at once would each make the pools, and
    # kombu refuses to lower its limit while another thread has a connection.
    _ = app.pool, app.producer_pool
    return app


def _broker_url(settings: BrokerSettings) -> str:
    """The URL, read by both libraries that connect."""
    url = check_redis_url(require(settings.url, _VARIABLE), _VARIABLE)
    try:
        of_celery, of_client = parse_celery_url(url), parse_client_url(url)
    except (ValueError, KeyError):
        raise SettingsError(f"{_VARIABLE} cannot be read by Celery and the Redis client") from None
    names = {"userid": "username", "password": "password", "hostname": "host", "port": "port"}
    if any(of_celery[theirs] != of_client.get(ours) for theirs, ours in names.items()):
        raise SettingsError(f"{_VARIABLE} is read differently by Celery and the Redis client")
    return url


def _producer_transport(settings: BrokerSettings) -> dict[str, Any]:
    """Options of kombu's Redis transport for a process that only sends messages: every wait is short."""
    return _common_transport(settings) | {
        "socket_connect_timeout": settings.publish_timeout_s,
        "socket_timeout": settings.publish_timeout_s,
        # By default kombu retries a connection for ever, even with `retry=False`.
        "max_retries": 0,
    }


def _worker_transport(settings: BrokerSettings) -> dict[str, Any]:
    """Options of kombu's Redis transport for a worker: a blocking BRPOP, and no sweep of overdue messages."""
    return _common_transport(settings) | {
        "polling_interval": settings.polling_interval_s,
        "unacked_restore_interval": _NEVER_S,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": _ANSWER_S,
        "socket_timeout": _ANSWER_S,
        "health_check_interval": _HEALTH_CHECK_S,
        "client_name": new_worker_name(),
    }


def _common_transport(settings: BrokerSettings) -> dict[str, Any]:
    return {"visibility_timeout": settings.visibility_timeout_s, "socket_keepalive": True}

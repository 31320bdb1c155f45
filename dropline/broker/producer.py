"""The function's side of Redis: a Celery app that only produces, and never waits long."""

from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from dropline.contract import CAPTION_QUEUE, CAPTION_TASK
from dropline.deadline import Bulkhead, Deadline
from dropline.errors import BrokerUnavailable
from dropline.settings import BrokerSettings, require

#: Producers, each with a connection of its own: an enqueue takes half a millisecond, so a few serve many requests.
PRODUCERS = 8


class Broker:
    """Puts row numbers on the captions queue."""

    def __init__(self, app: Celery, bulkhead: Bulkhead) -> None:
        self._app = app
        self._bulkhead = bulkhead

    @classmethod
    def connect(cls, settings: BrokerSettings) -> "Broker":
        """A broker with `PRODUCERS` connections at most; connects on first use.

        Raises:
            SettingsError: no URL is set.
        """
        return cls(make_producer(settings), Bulkhead("redis", PRODUCERS))

    def enqueue(self, row_id: int, deadline: Deadline) -> None:
        """Tell the workers about a row.

        Raises:
            BrokerUnavailable: Redis is away, refuses writes, or the deadline has passed; the message may be on the
                queue all the same.
        """
        late = BrokerUnavailable("Redis did not answer within the time that a request may take")
        self._bulkhead.run(lambda: self._send(row_id), deadline, late)

    def close(self) -> None:
        """Let go of all threads and connections."""
        self._bulkhead.close()
        self._app.close()

    def _send(self, row_id: int) -> None:
        try:
            self._app.send_task(
                CAPTION_TASK, args=[row_id], queue=CAPTION_QUEUE, task_id=f"caption-{row_id}", retry=False
            )
        except (KombuError, RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis did not take the message for row {row_id}: {error}") from error


def make_producer(settings: BrokerSettings) -> Celery:
    """A Celery app without tasks, results or retries.

    Raises:
        SettingsError: no URL is set.
    """
    app = Celery("dropline", broker=require(settings.url, "DROPLINE_BROKER__URL"), set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_publish_retry=False,
        broker_pool_limit=PRODUCERS,
        broker_connection_timeout=settings.publish_timeout_s,
        broker_transport_options={
            "visibility_timeout": settings.visibility_timeout_s,
            "socket_connect_timeout": settings.publish_timeout_s,
            "socket_timeout": settings.publish_timeout_s,
            "socket_keepalive": True,
            # kombu connects for ever unless it is told otherwise, `retry=False` or not.
            "max_retries": 0,
        },
    )
    return app

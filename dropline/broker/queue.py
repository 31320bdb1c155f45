"""The messages on Redis. Each wakes a worker's child; the rows in Postgres say what is to be done.

A message is Celery's, with one argument: the id of a row in `captions`, a hint. No message is needed for a row to
be captioned in the end: a worker that starts, reconnects or ends a row looks at Postgres (`docs/decisions/0017`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from celery import Celery
from kombu.exceptions import InconsistencyError, KombuError
from redis.exceptions import RedisError

from dropline.broker.configuration import PRODUCER_CONNECTIONS, make_producer
from dropline.broker.errors import explained
from dropline.broker.transport import MOST_MESSAGES, at_most, set_aside_wrong_keys
from dropline.contract import CAPTION_QUEUE, CAPTION_TASK
from dropline.deadline import Bulkhead, Deadline
from dropline.errors import BrokerUnavailable
from dropline.settings import BrokerSettings


class CaptionQueue:
    """Sends messages, and reads the queue. Safe to call from many threads; connects on first use.

    Raises (every method but `close`):
        BrokerUnavailable: Redis is unreachable or refuses the command.
    """

    def __init__(self, app: Celery) -> None:
        """A queue that uses the connections of `app`."""
        self._app = app
        self._bulkhead = Bulkhead("redis", PRODUCER_CONNECTIONS)

    @classmethod
    def connect(cls, settings: BrokerSettings) -> Self:
        """A queue with connections of its own, `PRODUCER_CONNECTIONS` at most.

        Raises:
            SettingsError: no URL is set.
        """
        return cls(make_producer(settings))

    def enqueue(self, row_id: int, deadline: Deadline) -> None:
        """Send a message with a row as the hint, unless the queue has `MOST_MESSAGES`.

        Raises:
            BrokerUnavailable: Redis is unreachable, refuses writes, or the deadline has passed; the message may be
                on the queue all the same.
        """
        late = BrokerUnavailable("Redis did not answer within the time that a request may take")
        self._bulkhead.run(lambda: self.wake(row_id), deadline, late)

    def wake(self, row_id: int, most: int = MOST_MESSAGES) -> None:
        """As `enqueue`, in this thread and within the timeouts of the connection.

        Args:
            row_id: the hint.
            most: no message is sent while the queue has this many.
        """
        try:
            with (
                _errors_named(f"Redis did not take the message for row {row_id}"),
                at_most(most),
                self._app.producer_or_acquire() as producer,
            ):
                # During a backlog the queue is full most of the time, and a message that is not sent costs less
                # than one that is built and refused. The command that sends looks once more.
                if most < MOST_MESSAGES and _waiting(producer) >= most:
                    return
                self._app.send_task(CAPTION_TASK, [row_id], queue=CAPTION_QUEUE, retry=False, producer=producer)
        except BrokerUnavailable as error:
            # The caller sends again: a delivery is repeated, and a look at the queue too.
            if "WRONGTYPE" in str(error):
                self.set_aside_wrong_keys()
            raise

    def restore_overdue(self) -> None:
        """Return messages to the queue that workers took long ago and have not acknowledged.

        A message is overdue if a worker took the message longer ago than the visibility timeout.
        """
        with self._channel("cannot return overdue messages to the queue on Redis") as channel:
            channel.qos.restore_visible(num=None, interval=1)

    def end_blocking_pop(self) -> None:
        """Make Redis answer the BRPOP of the worker now: a stopping worker waits for the answer.

        Closing the connection instead could lose a message already sent by Redis. Where Redis refuses the command
        (Memorystore does not list CLIENT UNBLOCK as supported), the BRPOP ends by its own time.
        """
        name = self._app.conf.broker_transport_options["client_name"]
        complaint = (
            "Redis does not end the BRPOP of the stopping worker, which therefore waits for up to "
            "DROPLINE_BROKER__POLLING_INTERVAL_S"
        )
        with self._channel(complaint) as channel:
            for connection in channel.client.client_list():
                if connection["name"] == name and "b" in connection["flags"]:
                    channel.client.client_unblock(int(connection["id"]))

    def set_aside_wrong_keys(self) -> None:
        """Rename the keys of the queue that hold another program's value."""
        with self._channel("cannot check the keys of the queue on Redis") as channel:
            set_aside_wrong_keys(channel.client)

    def close(self) -> None:
        """Close all connections, and end the threads."""
        self._bulkhead.close()
        self._app.close()

    @contextmanager
    def _channel(self, complaint: str) -> Iterator[Any]:
        with _errors_named(complaint), self._app.connection_for_write() as connection:
            yield connection.default_channel


def _waiting(producer: Any) -> int:
    """Messages on the queue."""
    return int(producer.channel.client.llen(CAPTION_QUEUE))


@contextmanager
def _errors_named(complaint: str) -> Iterator[None]:
    try:
        yield
    except (KombuError, InconsistencyError, RedisError, OSError, LookupError, ValueError) as error:
        # Kombu raises a LookupError or a ValueError where a key of its own has a stranger's value.
        raise BrokerUnavailable(f"{complaint}: {explained(error)}") from error

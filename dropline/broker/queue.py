"""The queue on Redis: messages for captions and recoveries are sent, and a recovery reads and repairs the queue.

A caption message has one argument, the id of its row in `captions`; a recovery message has the seconds of rest, or
no argument. Both are Celery messages.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from celery import Celery
from kombu.exceptions import InconsistencyError, KombuError
from redis.exceptions import RedisError

from dropline.broker.configuration import PRODUCER_CONNECTIONS, make_producer
from dropline.broker.errors import explained
from dropline.broker.messages import row_id_of
from dropline.broker.transport import set_aside_wrong_keys
from dropline.contract import CAPTION_QUEUE, CAPTION_TASK, RECOVER_TASK, RECOVERY_QUEUE
from dropline.deadline import Bulkhead, Deadline
from dropline.errors import BrokerUnavailable
from dropline.settings import BrokerSettings

#: How many of the oldest caption messages `CaptionQueue.begin_recovery` reads.
HEAD_LENGTH = 100
#: Key on Redis, set during a recovery. If the key is set at the start, an earlier recovery was cut short.
_RECOVERY_MARK = "dropline.recovery.unfinished"


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
        """Send the message of a row.

        Raises:
            BrokerUnavailable: Redis is unreachable, refuses writes, or the deadline has passed; the message may be
                on the queue all the same.
        """
        late = BrokerUnavailable("Redis did not answer within the time that a request may take")
        self._bulkhead.run(lambda: self._send_caption(row_id, task_id=f"caption-{row_id}"), deadline, late)

    def enqueue_again(self, row_id: int, countdown_s: float) -> None:
        """Send a message of a row that may have lost its message.

        Args:
            row_id: the row.
            countdown_s: seconds until a worker delivers the message to a child.
        """
        if not countdown_s:
            self._send_caption(row_id)
            return
        # Counted as a retry: where a worker's clock is ahead, the message arrives while the lease still runs, and
        # a first delivery would end there as a duplicate.
        self._send_caption(row_id, countdown=countdown_s, retries=1)

    def enqueue_recovery(self, resting_s: float = 0.0) -> None:
        """Send the message of a recovery; `resting_s` as in `worker.recovery.Recovery.run`."""
        with _errors_named("Redis did not take the recovery message"):
            arguments = [resting_s] if resting_s else []
            self._app.send_task(RECOVER_TASK, arguments, queue=RECOVERY_QUEUE, retry=False)

    def begin_recovery(self) -> list[int]:
        """Return overdue messages to the queue, then read the row ids of the `HEAD_LENGTH` oldest messages.

        A message is overdue if a worker took the message longer ago than the visibility timeout and has not sent
        the acknowledgement. The list is empty if an earlier recovery was cut short: the messages of that recovery
        at the head of the queue would hide other rows without a message.
        """
        with self._channel("cannot read the queue on Redis") as channel:
            channel.qos.restore_visible(num=None, interval=1)
            if not channel.client.setnx(_RECOVERY_MARK, 1):
                return []
            messages = channel.client.lrange(CAPTION_QUEUE, -HEAD_LENGTH, -1)
        return [row_id for row_id in map(row_id_of, messages) if row_id is not None]

    def end_recovery(self) -> None:
        """Mark the recovery as complete."""
        with self._channel("cannot note the end of the recovery on Redis") as channel:
            channel.client.delete(_RECOVERY_MARK)

    def end_blocking_pop(self) -> None:
        """Make Redis answer the BRPOP of the worker now: a stopping worker waits for the answer.

        Closing the connection instead could lose a message already sent by Redis.
        """
        name = self._app.conf.broker_transport_options["client_name"]
        with self._channel("cannot end the blocking pop") as channel:
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

    def _send_caption(self, row_id: int, **options: Any) -> None:
        try:
            with _errors_named(f"Redis did not take the message for row {row_id}"):
                self._app.send_task(CAPTION_TASK, [row_id], queue=CAPTION_QUEUE, retry=False, **options)
        except BrokerUnavailable as error:
            # The caller sends again: a delivery is repeated, and a recovery too.
            if "WRONGTYPE" in str(error):
                self.set_aside_wrong_keys()
            raise

    @contextmanager
    def _channel(self, complaint: str) -> Iterator[Any]:
        with _errors_named(complaint), self._app.connection_for_write() as connection:
            yield connection.default_channel


@contextmanager
def _errors_named(complaint: str) -> Iterator[None]:
    try:
        yield
    except (KombuError, InconsistencyError, RedisError, OSError, LookupError, ValueError) as error:
        # Kombu raises a LookupError or a ValueError where a key of its own has a stranger's value.
        raise BrokerUnavailable(f"{complaint}: {explained(error)}") from error

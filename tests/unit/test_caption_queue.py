"""The caption queue, over a broker in memory."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from kombu import pools
from kombu.exceptions import OperationalError
from pydantic import SecretStr
from redis.exceptions import ConnectionError as RedisConnectionError

from dropline.broker.configuration import PRODUCER_CONNECTIONS
from dropline.broker.queue import CaptionQueue
from dropline.contract import CAPTION_QUEUE, CAPTION_TASK, RECOVER_TASK, RECOVERY_QUEUE
from dropline.deadline import Deadline
from dropline.errors import BrokerUnavailable
from dropline.settings import BrokerSettings
from tests.support.memory_broker import MemoryBroker


def test_the_limit_of_connections_is_set_before_the_first_message() -> None:
    """Threads that send at once find the pools made: kombu lowers no limit of a pool in use."""
    limit = pools.get_limit()
    try:
        pools.set_limit(PRODUCER_CONNECTIONS + 2)
        with closing(CaptionQueue.connect(BrokerSettings(url=SecretStr("redis://127.0.0.1:1/0")))):
            assert pools.get_limit() == PRODUCER_CONNECTIONS
    finally:
        pools.set_limit(limit)


@dataclass
class Queue:
    """The queue under test and the broker."""

    broker: MemoryBroker
    captions: CaptionQueue

    def enqueue(self, *row_ids: int) -> None:
        """Send a message for each row."""
        for row_id in row_ids:
            self.captions.enqueue_again(row_id, 0.0)

    def recover(self) -> list[int]:
        """Run a recovery without enqueueing any row: the row ids read."""
        found = self.captions.begin_recovery()
        self.captions.end_recovery()
        return found


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    """An empty queue of a worker."""
    broker = MemoryBroker(monkeypatch)
    return Queue(broker, CaptionQueue(broker.app()))


def test_a_message_is_sent_within_a_deadline(queue: Queue) -> None:
    """The message of a new row has the row id, in the message id too."""
    queue.captions.enqueue(7, Deadline.after(60))
    (message,) = queue.broker.sent(CAPTION_QUEUE)
    assert (message["task"], message["args"], message["id"]) == (CAPTION_TASK, [7], "caption-7")
    assert (message["retries"], message["eta"]) == (0, None)


def test_a_recovered_row_is_sent_at_once(queue: Queue) -> None:
    """The message is a first delivery without a delay, like the function's message."""
    queue.captions.enqueue_again(7, 0.0)
    (message,) = queue.broker.sent(CAPTION_QUEUE)
    assert (message["task"], message["args"]) == (CAPTION_TASK, [7])
    assert (message["retries"], message["eta"]) == (0, None)


def test_a_leased_row_is_sent_with_a_delay_and_as_repeated(queue: Queue) -> None:
    """If a clock is ahead, the message arrives during the lease, and must not end as a duplicate."""
    before = datetime.now(UTC)
    queue.captions.enqueue_again(7, 31.0)
    (message,) = queue.broker.sent(CAPTION_QUEUE)
    assert message["retries"] == 1
    assert before <= datetime.fromisoformat(message["eta"]) - timedelta(seconds=31) <= datetime.now(UTC)


@pytest.mark.parametrize(("resting_s", "args"), [(0.0, []), (480.0, [480.0])])
def test_a_recovery_is_a_message_too(queue: Queue, resting_s: float, args: list[float]) -> None:
    """The message is on the recovery queue, and has the seconds of rest if the recovery gets any."""
    queue.captions.enqueue_recovery(resting_s)
    (message,) = queue.broker.sent(RECOVERY_QUEUE)
    assert (message["task"], message["args"]) == (RECOVER_TASK, args)


def test_a_recovery_sees_the_oldest_hundred_messages(queue: Queue) -> None:
    """The oldest messages are the next messages for a worker."""
    queue.enqueue(*range(1, 106))
    assert sorted(queue.recover()) == list(range(1, 101))
    assert len(queue.broker.sent(CAPTION_QUEUE)) == 105


def test_a_recovery_sees_every_message_of_a_short_queue(queue: Queue) -> None:
    """Delayed messages are read too; messages without a row are left out."""
    queue.enqueue(3)
    for stray in (17, {}, {"body": "e30="}, {"body": "W10="}, {"body": "W1tdXQ=="}, {"body": "W1siYSJdXQ=="}):
        queue.broker.put(stray)
    queue.captions.enqueue_again(4, 10.0)
    assert sorted(queue.recover()) == [3, 4]


def test_messages_of_dead_workers_return_before_the_queue_is_read(queue: Queue) -> None:
    """All messages are restored at once: only a recovery restores messages."""
    queue.enqueue(*range(1, 31))
    queue.broker.lose_to_a_dead_worker()
    assert sorted(queue.recover()) == list(range(1, 31))
    assert queue.broker.overdue == []


def test_after_a_recovery_that_was_cut_short_the_head_proves_nothing(queue: Queue) -> None:
    """The messages of the interrupted recovery hide other rows without a message, until a complete recovery."""
    queue.enqueue(7)
    assert queue.captions.begin_recovery() == [7]
    assert queue.recover() == []
    assert queue.recover() == [7]


@pytest.mark.parametrize("error", [OperationalError("refused"), RedisConnectionError("refused")], ids=repr)
@pytest.mark.parametrize(
    "call",
    [
        lambda captions: captions.begin_recovery(),
        lambda captions: captions.enqueue(7, Deadline.after(60)),
        lambda captions: captions.enqueue_again(7, 0.0),
        lambda captions: captions.enqueue_again(7, 31.0),
        lambda captions: captions.enqueue_recovery(),
        lambda captions: captions.end_recovery(),
        lambda captions: captions.end_blocking_pop(),
    ],
    ids=["begin_recovery", "enqueue", "enqueue_again", "delayed", "enqueue_recovery", "end_recovery", "end_pop"],
)
def test_without_redis_every_call_raises_an_error_of_ours(
    queue: Queue, error: Exception, call: Callable[[CaptionQueue], object]
) -> None:
    """The error is BrokerUnavailable, with the words of the client library."""
    queue.broker.fail(error)
    with pytest.raises(BrokerUnavailable, match="refused"):
        call(queue.captions)

"""The caption queue, over a broker in memory."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import pytest
from kombu import pools
from kombu.exceptions import OperationalError
from pydantic import SecretStr
from redis.exceptions import ConnectionError as RedisConnectionError

from dropline.broker.configuration import PRODUCER_CONNECTIONS, make_worker_app
from dropline.broker.queue import CaptionQueue
from dropline.broker.transport import MOST_MESSAGES
from dropline.contract import CAPTION_QUEUE, CAPTION_TASK
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


def test_fault_20_half_open_connections_are_given_up_within_a_minute() -> None:
    """The BRPOP's connection by kombu's check, then two that wait for an answer: an idle one, and a new one."""
    options = make_worker_app(BrokerSettings(url=SecretStr("redis://127.0.0.1:1/0"))).conf.broker_transport_options
    given_up_s = options["polling_interval"] + 2 * options["health_check_interval"]
    assert given_up_s + options["socket_timeout"] + options["socket_connect_timeout"] <= 60


@dataclass
class Queue:
    """The queue under test and the broker."""

    broker: MemoryBroker
    captions: CaptionQueue


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    """An empty queue of a worker."""
    broker = MemoryBroker(monkeypatch)
    return Queue(broker, CaptionQueue(broker.app()))


@pytest.mark.parametrize(
    "send",
    [lambda captions: captions.enqueue(7, Deadline.after(60)), lambda captions: captions.wake(7)],
    ids=["enqueue", "wake"],
)
def test_a_message_has_a_row_as_its_hint(queue: Queue, send: Callable[[CaptionQueue], object]) -> None:
    """The message is sent at once, and Celery has no part in retries."""
    send(queue.captions)
    (message,) = queue.broker.sent(CAPTION_QUEUE)
    assert (message["task"], message["args"]) == (CAPTION_TASK, [7])
    assert (message["retries"], message["eta"]) == (0, None)
    assert queue.broker.limits == [MOST_MESSAGES]


def test_two_messages_of_a_row_are_two_messages(queue: Queue) -> None:
    """Workers distinguish messages by their ids: a child may hold the first while the second arrives."""
    queue.captions.wake(7)
    queue.captions.wake(7)
    first, second = queue.broker.sent(CAPTION_QUEUE)
    assert first["id"] != second["id"]


def test_the_sender_limits_the_length_of_the_queue(queue: Queue) -> None:
    """The limit is that of one message, also where the message is refused."""
    queue.captions.wake(7, 3)
    queue.broker.fail(RedisConnectionError("refused"))
    with pytest.raises(BrokerUnavailable):
        queue.captions.wake(8, 4)
    queue.broker.fail(None)
    queue.captions.wake(9)
    assert queue.broker.limits == [3, MOST_MESSAGES]


def test_a_full_queue_is_asked_before_a_message_is_built(queue: Queue) -> None:
    """The command that sends asks again, so two senders at once exceed no limit."""
    queue.captions.wake(7, 1)
    queue.captions.wake(8, 1)
    queue.captions.wake(9, 2)
    assert [message["args"] for message in queue.broker.sent(CAPTION_QUEUE)] == [[7], [9]]
    assert queue.broker.limits == [1, 2]


def test_messages_of_dead_workers_return(queue: Queue) -> None:
    """All overdue messages are restored at once."""
    for row_id in range(1, 31):
        queue.captions.wake(row_id)
    queue.broker.lose_to_a_dead_worker()
    queue.captions.restore_overdue()
    assert [message["args"] for message in queue.broker.sent(CAPTION_QUEUE)] == [
        [row_id] for row_id in range(1, 31)
    ]
    assert queue.broker.overdue == []


@pytest.mark.parametrize("error", [OperationalError("refused"), RedisConnectionError("refused")], ids=repr)
@pytest.mark.parametrize(
    "call",
    [
        lambda captions: captions.enqueue(7, Deadline.after(60)),
        lambda captions: captions.wake(7),
        lambda captions: captions.restore_overdue(),
        lambda captions: captions.end_blocking_pop(),
    ],
    ids=["enqueue", "wake", "restore_overdue", "end_pop"],
)
def test_without_redis_every_call_raises_an_error_of_ours(
    queue: Queue, error: Exception, call: Callable[[CaptionQueue], object]
) -> None:
    """The error is BrokerUnavailable, with the words of the client library."""
    queue.broker.fail(error)
    with pytest.raises(BrokerUnavailable, match="refused"):
        call(queue.captions)

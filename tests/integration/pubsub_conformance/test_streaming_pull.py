"""StreamingPull, with the client library and with plain requests."""

import threading

import pytest
from google.api_core.exceptions import (
    InvalidArgument,
    NotFound,
)
from google.cloud.pubsub_v1.subscriber.message import Message

from tests.support.pubsub import PATIENCE, Differs, Pubsub


def test_streaming_pull_delivers_everything(pubsub: Pubsub) -> None:
    """The subscriber of the client library gets each of 500 messages."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    received: set[bytes] = set()
    complete = threading.Event()

    def callback(message: Message) -> None:
        received.add(message.data)
        message.ack()
        if len(received) == 500:
            complete.set()

    with pubsub.streaming(subscription, callback):
        futures = [pubsub.publisher.publish(topic, str(number).encode()) for number in range(500)]
        for future in futures:
            future.result(timeout=PATIENCE)
        assert complete.wait(PATIENCE)


def test_streaming_pull_redelivers_refused_messages(pubsub: Pubsub) -> None:
    """A message refused by the callback is delivered again on the same stream."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    deliveries: list[str] = []
    done = threading.Event()

    def callback(message: Message) -> None:
        deliveries.append(message.message_id)
        if len(deliveries) < 3:
            message.nack()
        else:
            message.ack()
            done.set()

    with pubsub.streaming(subscription, callback):
        message_id = pubsub.publish(topic, b"x")
        assert done.wait(PATIENCE)
    assert deliveries == [message_id] * 3


def test_streaming_pull_acknowledges_on_the_stream(pubsub: Pubsub) -> None:
    """Acknowledgements and deadlines can also be sent on the stream."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    for payload in (b"acknowledged", b"returned"):
        pubsub.publish(topic, payload)
    with pubsub.open_stream(subscription) as (send, responses):
        ack_ids: dict[bytes, str] = {}
        while len(ack_ids) < 2:
            ack_ids |= {each.message.data: each.ack_id for each in next(responses).received_messages}
        send(
            ack_ids=[ack_ids[b"acknowledged"]],
            modify_deadline_ack_ids=[ack_ids[b"returned"]],
            modify_deadline_seconds=[0],
        )
        assert [each.message.data for each in next(responses).received_messages] == [b"returned"]


def test_streaming_pull_honours_its_limit(pubsub: Pubsub, google_differs: Differs) -> None:
    """A stream with a limit of one message gets the next message after acknowledging the first."""
    google_differs("sends more than max_outstanding_messages")
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    for payload in (b"1", b"2", b"3"):
        pubsub.publish(topic, payload)
    received: list[bytes] = []
    with pubsub.open_stream(subscription, max_outstanding_messages=1) as (_, responses):
        for _ in range(3):
            (message,) = next(responses).received_messages
            received.append(message.message.data)
            pubsub.acknowledge(subscription, message)
    assert sorted(received) == [b"1", b"2", b"3"]


def test_streaming_pull_ends_with_its_subscription(pubsub: Pubsub) -> None:
    """Deleting the subscription ends an open stream with NotFound."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    arrived = threading.Event()

    def callback(message: Message) -> None:
        message.ack()
        arrived.set()

    with pubsub.streaming(subscription, callback) as stream:
        pubsub.publish(topic, b"x")
        assert arrived.wait(PATIENCE)
        pubsub.subscriber.delete_subscription(subscription=subscription)
        assert isinstance(stream.exception(timeout=PATIENCE), NotFound)


@pytest.mark.parametrize("seconds", [0, 9, 601])
def test_streaming_pull_needs_a_deadline(pubsub: Pubsub, seconds: int) -> None:
    """The first request of a stream sets a deadline of 10 to 600 seconds."""
    subscription = pubsub.subscription(pubsub.topic())
    with (
        pytest.raises(InvalidArgument),
        pubsub.open_stream(subscription, stream_ack_deadline_seconds=seconds) as (_, responses),
    ):
        next(responses)

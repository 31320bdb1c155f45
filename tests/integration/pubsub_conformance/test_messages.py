"""Publishing, pulling, acknowledging, filters."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from google.api_core.exceptions import (
    InvalidArgument,
)
from google.pubsub_v1.services.publisher import PublisherClient as PlainPublisherClient
from google.pubsub_v1.types import PubsubMessage

from tests.support.pubsub import PATIENCE, Differs, Pubsub


def test_message_arrives_whole(pubsub: Pubsub) -> None:
    """Bytes, attributes and id of a received message are those of the published message."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    message_id = pubsub.publish(topic, bytes(range(256)), eventType="OBJECT_FINALIZE", objectId="ü/😀?#.png")
    (received,) = pubsub.pull(subscription)
    assert received.message.data == bytes(range(256))
    assert received.message.attributes == {"eventType": "OBJECT_FINALIZE", "objectId": "ü/😀?#.png"}
    assert received.message.message_id == message_id
    assert received.message.publish_time.timestamp() > 0
    assert received.delivery_attempt == 0


def test_message_of_attributes_alone(pubsub: Pubsub) -> None:
    """A message with attributes needs no data."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, k="v")
    (received,) = pubsub.pull(subscription)
    assert (received.message.data, received.message.attributes) == (b"", {"k": "v"})


def test_empty_message_is_refused(pubsub: Pubsub) -> None:
    """A message without data and attributes is InvalidArgument."""
    topic = pubsub.topic()
    with pytest.raises(InvalidArgument):
        pubsub.publish(topic)


def test_large_message_passes(pubsub: Pubsub) -> None:
    """A payload above gRPC's default limit of 4 MiB arrives."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"x" * 9_000_000)
    (received,) = pubsub.pull(subscription)
    assert len(received.message.data) == 9_000_000


def test_long_attribute_value_is_refused(pubsub: Pubsub, google_differs: Differs) -> None:
    """An attribute's value has at most 1024 bytes."""
    google_differs("does not check attributes")
    topic = pubsub.topic()
    with pytest.raises(InvalidArgument):
        pubsub.publish(topic, b"x", k="v" * 1025)


def test_every_subscription_gets_a_copy(pubsub: Pubsub) -> None:
    """An acknowledgement on one subscription has no effect on another."""
    topic = pubsub.topic()
    subscriptions = [pubsub.subscription(topic) for _ in range(3)]
    pubsub.publish(topic, b"x")
    assert [pubsub.pull_payloads(subscription) for subscription in subscriptions] == [[b"x"]] * 3


def test_messages_of_a_batch_are_separate(pubsub: Pubsub) -> None:
    """A request of many messages gives as many ids, and every message arrives."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    messages = [PubsubMessage(data=str(number).encode()) for number in range(100)]
    response = PlainPublisherClient.publish(pubsub.publisher, topic=topic, messages=messages)
    assert len(set(response.message_ids)) == 100
    assert pubsub.pull_payloads(subscription, 100) == sorted(message.data for message in messages)


def test_pull_waits_for_a_message(pubsub: Pubsub) -> None:
    """A waiting pull gets a message published during the wait."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(pubsub.pull, subscription)
        pubsub.publish(topic, b"x")
        assert [received.message.data for received in waiting.result(timeout=PATIENCE)] == [b"x"]


def test_a_pull_of_zero_messages_is_refused(pubsub: Pubsub) -> None:
    """max_messages is positive."""
    subscription = pubsub.subscription(pubsub.topic())
    with pytest.raises(InvalidArgument):
        pubsub.subscriber.pull(subscription=subscription, max_messages=0)


def test_acknowledged_message_never_returns(pubsub: Pubsub) -> None:
    """Of two messages with the same deadline, only the unacknowledged message is delivered again."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    for payload in (b"acknowledged", b"unacknowledged"):
        pubsub.publish(topic, payload)
    received = pubsub.pull(subscription, 2)
    pubsub.set_deadline(subscription, 1, *received)
    pubsub.acknowledge(subscription, *(each for each in received if each.message.data == b"acknowledged"))
    assert pubsub.pull_payloads(subscription) == [b"unacknowledged"]


def test_a_refused_message_returns(pubsub: Pubsub) -> None:
    """A deadline of 0 makes the message ready again, under another acknowledgement id."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"x")
    (first,) = pubsub.pull(subscription)
    pubsub.set_deadline(subscription, 0, first)
    (second,) = pubsub.pull(subscription)
    assert second.message == first.message
    assert second.ack_id != first.ack_id


def test_own_deadline_redelivers(pubsub: Pubsub) -> None:
    """A message without acknowledgement is delivered again after the subscription's deadline."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic, ack_deadline_seconds=10)
    pubsub.publish(topic, b"x")
    (first,) = pubsub.pull(subscription)
    (second,) = pubsub.pull(subscription)
    assert first.message.message_id == second.message.message_id


def test_extended_deadline_holds(pubsub: Pubsub) -> None:
    """A message with a long new deadline is not delivered again, while a message with a short deadline is."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    for payload in (b"kept", b"returned"):
        pubsub.publish(topic, payload)
    by_payload = {received.message.data: received for received in pubsub.pull(subscription, 2)}
    pubsub.set_deadline(subscription, 600, by_payload[b"kept"])
    pubsub.set_deadline(subscription, 1, by_payload[b"returned"])
    assert pubsub.pull_payloads(subscription) == [b"returned"]


def test_a_late_acknowledgement_has_no_effect(pubsub: Pubsub) -> None:
    """An id from before a redelivery is accepted without effect."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"x")
    (first,) = pubsub.pull(subscription)
    pubsub.set_deadline(subscription, 0, first)
    (second,) = pubsub.pull(subscription)
    pubsub.acknowledge(subscription, first)
    pubsub.set_deadline(subscription, 0, second)
    assert pubsub.pull_payloads(subscription) == [b"x"]


def test_foreign_ack_ids_are_refused(pubsub: Pubsub) -> None:
    """A malformed id is InvalidArgument, for an acknowledgement and for a new deadline."""
    subscription = pubsub.subscription(pubsub.topic())
    with pytest.raises(InvalidArgument):
        pubsub.subscriber.acknowledge(subscription=subscription, ack_ids=["nonsense"])
    with pytest.raises(InvalidArgument):
        pubsub.subscriber.modify_ack_deadline(
            subscription=subscription, ack_ids=["nonsense"], ack_deadline_seconds=10
        )


def test_many_publishers_and_pullers(pubsub: Pubsub) -> None:
    """With concurrent publishers and pullers every message arrives, and once if acknowledged in time."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic, ack_deadline_seconds=600)
    payloads = [str(number).encode() for number in range(400)]
    with ThreadPoolExecutor(12) as threads:
        pulls = [threads.submit(pubsub.pull_payloads, subscription, 100) for _ in range(4)]
        list(threads.map(lambda payload: pubsub.publish(topic, payload), payloads))
        received = [payload for pull in pulls for payload in pull.result(timeout=PATIENCE)]
    assert sorted(received) == sorted(payloads)


def test_filter_selects_by_attributes(pubsub: Pubsub, google_differs: Differs) -> None:
    """Only messages with matching attributes are delivered."""
    google_differs("stores a filter and delivers every message regardless")
    topic = pubsub.topic()
    subscription = pubsub.subscription(
        topic, filter='hasPrefix(attributes.objectId, "in/") AND NOT attributes.eventType = "OBJECT_DELETE"'
    )
    for event_type, object_id in [
        ("OBJECT_DELETE", "in/a"),
        ("OBJECT_FINALIZE", "out/a"),
        ("OBJECT_FINALIZE", "in/b"),
    ]:
        pubsub.publish(topic, f"{event_type} {object_id}".encode(), eventType=event_type, objectId=object_id)
    assert pubsub.pull_payloads(subscription) == [b"OBJECT_FINALIZE in/b"]


def test_invalid_filter_is_refused(pubsub: Pubsub, google_differs: Differs) -> None:
    """An unparsable filter is InvalidArgument."""
    google_differs("takes any text for a filter")
    with pytest.raises(InvalidArgument):
        pubsub.subscription(pubsub.topic(), filter='attributes.a = "x" AND')


def test_filter_cannot_change(pubsub: Pubsub) -> None:
    """A subscription's filter is immutable."""
    subscription = pubsub.subscription(pubsub.topic(), filter="attributes:a")
    with pytest.raises(InvalidArgument):
        pubsub.subscriber.update_subscription(
            subscription={"name": subscription, "filter": "attributes:b"}, update_mask={"paths": ["filter"]}
        )

"""Dead-letter policies with pull and push."""

from typing import Any

from tests.support.pubsub import Differs, Pubsub, PushEndpoint


def dead_letter_subscription(pubsub: Pubsub, topic: str, **settings: Any) -> tuple[str, str]:
    """A subscription with a dead-letter policy of 5 attempts, and a subscription to the dead-letter topic."""
    dead = pubsub.topic()
    policy = {"dead_letter_topic": dead, "max_delivery_attempts": 5}
    return pubsub.subscription(topic, dead_letter_policy=policy, **settings), pubsub.subscription(dead)


def test_dead_letter_after_five_refusals(pubsub: Pubsub) -> None:
    """Deliveries are numbered; after the fifth refusal the dead-letter topic has the message and the origin."""
    topic = pubsub.topic()
    subscription, dead = dead_letter_subscription(pubsub, topic)
    pubsub.publish(topic, b"x", k="v")
    for attempt in range(1, 6):
        (received,) = pubsub.pull(subscription)
        assert received.delivery_attempt == attempt
        pubsub.set_deadline(subscription, 0, received)
    assert pubsub.pull_once(subscription, timeout=1) == []
    (letter,) = pubsub.pull(dead)
    attributes = dict(letter.message.attributes)
    assert letter.message.data == b"x"
    assert letter.message.message_id != received.message.message_id
    assert attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime").endswith("Z")
    assert attributes == {
        "k": "v",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": subscription.rpartition("/")[2],
        "CloudPubSubDeadLetterSourceSubscriptionProject": pubsub.project.rpartition("/")[2],
    }


def test_pushed_dead_letter(pubsub: Pubsub) -> None:
    """A message refused five times by the endpoint becomes a dead letter, without further pushes."""
    topic = pubsub.topic()
    with PushEndpoint(
        lambda request: 204 if "healthy" in request.body["message"]["attributes"] else 500
    ) as endpoint:
        _, dead = dead_letter_subscription(pubsub, topic, push_config={"push_endpoint": endpoint.url})
        message_id = pubsub.publish(topic, b"x", kind="poison")
        assert [request.body["message"]["messageId"] for request in endpoint.take(5)] == [message_id] * 5
        assert pubsub.pull_payloads(dead) == [b"x"]
        healthy = pubsub.publish(topic, b"y", healthy="yes")
        assert [request.body["message"]["messageId"] for request in endpoint.take()] == [healthy]


def test_a_push_body_has_the_attempt(pubsub: Pubsub, google_differs: Differs) -> None:
    """With a dead-letter policy the push body has the number of the attempt."""
    google_differs("has no deliveryAttempt in the body")
    topic = pubsub.topic()
    with PushEndpoint(lambda request: 500 if request.number < 3 else 204) as endpoint:
        dead_letter_subscription(pubsub, topic, push_config={"push_endpoint": endpoint.url})
        pubsub.publish(topic, b"x")
        assert [request.body["deliveryAttempt"] for request in endpoint.take(3)] == [1, 2, 3]

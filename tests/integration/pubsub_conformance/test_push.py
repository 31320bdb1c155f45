"""Push delivery."""

import pytest
from google.api_core.exceptions import (
    FailedPrecondition,
)

from tests.support.pubsub import PATIENCE, Differs, Pubsub, PushEndpoint, PushRequest


def test_push_posts_the_envelope(pubsub: Pubsub, endpoint: PushEndpoint) -> None:
    """The endpoint gets the documented JSON body, with the URL's path and query."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url})
    message_id = pubsub.publish(topic, b"\x00\xff", eventType="OBJECT_FINALIZE")
    (request,) = endpoint.take()
    message = request.body["message"]
    assert request.path == "/push?token=t"
    assert request.headers["content-type"] == "application/json"
    assert request.body["subscription"] == subscription
    assert (message["data"], message["attributes"]) == ("AP8=", {"eventType": "OBJECT_FINALIZE"})
    assert message["messageId"] == message["message_id"] == message_id
    assert message["publishTime"] == message["publish_time"]
    assert "deliveryAttempt" not in request.body


def test_push_of_attributes_alone_has_no_data(pubsub: Pubsub, endpoint: PushEndpoint) -> None:
    """A message without a payload is pushed with the attributes and without data."""
    topic = pubsub.topic()
    pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url})
    pubsub.publish(topic, k="v")
    (request,) = endpoint.take()
    assert request.body["message"]["attributes"] == {"k": "v"}
    assert not request.body["message"].get("data")


@pytest.mark.parametrize("status", [102, 200, 201, 202, 204])
def test_push_is_acknowledged(pubsub: Pubsub, status: int, google_differs: Differs) -> None:
    """A status of 102, 200, 201, 202 or 204 acknowledges; a later message with one refusal is pushed twice."""
    if status == 202:
        google_differs("takes 202 for a refusal")
    topic = pubsub.topic()

    def answer(request: PushRequest) -> int:
        return 503 if request.number == 2 else status

    with PushEndpoint(answer) as endpoint:
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url}, ack_deadline_seconds=10)
        pubsub.publish(topic, k="first")
        (first,) = endpoint.take()
        pubsub.publish(topic, k="second")
        again = endpoint.take(2)
    assert first.body["message"]["attributes"] == {"k": "first"}
    assert [request.body["message"]["attributes"] for request in again] == [{"k": "second"}] * 2


@pytest.mark.parametrize("status", [205, 206, 301, 400, 401, 404, 429, 500, 503])
def test_push_is_refused(pubsub: Pubsub, status: int) -> None:
    """After a status that refuses, the message is pushed again until acknowledged."""
    topic = pubsub.topic()
    with PushEndpoint(lambda request: status if request.number < 3 else 204) as endpoint:
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url})
        message_id = pubsub.publish(topic, b"x")
        assert [request.body["message"]["messageId"] for request in endpoint.take(3)] == [message_id] * 3


def test_push_is_not_acknowledged_by_203(pubsub: Pubsub, google_differs: Differs) -> None:
    """203 is a refusal like 500: after both the message is pushed again."""
    google_differs("takes 203 for an acknowledgement")
    topic = pubsub.topic()

    def answer(request: PushRequest) -> int:
        return int(request.body["message"]["attributes"]["status"])

    with PushEndpoint(answer) as endpoint:
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url})
        for status in ("203", "500"):
            pubsub.publish(topic, status=status)
        statuses = [request.body["message"]["attributes"]["status"] for request in endpoint.take(6)]
    assert statuses.count("203") >= 2


def test_push_by_retry_policy(pubsub: Pubsub) -> None:
    """A push subscription with a retry policy redelivers."""
    topic = pubsub.topic()
    policy = {"minimum_backoff": {"seconds": 1}, "maximum_backoff": {"seconds": 2}}
    with PushEndpoint(lambda request: 500 if request.number < 3 else 204) as endpoint:
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url}, retry_policy=policy)
        message_id = pubsub.publish(topic, b"x")
        assert [request.body["message"]["messageId"] for request in endpoint.take(3)] == [message_id] * 3


def test_a_push_without_a_listener_is_repeated(pubsub: Pubsub, endpoint: PushEndpoint) -> None:
    """Without a listener the message stays; after a change to a working endpoint the message arrives."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic, push_config={"push_endpoint": "http://127.0.0.1:9/nobody"})
    message_id = pubsub.publish(topic, b"x")
    pubsub.subscriber.modify_push_config(subscription=subscription, push_config={"push_endpoint": endpoint.url})
    (request,) = endpoint.take()
    assert request.body["message"]["messageId"] == message_id


def test_push_of_many_at_once(pubsub: Pubsub, endpoint: PushEndpoint) -> None:
    """Each of 300 messages is pushed, and no acknowledged message is pushed again."""
    topic = pubsub.topic()
    pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url}, ack_deadline_seconds=600)
    futures = [pubsub.publisher.publish(topic, str(number).encode()) for number in range(300)]
    message_ids = [future.result(timeout=PATIENCE) for future in futures]
    pushed = [request.body["message"]["messageId"] for request in endpoint.take(300)]
    assert sorted(pushed) == sorted(message_ids)


def test_push_subscription_becomes_a_pull_subscription(pubsub: Pubsub) -> None:
    """An empty push configuration stops the pushing, and a refused message can be pulled."""
    topic = pubsub.topic()
    with PushEndpoint(lambda _request: 500) as endpoint:
        subscription = pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url})
        pubsub.publish(topic, b"x")
        endpoint.take()
        pubsub.subscriber.modify_push_config(subscription=subscription, push_config={})
        assert pubsub.pull_payloads(subscription) == [b"x"]


def test_pull_subscription_becomes_a_push_subscription(pubsub: Pubsub, endpoint: PushEndpoint) -> None:
    """A new endpoint gets the messages of the backlog; without the endpoint later messages stay in the backlog."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"x")
    (refused,) = pubsub.pull(subscription)
    pubsub.set_deadline(subscription, 0, refused)
    message_ids = {refused.message.message_id, pubsub.publish(topic, b"y")}
    pubsub.subscriber.modify_push_config(subscription=subscription, push_config={"push_endpoint": endpoint.url})
    assert {request.body["message"]["messageId"] for request in endpoint.take(2)} == message_ids
    pubsub.subscriber.modify_push_config(subscription=subscription, push_config={})
    pubsub.publish(topic, b"z")
    assert pubsub.pull_payloads(subscription) == [b"z"]


def test_push_subscription_cannot_be_pulled(
    pubsub: Pubsub, endpoint: PushEndpoint, google_differs: Differs
) -> None:
    """A pull from a push subscription is FailedPrecondition."""
    google_differs("waits, and answers with no messages")
    subscription = pubsub.subscription(pubsub.topic(), push_config={"push_endpoint": endpoint.url})
    with pytest.raises(FailedPrecondition):
        pubsub.pull_once(subscription)

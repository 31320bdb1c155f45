"""Topics and subscriptions as resources."""

from collections.abc import Callable
from typing import Any

import pytest
from google.api_core.exceptions import (
    AlreadyExists,
    FailedPrecondition,
    GoogleAPICallError,
    InvalidArgument,
    NotFound,
    OutOfRange,
)

from tests.support.pubsub import PATIENCE, Differs, Pubsub


def test_a_topic_is_created_and_deleted(pubsub: Pubsub) -> None:
    """A topic can be created, read and deleted; a deleted topic is NotFound."""
    topic = pubsub.topic()
    assert pubsub.publisher.get_topic(topic=topic).name == topic
    pubsub.publisher.delete_topic(topic=topic)
    with pytest.raises(NotFound):
        pubsub.publisher.get_topic(topic=topic)


def test_lists_are_paged_and_by_project(pubsub: Pubsub) -> None:
    """Every topic and subscription of a project is listed once over several pages, and none of another project."""
    topics = [pubsub.topic() for _ in range(5)]
    subscriptions = [pubsub.subscription(topics[0]) for _ in range(5)]
    pubsub.publisher.create_topic(name=f"{pubsub.project}-other/topics/elsewhere")
    listed = pubsub.publisher.list_topics(request={"project": pubsub.project, "page_size": 2})
    assert sorted(topic.name for topic in listed) == sorted(topics)
    found = pubsub.subscriber.list_subscriptions(request={"project": pubsub.project, "page_size": 2})
    assert sorted(subscription.name for subscription in found) == sorted(subscriptions)
    attached = pubsub.publisher.list_topic_subscriptions(request={"topic": topics[0], "page_size": 2})
    assert sorted(attached) == sorted(subscriptions)
    assert list(pubsub.publisher.list_topic_subscriptions(topic=topics[1])) == []


def test_a_subscription_is_created_and_deleted(pubsub: Pubsub) -> None:
    """A subscription has the given settings and the defaults; a deleted subscription is NotFound."""
    topic, dead = pubsub.topic(), pubsub.topic()
    name = pubsub.subscription(
        topic,
        ack_deadline_seconds=30,
        dead_letter_policy={"dead_letter_topic": dead},
        retry_policy={"minimum_backoff": {"seconds": 1}},
        push_config={"push_endpoint": "http://127.0.0.1:9/push"},
    )
    found = pubsub.subscriber.get_subscription(subscription=name)
    assert (found.topic, found.ack_deadline_seconds) == (topic, 30)
    assert found.dead_letter_policy.max_delivery_attempts == 5
    assert (found.retry_policy.minimum_backoff.seconds, found.retry_policy.maximum_backoff.seconds) == (1, 600)
    assert found.push_config.push_endpoint == "http://127.0.0.1:9/push"
    pubsub.subscriber.delete_subscription(subscription=name)
    with pytest.raises(NotFound):
        pubsub.subscriber.get_subscription(subscription=name)


def test_names_are_unique(pubsub: Pubsub) -> None:
    """Creating an existing topic or subscription is AlreadyExists."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    with pytest.raises(AlreadyExists):
        pubsub.publisher.create_topic(name=topic)
    with pytest.raises(AlreadyExists):
        pubsub.subscriber.create_subscription(name=subscription, topic=topic)


def test_missing_resources_are_not_found(pubsub: Pubsub) -> None:
    """Every operation on a missing topic or subscription is NotFound."""
    topic, subscription = pubsub.new_name("topics"), pubsub.new_name("subscriptions")
    operations: list[Callable[[], Any]] = [
        lambda: pubsub.publisher.delete_topic(topic=topic),
        lambda: pubsub.publisher.publish(topic, b"x").result(timeout=PATIENCE),
        lambda: pubsub.subscriber.create_subscription(name=subscription, topic=topic),
        lambda: pubsub.subscriber.delete_subscription(subscription=subscription),
        lambda: pubsub.subscriber.pull(subscription=subscription, max_messages=1),
        lambda: pubsub.subscriber.modify_push_config(subscription=subscription, push_config={}),
        lambda: pubsub.subscription(pubsub.topic(), dead_letter_policy={"dead_letter_topic": topic}),
    ]
    for operation in operations:
        with pytest.raises(NotFound):
            operation()


@pytest.mark.parametrize("name", ["topic", "projects/p/topics/ab", "projects/p/topics/goog-topic"])
def test_invalid_names_are_refused(pubsub: Pubsub, name: str) -> None:
    """A name of the wrong shape is InvalidArgument."""
    with pytest.raises(InvalidArgument):
        pubsub.publisher.create_topic(name=name)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"ack_deadline_seconds": 601}, InvalidArgument),
        ({"push_config": {"push_endpoint": "nonsense"}}, InvalidArgument),
        ({"retry_policy": {"minimum_backoff": {"seconds": 601}}}, InvalidArgument),
    ],
)
def test_invalid_settings_are_refused(
    pubsub: Pubsub, settings: dict[str, Any], error: type[GoogleAPICallError]
) -> None:
    """A setting out of bounds is refused, and no subscription is created."""
    with pytest.raises(error):
        pubsub.subscription(pubsub.topic(), **settings)
    assert list(pubsub.subscriber.list_subscriptions(project=pubsub.project)) == []


@pytest.mark.parametrize("attempts", [4, 101])
def test_attempts_out_of_bounds_are_refused(pubsub: Pubsub, attempts: int) -> None:
    """A dead-letter policy allows 5 to 100 attempts."""
    topic = pubsub.topic()
    with pytest.raises(OutOfRange):
        pubsub.subscription(
            topic, dead_letter_policy={"dead_letter_topic": topic, "max_delivery_attempts": attempts}
        )


def test_short_deadline_is_refused(pubsub: Pubsub, google_differs: Differs) -> None:
    """A subscription's acknowledgement deadline is at least 10 seconds."""
    google_differs("takes any deadline from 0 s on")
    with pytest.raises(InvalidArgument):
        pubsub.subscription(pubsub.topic(), ack_deadline_seconds=5)


def test_update_changes_the_masked_fields(pubsub: Pubsub) -> None:
    """Only masked fields change; an empty mask, an unknown field and the topic are InvalidArgument."""
    name = pubsub.subscription(pubsub.topic(), retry_policy={"minimum_backoff": {"seconds": 1}})
    changes = {"name": name, "ack_deadline_seconds": 33}
    updated = pubsub.subscriber.update_subscription(
        subscription=changes, update_mask={"paths": ["ack_deadline_seconds"]}
    )
    assert (updated.ack_deadline_seconds, updated.retry_policy.minimum_backoff.seconds) == (33, 1)
    for paths in ([], ["bogus"], ["topic"]):
        with pytest.raises(InvalidArgument):
            pubsub.subscriber.update_subscription(subscription=changes, update_mask={"paths": paths})


def test_labels_can_be_updated(pubsub: Pubsub, google_differs: Differs) -> None:
    """Labels of topics and subscriptions are mutable."""
    google_differs("labels are no known field of an update")
    topic = pubsub.topic()
    updated = pubsub.publisher.update_topic(
        topic={"name": topic, "labels": {"a": "b"}}, update_mask={"paths": ["labels"]}
    )
    assert updated.labels == {"a": "b"}


def test_a_subscription_outlives_the_topic(pubsub: Pubsub) -> None:
    """The subscription has the topic `_deleted-topic_` and still delivers the messages of the backlog."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"left")
    pubsub.publisher.delete_topic(topic=topic)
    assert pubsub.subscriber.get_subscription(subscription=subscription).topic == "_deleted-topic_"
    assert pubsub.pull_payloads(subscription) == [b"left"]


def test_detached_subscription_refuses_to_deliver(pubsub: Pubsub, google_differs: Differs) -> None:
    """A detached subscription is not in the topic's list, and a pull fails."""
    google_differs("DetachSubscription is unimplemented")
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publisher.detach_subscription(request={"subscription": subscription})
    assert list(pubsub.publisher.list_topic_subscriptions(topic=topic)) == []
    with pytest.raises(FailedPrecondition):
        pubsub.subscriber.pull(subscription=subscription, max_messages=1)

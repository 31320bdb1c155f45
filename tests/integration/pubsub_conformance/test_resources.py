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


def test_topic_lives_and_dies(pubsub: Pubsub) -> None:
    """A topic can be made, read and deleted, and is gone then."""
    topic = pubsub.topic()
    assert pubsub.publisher.get_topic(topic=topic).name == topic
    pubsub.publisher.delete_topic(topic=topic)
    with pytest.raises(NotFound):
        pubsub.publisher.get_topic(topic=topic)


def test_lists_are_paged_and_by_project(pubsub: Pubsub) -> None:
    """Every topic and subscription of a project is listed once, whatever the page size, and no other project's."""
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


def test_subscription_lives_and_dies(pubsub: Pubsub) -> None:
    """A subscription keeps its settings, gets its defaults, and is gone once deleted."""
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


def test_names_are_taken_once(pubsub: Pubsub) -> None:
    """Creating what exists is AlreadyExists, for topics and for subscriptions."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    with pytest.raises(AlreadyExists):
        pubsub.publisher.create_topic(name=topic)
    with pytest.raises(AlreadyExists):
        pubsub.subscriber.create_subscription(name=subscription, topic=topic)


def test_missing_resources_are_not_found(pubsub: Pubsub) -> None:
    """Every operation on what does not exist is NotFound."""
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
    """A setting out of bounds is refused, and the subscription does not exist."""
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
    """A subscription's own acknowledgement deadline is at least 10 seconds."""
    google_differs("takes any deadline from 0 s on")
    with pytest.raises(InvalidArgument):
        pubsub.subscription(pubsub.topic(), ack_deadline_seconds=5)


def test_update_changes_what_the_mask_names(pubsub: Pubsub) -> None:
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


def test_deleted_topic_leaves_its_subscription(pubsub: Pubsub) -> None:
    """The subscription says `_deleted-topic_` and still delivers what it has."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"left")
    pubsub.publisher.delete_topic(topic=topic)
    assert pubsub.subscriber.get_subscription(subscription=subscription).topic == "_deleted-topic_"
    assert pubsub.pull_payloads(subscription) == [b"left"]


def test_detached_subscription_refuses_to_deliver(pubsub: Pubsub, google_differs: Differs) -> None:
    """Detaching takes the subscription from its topic, and pulling fails."""
    google_differs("DetachSubscription is unimplemented")
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publisher.detach_subscription(request={"subscription": subscription})
    assert list(pubsub.publisher.list_topic_subscriptions(topic=topic)) == []
    with pytest.raises(FailedPrecondition):
        pubsub.subscriber.pull(subscription=subscription, max_messages=1)

"""Topics and subscriptions as resources."""

from typing import Any

import pytest
from google.api_core.exceptions import (
    AlreadyExists,
    FailedPrecondition,
    GoogleAPICallError,
    InvalidArgument,
    MethodNotImplemented,
    NotFound,
    OutOfRange,
)
from hypothesis import given
from hypothesis import strategies as st

from local_emulators.pubsub import wire
from local_emulators.pubsub.emulator import Emulator
from local_emulators.pubsub.resources import page
from tests.support.clock import ManualClock
from tests.support.pubsub_emulator import (
    DEAD,
    SUBSCRIPTION,
    TOPIC,
    lease,
    make_emulator,
    payloads,
    publish,
    subscribe,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def emulator(clock: ManualClock) -> Emulator:
    return make_emulator(clock)


def test_deleted_topic_leaves_its_subscriptions(emulator: Emulator) -> None:
    """Subscriptions keep the messages; a new topic with the same name gets new subscriptions only."""
    subscription = subscribe(emulator)
    publish(emulator, b"before")
    emulator.delete_topic(TOPIC)
    assert subscription.resource.topic == "_deleted-topic_"
    emulator.create_topic(wire.Topic(name=TOPIC))
    publish(emulator, b"after")
    assert payloads(subscription) == [b"before"]


def test_detached_subscription_is_empty_and_refuses(emulator: Emulator) -> None:
    """Detaching drops all messages, stops new messages and fails later leases."""
    subscription = subscribe(emulator)
    publish(emulator, b"x")
    emulator.detach_subscription(SUBSCRIPTION)
    publish(emulator, b"y")
    assert subscription.undelivered == 0
    assert emulator.subscription(SUBSCRIPTION).resource.detached
    with pytest.raises(FailedPrecondition):
        lease(subscription)


def test_defaults_are_filled_in(emulator: Emulator) -> None:
    """A new subscription has Pub/Sub's default values."""
    resource = subscribe(emulator, retry_policy={}, dead_letter_policy={"dead_letter_topic": DEAD}).resource
    assert resource.ack_deadline_seconds == 10
    assert resource.message_retention_duration.seconds == 604_800
    assert resource.retry_policy.minimum_backoff.seconds == 10
    assert resource.retry_policy.maximum_backoff.seconds == 600
    assert resource.dead_letter_policy.max_delivery_attempts == 5


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"ack_deadline_seconds": 9}, InvalidArgument),
        ({"ack_deadline_seconds": 601}, InvalidArgument),
        ({"filter": "attributes"}, InvalidArgument),
        ({"push_config": {"push_endpoint": "ftp://host"}}, InvalidArgument),
        ({"push_config": {"push_endpoint": "nonsense"}}, InvalidArgument),
        ({"retry_policy": {"minimum_backoff": {"seconds": 601}}}, InvalidArgument),
        ({"retry_policy": {"maximum_backoff": {"seconds": 5}}}, InvalidArgument),
        ({"dead_letter_policy": {"dead_letter_topic": DEAD, "max_delivery_attempts": 4}}, OutOfRange),
        ({"dead_letter_policy": {"dead_letter_topic": DEAD, "max_delivery_attempts": 101}}, OutOfRange),
        ({"dead_letter_policy": {"dead_letter_topic": TOPIC + "s"}}, NotFound),
        ({"dead_letter_policy": {"dead_letter_topic": "dead"}}, InvalidArgument),
        ({"topic": TOPIC + "s"}, NotFound),
        ({"name": "push"}, InvalidArgument),
        ({"enable_message_ordering": True}, MethodNotImplemented),
        ({"enable_exactly_once_delivery": True}, MethodNotImplemented),
        ({"bigquery_config": {"table": "p.d.t"}}, MethodNotImplemented),
        ({"push_config": {"push_endpoint": "http://h", "no_wrapper": {}}}, MethodNotImplemented),
    ],
)
def test_bad_subscription_is_refused(
    emulator: Emulator, settings: dict[str, Any], error: type[GoogleAPICallError]
) -> None:
    """Each fault has Pub/Sub's status, and no subscription is created."""
    with pytest.raises(error):
        subscribe(emulator, **settings)
    assert emulator.subscription_names("projects/p") == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        "images",
        "projects/p/topics/ab",
        "projects/p/topics/1ab",
        "projects/p/topics/goog-x",
        "projects/p/topics/a b c",
        "projects//topics/abc",
        "projects/p/topics/" + "a" * 256,
    ],
)
def test_bad_topic_name_is_refused(emulator: Emulator, name: str) -> None:
    """A topic name of a wrong shape, length or alphabet raises InvalidArgument."""
    with pytest.raises(InvalidArgument):
        emulator.create_topic(wire.Topic(name=name))


def test_names_are_taken_once(emulator: Emulator) -> None:
    """Creating an existing topic or subscription fails, and the existing resource stays."""
    subscription = subscribe(emulator)
    with pytest.raises(AlreadyExists):
        emulator.create_topic(wire.Topic(name=TOPIC))
    with pytest.raises(AlreadyExists):
        subscribe(emulator)
    assert emulator.subscription(SUBSCRIPTION) is subscription


def test_update_changes_only_masked_fields(emulator: Emulator) -> None:
    """Fields outside the mask keep the values, and a masked empty field is cleared."""
    subscribe(emulator, labels={"a": "1"}, dead_letter_policy={"dead_letter_topic": DEAD})
    changes = wire.Subscription(name=SUBSCRIPTION, ack_deadline_seconds=77, labels={"b": "2"})
    mask = wire.FieldMask(paths=["ack_deadline_seconds", "dead_letter_policy"])
    updated = emulator.update_subscription(changes, mask)
    assert updated.policy.ack_deadline == 77
    assert updated.policy.dead_letter is None
    assert dict(updated.resource.labels) == {"a": "1"}


@pytest.mark.parametrize("paths", [[], ["topic"], ["filter"], ["name"], ["bogus"], ["push_config.bogus"]])
def test_update_by_a_bad_mask_is_refused(emulator: Emulator, paths: list[str]) -> None:
    """An empty mask, an unknown field and an immutable field are errors."""
    subscribe(emulator)
    with pytest.raises(InvalidArgument):
        emulator.update_subscription(wire.Subscription(name=SUBSCRIPTION), wire.FieldMask(paths=paths))


def test_refused_update_changes_nothing(emulator: Emulator) -> None:
    """A value out of bounds leaves the subscription unchanged."""
    subscribe(emulator)
    changes = wire.Subscription(name=SUBSCRIPTION, ack_deadline_seconds=5)
    with pytest.raises(InvalidArgument):
        emulator.update_subscription(changes, wire.FieldMask(paths=["ack_deadline_seconds"]))
    assert emulator.subscription(SUBSCRIPTION).resource.ack_deadline_seconds == 10


@given(st.sets(st.text("abc", min_size=1, max_size=4)), st.integers(1, 5))
def test_pages_make_up_the_whole(names: set[str], size: int) -> None:
    """The pages together have every name once, in order."""
    collected: list[str] = []
    token = ""
    while True:
        found, token = page(names, size, token)
        assert len(found) <= size
        collected += found
        if not token:
            break
    assert collected == sorted(names)

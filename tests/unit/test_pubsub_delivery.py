"""The way of a message through the emulator, on a clock that the test moves."""

import pytest
from google.api_core.exceptions import (
    NotFound,
)
from hypothesis import given
from hypothesis import strategies as st

from local_emulators.pubsub.emulator import Emulator
from local_emulators.pubsub.policy import Backoff
from tests.support.clock import ManualClock
from tests.support.pubsub_emulator import DEAD, SUBSCRIPTION, lease, make_emulator, payloads, publish, subscribe


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def emulator(clock: ManualClock) -> Emulator:
    return make_emulator(clock)


def test_message_reaches_every_subscription(emulator: Emulator) -> None:
    """Each subscription of a topic gets its own copy."""
    first = subscribe(emulator)
    second = subscribe(emulator, name="projects/p/subscriptions/other")
    publish(emulator, b"x")
    assert payloads(first) == payloads(second) == [b"x"]


def test_subscription_gets_only_what_comes_after_it(emulator: Emulator) -> None:
    """Messages published before a subscription was made are not for it."""
    publish(emulator, b"early")
    subscription = subscribe(emulator)
    publish(emulator, b"late")
    assert payloads(subscription) == [b"late"]


def test_message_ids_are_unique(emulator: Emulator) -> None:
    """No two messages share an id."""
    ids = publish(emulator, *[b"x"] * 50) + publish(emulator, *[b"x"] * 50)
    assert len(set(ids)) == 100


def test_filter_decides_at_publishing(emulator: Emulator) -> None:
    """A subscription keeps only the messages that pass its filter."""
    subscription = subscribe(emulator, filter='attributes.eventType = "OBJECT_FINALIZE"')
    publish(emulator, b"no", eventType="OBJECT_DELETE")
    publish(emulator, b"yes", eventType="OBJECT_FINALIZE")
    assert payloads(subscription) == [b"yes"]


def test_expired_deadline_redelivers(emulator: Emulator, clock: ManualClock) -> None:
    """A message is out of sight until its deadline, and ready right then."""
    subscription = subscribe(emulator, ack_deadline_seconds=20)
    publish(emulator, b"x")
    assert payloads(subscription) == [b"x"]
    clock.advance(19.9)
    assert payloads(subscription) == []
    clock.advance(0.1)
    assert payloads(subscription) == [b"x"]


def test_extended_deadline_counts_from_now(emulator: Emulator, clock: ManualClock) -> None:
    """Modifying a deadline sets it anew, shorter or longer."""
    subscription = subscribe(emulator)
    publish(emulator, b"x")
    (leased,) = lease(subscription)
    clock.advance(9)
    subscription.modify([leased.ack_id], 60)
    clock.advance(59)
    assert payloads(subscription) == []
    clock.advance(1)
    assert payloads(subscription) == [b"x"]


def test_retry_policy_spaces_redeliveries(emulator: Emulator, clock: ManualClock) -> None:
    """The wait doubles from the minimum up to the maximum."""
    subscription = subscribe(
        emulator, retry_policy={"minimum_backoff": {"seconds": 5}, "maximum_backoff": {"seconds": 15}}
    )
    publish(emulator, b"x")
    for wait in (5, 10, 15, 15):
        (leased,) = lease(subscription)
        subscription.modify([leased.ack_id], 0)
        clock.advance(wait - 0.1)
        assert payloads(subscription) == []
        clock.advance(0.1)


def test_retry_policy_applies_to_expired_deadlines(emulator: Emulator, clock: ManualClock) -> None:
    """A deadline that ran out waits as a negative acknowledgement does."""
    subscription = subscribe(emulator, retry_policy={"minimum_backoff": {"seconds": 30}})
    publish(emulator, b"x")
    lease(subscription)
    clock.advance(10 + 29.9)
    assert payloads(subscription) == []
    clock.advance(0.1)
    assert payloads(subscription) == [b"x"]


@given(st.floats(0, 600), st.floats(0, 600), st.integers(1, 10_000))
def test_backoff_stays_within_its_bounds(one: float, other: float, attempt: int) -> None:
    """The wait lies between minimum and maximum and never shrinks from one attempt to the next."""
    backoff = Backoff(min(one, other), max(one, other))
    assert backoff.minimum <= backoff.after(attempt) <= backoff.after(attempt + 1) <= backoff.maximum


def test_dead_letter_is_forwarded_with_its_origin(emulator: Emulator) -> None:
    """After the last attempt the message is on the dead-letter topic, with where it came from."""
    subscription = subscribe(emulator, dead_letter_policy={"dead_letter_topic": DEAD, "max_delivery_attempts": 5})
    dead = subscribe(emulator, name="projects/p/subscriptions/dead", topic=DEAD)
    (message_id,) = publish(emulator, b"x", k="v")
    for attempt in range(1, 6):
        (leased,) = lease(subscription)
        assert leased.attempt == attempt
        assert subscription.undelivered == 1
        subscription.modify([leased.ack_id], 0)
    (letter,) = lease(dead)
    assert subscription.undelivered == 0
    assert letter.message.data == b"x"
    assert letter.message.message_id != message_id
    assert letter.message.attributes == {
        "k": "v",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "push",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "p",
        "CloudPubSubDeadLetterSourceTopicPublishTime": "2026-03-01T12:00:00.250Z",
    }


def test_expired_deadlines_count_as_attempts(emulator: Emulator, clock: ManualClock) -> None:
    """A consumer that never answers ends on the dead-letter topic too."""
    subscription = subscribe(emulator, dead_letter_policy={"dead_letter_topic": DEAD, "max_delivery_attempts": 5})
    dead = subscribe(emulator, name="projects/p/subscriptions/dead", topic=DEAD)
    publish(emulator, b"x")
    for _ in range(5):
        assert payloads(subscription) == [b"x"]
        clock.advance(10)
    assert payloads(dead) == [b"x"]


def test_dead_letter_survives_a_deleted_topic(emulator: Emulator) -> None:
    """Where the dead-letter topic is gone, the message stays on its subscription."""
    subscription = subscribe(emulator, dead_letter_policy={"dead_letter_topic": DEAD})
    publish(emulator, b"x")
    emulator.delete_topic(DEAD)
    for _ in range(7):
        (leased,) = lease(subscription)
        subscription.modify([leased.ack_id], 0)
    assert subscription.undelivered == 1


def test_listener_hears_of_every_change(emulator: Emulator, clock: ManualClock) -> None:
    """Publishing, expiry and closing call the listener; after unwatching nothing does."""
    subscription = subscribe(emulator)
    heard: list[str] = []
    unwatch = subscription.watch(lambda: heard.append("changed"))
    publish(emulator, b"x", b"y")
    assert len(heard) == 1
    lease(subscription)
    clock.advance(10)
    assert len(heard) == 2
    emulator.delete_subscription(SUBSCRIPTION)
    assert len(heard) == 3
    unwatch()
    subscription.close(NotFound("again"))
    assert len(heard) == 3


def test_idle_subscription_has_no_timer(emulator: Emulator, clock: ManualClock) -> None:
    """Nothing is scheduled while nothing is leased or delayed."""
    subscription = subscribe(emulator)
    assert clock.pending == 0
    publish(emulator, b"x", b"y")
    assert clock.pending == 0
    leased_messages = lease(subscription)
    assert clock.pending == 1
    subscription.acknowledge([leased.ack_id for leased in leased_messages])
    assert clock.pending == 0

"""The path of a message through the emulator, on a manual clock."""

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
    """Each subscription of a topic gets a copy."""
    first = subscribe(emulator)
    second = subscribe(emulator, name="projects/p/subscriptions/other")
    publish(emulator, b"x")
    assert payloads(first) == payloads(second) == [b"x"]


def test_a_new_subscription_gets_only_later_messages(emulator: Emulator) -> None:
    """A subscription does not get messages published before the creation."""
    publish(emulator, b"early")
    subscription = subscribe(emulator)
    publish(emulator, b"late")
    assert payloads(subscription) == [b"late"]


def test_message_ids_are_unique(emulator: Emulator) -> None:
    """Every message has a unique id."""
    ids = publish(emulator, *[b"x"] * 50) + publish(emulator, *[b"x"] * 50)
    assert len(set(ids)) == 100


def test_filter_decides_at_publishing(emulator: Emulator) -> None:
    """A subscription keeps only messages accepted by the filter."""
    subscription = subscribe(emulator, filter='attributes.eventType = "OBJECT_FINALIZE"')
    publish(emulator, b"no", eventType="OBJECT_DELETE")
    publish(emulator, b"yes", eventType="OBJECT_FINALIZE")
    assert payloads(subscription) == [b"yes"]


def test_expired_deadline_redelivers(emulator: Emulator, clock: ManualClock) -> None:
    """A leased message is not leased again before the deadline, and is ready at the deadline."""
    subscription = subscribe(emulator, ack_deadline_seconds=20)
    publish(emulator, b"x")
    assert payloads(subscription) == [b"x"]
    clock.advance(19.9)
    assert payloads(subscription) == []
    clock.advance(0.1)
    assert payloads(subscription) == [b"x"]


def test_extended_deadline_counts_from_now(emulator: Emulator, clock: ManualClock) -> None:
    """A modified deadline counts from the call, shorter or longer than before."""
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
    """The delay doubles from the minimum up to the maximum."""
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
    """An expired deadline leads to the same delay as a negative acknowledgement."""
    subscription = subscribe(emulator, retry_policy={"minimum_backoff": {"seconds": 30}})
    publish(emulator, b"x")
    lease(subscription)
    clock.advance(10 + 29.9)
    assert payloads(subscription) == []
    clock.advance(0.1)
    assert payloads(subscription) == [b"x"]


@given(st.floats(0, 600), st.floats(0, 600), st.integers(1, 10_000))
def test_backoff_stays_within_its_bounds(one: float, other: float, attempt: int) -> None:
    """The delay is between minimum and maximum, and does not decrease from attempt to attempt."""
    backoff = Backoff(min(one, other), max(one, other))
    assert backoff.minimum <= backoff.after(attempt) <= backoff.after(attempt + 1) <= backoff.maximum


def test_dead_letter_is_forwarded_with_its_origin(emulator: Emulator) -> None:
    """After the last attempt the message is on the dead-letter topic, with attributes for the origin."""
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
    """Without any acknowledgement the message ends on the dead-letter topic too."""
    subscription = subscribe(emulator, dead_letter_policy={"dead_letter_topic": DEAD, "max_delivery_attempts": 5})
    dead = subscribe(emulator, name="projects/p/subscriptions/dead", topic=DEAD)
    publish(emulator, b"x")
    for _ in range(5):
        assert payloads(subscription) == [b"x"]
        clock.advance(10)
    assert payloads(dead) == [b"x"]


def test_dead_letter_survives_a_deleted_topic(emulator: Emulator) -> None:
    """If the dead-letter topic is deleted, the message stays on the subscription."""
    subscription = subscribe(emulator, dead_letter_policy={"dead_letter_topic": DEAD})
    publish(emulator, b"x")
    emulator.delete_topic(DEAD)
    for _ in range(7):
        (leased,) = lease(subscription)
        subscription.modify([leased.ack_id], 0)
    assert subscription.undelivered == 1


def test_the_listener_is_called_after_every_change(emulator: Emulator, clock: ManualClock) -> None:
    """Publishing, expiry and closing call the listener; a removed listener is not called."""
    subscription = subscribe(emulator)
    calls: list[str] = []
    unwatch = subscription.watch(lambda: calls.append("changed"))
    publish(emulator, b"x", b"y")
    assert len(calls) == 1
    lease(subscription)
    clock.advance(10)
    assert len(calls) == 2
    emulator.delete_subscription(SUBSCRIPTION)
    assert len(calls) == 3
    unwatch()
    subscription.close(NotFound("again"))
    assert len(calls) == 3


def test_idle_subscription_has_no_timer(emulator: Emulator, clock: ManualClock) -> None:
    """Without leases and delays no call is scheduled."""
    subscription = subscribe(emulator)
    assert clock.pending == 0
    publish(emulator, b"x", b"y")
    assert clock.pending == 0
    leased_messages = lease(subscription)
    assert clock.pending == 1
    subscription.acknowledge([leased.ack_id for leased in leased_messages])
    assert clock.pending == 0

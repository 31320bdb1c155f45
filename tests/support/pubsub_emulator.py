"""A Pub/Sub emulator with two topics and a manual clock, for unit tests."""

from datetime import UTC, datetime
from typing import Any

from local_emulators.pubsub import wire
from local_emulators.pubsub.backlog import Consumer, LeasedMessage
from local_emulators.pubsub.emulator import Draft, Emulator
from local_emulators.pubsub.subscription import Subscription
from tests.support.clock import ManualClock

TOPIC = "projects/p/topics/images"
DEAD = "projects/p/topics/dead"
SUBSCRIPTION = "projects/p/subscriptions/push"
#: The publish time of every message.
NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def make_emulator(clock: ManualClock) -> Emulator:
    """An emulator with the topics TOPIC and DEAD."""
    emulator = Emulator(clock, utcnow=lambda: NOW)
    emulator.create_topic(wire.Topic(name=TOPIC))
    emulator.create_topic(wire.Topic(name=DEAD))
    return emulator


def subscribe(emulator: Emulator, **settings: Any) -> Subscription:
    """Create SUBSCRIPTION on TOPIC; `settings` override the fields."""
    return emulator.create_subscription(wire.Subscription(**{"name": SUBSCRIPTION, "topic": TOPIC} | settings))


def publish(emulator: Emulator, *payloads: bytes, **attributes: str) -> list[str]:
    """Publish to TOPIC; returns the message ids."""
    return emulator.publish(TOPIC, [Draft(payload, attributes) for payload in payloads])


def lease(subscription: Subscription) -> list[LeasedMessage]:
    """Lease up to ten messages, as a pull does."""
    return subscription.lease(Consumer(), limit=10, seconds=subscription.policy.ack_deadline)


def payloads(subscription: Subscription) -> list[bytes]:
    """Lease up to ten messages; returns the payloads."""
    return [leased.message.data for leased in lease(subscription)]

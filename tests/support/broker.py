"""A broker with two topics, on a clock that the test moves, and the few things tests do with it."""

from datetime import UTC, datetime
from typing import Any

from local_emulators.pubsub import wire
from local_emulators.pubsub.backlog import Consumer, Delivery
from local_emulators.pubsub.broker import Broker, Draft
from local_emulators.pubsub.subscription import Subscription
from tests.support.clock import ManualClock

TOPIC = "projects/p/topics/images"
DEAD = "projects/p/topics/dead"
SUBSCRIPTION = "projects/p/subscriptions/push"
#: When every message is published.
NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def make_broker(clock: ManualClock) -> Broker:
    """A broker with the topics TOPIC and DEAD."""
    broker = Broker(clock, utcnow=lambda: NOW)
    broker.create_topic(wire.Topic(name=TOPIC))
    broker.create_topic(wire.Topic(name=DEAD))
    return broker


def subscribe(broker: Broker, **settings: Any) -> Subscription:
    """Make SUBSCRIPTION on TOPIC, or as the settings say."""
    return broker.create_subscription(wire.Subscription(**{"name": SUBSCRIPTION, "topic": TOPIC} | settings))


def publish(broker: Broker, *payloads: bytes, **attributes: str) -> list[str]:
    """Publish to TOPIC; returns the ids."""
    return broker.publish(TOPIC, [Draft(payload, attributes) for payload in payloads])


def lease(subscription: Subscription) -> list[Delivery]:
    """What a pull of ten messages would get."""
    return subscription.lease(Consumer(), limit=10, seconds=subscription.rules.ack_deadline)


def payloads(subscription: Subscription) -> list[bytes]:
    """The payloads of what a pull of ten messages would get."""
    return [delivery.message.data for delivery in lease(subscription)]

"""Topics, subscriptions and the way of a message, on a clock that the test moves."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jwt
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
from local_emulators.pubsub.backlog import Consumer, Delivery, Message
from local_emulators.pubsub.broker import Broker, Draft
from local_emulators.pubsub.oidc import ISSUER, TokenIssuer
from local_emulators.pubsub.paging import page
from local_emulators.pubsub.rendering import push_body, received_message
from local_emulators.pubsub.rules import Backoff
from local_emulators.pubsub.subscription import Subscription

TOPIC = "projects/p/topics/images"
DEAD = "projects/p/topics/dead"
SUBSCRIPTION = "projects/p/subscriptions/push"


#: The test's clock is not the one PyJWT looks at.
UNTIMED: Any = {"verify_exp": False, "verify_iat": False}


class ManualClock:
    """Time that moves when told, running the calls that come due on the way."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[float, _Call]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> "_Call":
        call = _Call(callback)
        self.calls.append((when, call))
        return call

    @property
    def pending(self) -> int:
        return sum(not call.cancelled for _, call in self.calls)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [item for item in self.calls if item[0] <= end and not item[1].cancelled]:
            earliest = min(due, key=lambda item: item[0])
            self.calls.remove(earliest)
            self.now = max(self.now, earliest[0])
            earliest[1].callback()
        self.now = end


class _Call:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def broker(clock: ManualClock) -> Broker:
    broker = Broker(clock, utcnow=lambda: datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC))
    broker.create_topic(wire.Topic(name=TOPIC))
    broker.create_topic(wire.Topic(name=DEAD))
    return broker


def subscribe(broker: Broker, **settings: Any) -> Subscription:
    return broker.create_subscription(wire.Subscription(**{"name": SUBSCRIPTION, "topic": TOPIC} | settings))


def publish(broker: Broker, *payloads: bytes, **attributes: str) -> list[str]:
    return broker.publish(TOPIC, [Draft(payload, attributes) for payload in payloads])


def lease(subscription: Subscription, limit: int = 10) -> list[Delivery]:
    return subscription.lease(Consumer(), limit=limit, seconds=subscription.rules.ack_deadline)


def payloads(subscription: Subscription) -> list[bytes]:
    return [delivery.message.data for delivery in lease(subscription)]


def test_message_reaches_every_subscription(broker: Broker) -> None:
    """Each subscription of a topic gets its own copy."""
    first = subscribe(broker)
    second = subscribe(broker, name="projects/p/subscriptions/other")
    publish(broker, b"x")
    assert payloads(first) == payloads(second) == [b"x"]


def test_subscription_gets_only_what_comes_after_it(broker: Broker) -> None:
    """Messages published before a subscription was made are not for it."""
    publish(broker, b"early")
    subscription = subscribe(broker)
    publish(broker, b"late")
    assert payloads(subscription) == [b"late"]


def test_message_ids_are_unique(broker: Broker) -> None:
    """No two messages share an id."""
    ids = publish(broker, *[b"x"] * 50) + publish(broker, *[b"x"] * 50)
    assert len(set(ids)) == 100


def test_filter_decides_at_publishing(broker: Broker) -> None:
    """A subscription keeps only the messages that pass its filter."""
    subscription = subscribe(broker, filter='attributes.eventType = "OBJECT_FINALIZE"')
    publish(broker, b"no", eventType="OBJECT_DELETE")
    publish(broker, b"yes", eventType="OBJECT_FINALIZE")
    assert payloads(subscription) == [b"yes"]


def test_expired_deadline_redelivers(broker: Broker, clock: ManualClock) -> None:
    """A message is out of sight until its deadline, and ready right then."""
    subscription = subscribe(broker, ack_deadline_seconds=20)
    publish(broker, b"x")
    assert payloads(subscription) == [b"x"]
    clock.advance(19.9)
    assert payloads(subscription) == []
    clock.advance(0.1)
    assert payloads(subscription) == [b"x"]


def test_extended_deadline_counts_from_now(broker: Broker, clock: ManualClock) -> None:
    """Modifying a deadline sets it anew, shorter or longer."""
    subscription = subscribe(broker)
    publish(broker, b"x")
    (delivery,) = lease(subscription)
    clock.advance(9)
    subscription.modify([delivery.ack_id], 60)
    clock.advance(59)
    assert payloads(subscription) == []
    clock.advance(1)
    assert payloads(subscription) == [b"x"]


def test_retry_policy_spaces_redeliveries(broker: Broker, clock: ManualClock) -> None:
    """The wait doubles from the minimum up to the maximum."""
    subscription = subscribe(
        broker, retry_policy={"minimum_backoff": {"seconds": 5}, "maximum_backoff": {"seconds": 15}}
    )
    publish(broker, b"x")
    for wait in (5, 10, 15, 15):
        (delivery,) = lease(subscription)
        subscription.modify([delivery.ack_id], 0)
        clock.advance(wait - 0.1)
        assert payloads(subscription) == []
        clock.advance(0.1)


def test_retry_policy_applies_to_expired_deadlines(broker: Broker, clock: ManualClock) -> None:
    """A deadline that ran out waits as a negative acknowledgement does."""
    subscription = subscribe(broker, retry_policy={"minimum_backoff": {"seconds": 30}})
    publish(broker, b"x")
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


def test_dead_letter_is_forwarded_with_its_origin(broker: Broker) -> None:
    """After the last attempt the message is on the dead-letter topic, with where it came from."""
    subscription = subscribe(broker, dead_letter_policy={"dead_letter_topic": DEAD, "max_delivery_attempts": 5})
    dead = subscribe(broker, name="projects/p/subscriptions/dead", topic=DEAD)
    (message_id,) = publish(broker, b"x", k="v")
    for attempt in range(1, 6):
        (delivery,) = lease(subscription)
        assert delivery.attempt == attempt
        assert subscription.undelivered == 1
        subscription.modify([delivery.ack_id], 0)
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


def test_expired_deadlines_count_as_attempts(broker: Broker, clock: ManualClock) -> None:
    """A consumer that never answers ends on the dead-letter topic too."""
    subscription = subscribe(broker, dead_letter_policy={"dead_letter_topic": DEAD, "max_delivery_attempts": 5})
    dead = subscribe(broker, name="projects/p/subscriptions/dead", topic=DEAD)
    publish(broker, b"x")
    for _ in range(5):
        assert payloads(subscription) == [b"x"]
        clock.advance(10)
    assert payloads(dead) == [b"x"]


def test_dead_letter_survives_a_deleted_topic(broker: Broker) -> None:
    """Where the dead-letter topic is gone, the message stays on its subscription."""
    subscription = subscribe(broker, dead_letter_policy={"dead_letter_topic": DEAD})
    publish(broker, b"x")
    broker.delete_topic(DEAD)
    for _ in range(7):
        (delivery,) = lease(subscription)
        subscription.modify([delivery.ack_id], 0)
    assert subscription.undelivered == 1


def test_listener_hears_of_every_change(broker: Broker, clock: ManualClock) -> None:
    """Publishing, expiry and closing call the listener; after unwatching nothing does."""
    subscription = subscribe(broker)
    heard: list[str] = []
    unwatch = subscription.watch(lambda: heard.append("changed"))
    publish(broker, b"x", b"y")
    assert len(heard) == 1
    lease(subscription)
    clock.advance(10)
    assert len(heard) == 2
    broker.delete_subscription(SUBSCRIPTION)
    assert len(heard) == 3
    unwatch()
    subscription.close(NotFound("again"))
    assert len(heard) == 3


def test_idle_subscription_has_no_timer(broker: Broker, clock: ManualClock) -> None:
    """Nothing is scheduled while nothing is leased or delayed."""
    subscription = subscribe(broker)
    assert clock.pending == 0
    publish(broker, b"x", b"y")
    assert clock.pending == 0
    deliveries = lease(subscription)
    assert clock.pending == 1
    subscription.acknowledge([delivery.ack_id for delivery in deliveries])
    assert clock.pending == 0


def test_deleted_topic_leaves_its_subscriptions(broker: Broker) -> None:
    """They keep their messages, and a topic made anew under the name is another one."""
    subscription = subscribe(broker)
    publish(broker, b"before")
    broker.delete_topic(TOPIC)
    assert subscription.resource.topic == "_deleted-topic_"
    broker.create_topic(wire.Topic(name=TOPIC))
    publish(broker, b"after")
    assert payloads(subscription) == [b"before"]


def test_detached_subscription_is_empty_and_refuses(broker: Broker) -> None:
    """Detaching drops the messages, stops new ones and fails what asks for them."""
    subscription = subscribe(broker)
    publish(broker, b"x")
    broker.detach_subscription(SUBSCRIPTION)
    publish(broker, b"y")
    assert subscription.undelivered == 0
    assert broker.subscription(SUBSCRIPTION).resource.detached
    with pytest.raises(FailedPrecondition):
        lease(subscription)


def test_defaults_are_filled_in(broker: Broker) -> None:
    """A new subscription shows the values Pub/Sub gives it."""
    resource = subscribe(broker, retry_policy={}, dead_letter_policy={"dead_letter_topic": DEAD}).resource
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
    broker: Broker, settings: dict[str, Any], error: type[GoogleAPICallError]
) -> None:
    """Each fault has the status Pub/Sub gives it, and nothing is created."""
    with pytest.raises(error):
        subscribe(broker, **settings)
    assert broker.subscription_names("projects/p") == []


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
def test_bad_topic_name_is_refused(broker: Broker, name: str) -> None:
    """A topic's name has its shape, its length and its letters."""
    with pytest.raises(InvalidArgument):
        broker.create_topic(wire.Topic(name=name))


def test_names_are_taken_once(broker: Broker) -> None:
    """Creating what exists fails and leaves it alone."""
    subscription = subscribe(broker)
    with pytest.raises(AlreadyExists):
        broker.create_topic(wire.Topic(name=TOPIC))
    with pytest.raises(AlreadyExists):
        subscribe(broker)
    assert broker.subscription(SUBSCRIPTION) is subscription


def test_update_changes_only_what_the_mask_names(broker: Broker) -> None:
    """Fields outside the mask keep their values, and cleared ones are gone."""
    subscribe(broker, labels={"a": "1"}, dead_letter_policy={"dead_letter_topic": DEAD})
    changes = wire.Subscription(name=SUBSCRIPTION, ack_deadline_seconds=77, labels={"b": "2"})
    mask = wire.FieldMask(paths=["ack_deadline_seconds", "dead_letter_policy"])
    updated = broker.update_subscription(changes, mask)
    assert updated.rules.ack_deadline == 77
    assert updated.rules.dead_letter is None
    assert dict(updated.resource.labels) == {"a": "1"}


@pytest.mark.parametrize("paths", [[], ["topic"], ["filter"], ["name"], ["bogus"], ["push_config.bogus"]])
def test_update_by_a_bad_mask_is_refused(broker: Broker, paths: list[str]) -> None:
    """An empty mask, an unknown field and one that cannot change are errors."""
    subscribe(broker)
    with pytest.raises(InvalidArgument):
        broker.update_subscription(wire.Subscription(name=SUBSCRIPTION), wire.FieldMask(paths=paths))


def test_refused_update_changes_nothing(broker: Broker) -> None:
    """A value out of bounds leaves the subscription as it was."""
    subscribe(broker)
    changes = wire.Subscription(name=SUBSCRIPTION, ack_deadline_seconds=5)
    with pytest.raises(InvalidArgument):
        broker.update_subscription(changes, wire.FieldMask(paths=["ack_deadline_seconds"]))
    assert broker.subscription(SUBSCRIPTION).resource.ack_deadline_seconds == 10


@given(st.sets(st.text("abc", min_size=1, max_size=4)), st.integers(1, 5))
def test_pages_make_up_the_whole(names: set[str], size: int) -> None:
    """Following the tokens gives every name once, in order."""
    collected: list[str] = []
    token = ""
    while True:
        found, token = page(names, size, token)
        assert len(found) <= size
        collected += found
        if not token:
            break
    assert collected == sorted(names)


def delivery(data: bytes, attributes: dict[str, str]) -> Delivery:
    message = Message("7", data, attributes, "", datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC))
    return Delivery("ack", message, 3)


def test_push_body_has_both_spellings(broker: Broker) -> None:
    """The envelope names id and time twice, encodes the data, and tells no attempt without a dead-letter policy."""
    body = json.loads(push_body(SUBSCRIPTION, delivery(b"\x00\xff", {"k": "ü"}), subscribe(broker).rules))
    assert body == {
        "subscription": SUBSCRIPTION,
        "message": {
            "data": "AP8=",
            "attributes": {"k": "ü"},
            "messageId": "7",
            "message_id": "7",
            "publishTime": "2026-03-01T12:00:00.250Z",
            "publish_time": "2026-03-01T12:00:00.250Z",
        },
    }


def test_attempt_is_told_with_a_dead_letter_policy(broker: Broker) -> None:
    """Push and pull both carry the attempt, and a message without data has no data field."""
    rules = subscribe(broker, dead_letter_policy={"dead_letter_topic": DEAD}).rules
    body = json.loads(push_body(SUBSCRIPTION, delivery(b"", {"k": "v"}), rules))
    assert body["deliveryAttempt"] == 3
    assert "data" not in body["message"]
    assert received_message(delivery(b"", {}), rules).delivery_attempt == 3


def test_token_is_signed_and_renewed_in_time() -> None:
    """Its claims and signature hold, it is reused while it lasts, and replaced before it ends."""
    now = [1_800_000_000.0]
    issuer = TokenIssuer(lambda: now[0])
    token = issuer.token("push@p.iam", "http://receiver")
    key = jwt.PyJWKSet.from_dict(issuer.jwks()).keys[0]
    claims = jwt.decode(
        token,
        key,
        algorithms=["RS256"],
        audience="http://receiver",
        issuer=ISSUER,
        options=UNTIMED,
    )
    assert (claims["email"], claims["email_verified"], claims["exp"]) == ("push@p.iam", True, 1_800_003_600)
    now[0] += 3300
    assert issuer.token("push@p.iam", "http://receiver") == token
    now[0] += 1
    assert issuer.token("push@p.iam", "http://receiver") != token
    assert issuer.token("push@p.iam", "http://other") != issuer.token("push@p.iam", "http://receiver")

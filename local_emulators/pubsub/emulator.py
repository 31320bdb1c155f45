"""The emulator's topics and subscriptions, and the path of a message from a topic to subscriptions.

Operations raise the google.api_core exception for the status of the RPC. Not thread-safe: all calls are on the
event loop's thread.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from google.api_core.exceptions import (
    AlreadyExists,
    FailedPrecondition,
    MethodNotImplemented,
    NotFound,
    ServiceUnavailable,
)
from google.protobuf.field_mask_pb2 import FieldMask

from local_emulators.pubsub import resources, wire
from local_emulators.pubsub.backlog import Message
from local_emulators.pubsub.policy import complete, read_policy
from local_emulators.pubsub.subscription import Clock, Subscription

_UNSUPPORTED_TOPIC_FIELDS = ("schema_settings", "ingestion_data_source_settings", "message_transforms")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Draft:
    """A message from a publisher, before id and publish time."""

    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str = ""


@dataclass(eq=False, slots=True)
class Topic:
    """A topic: the google.pubsub.v1.Topic message, and the attached subscriptions by name."""

    resource: wire.Proto
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


def _utcnow() -> datetime:
    return datetime.now(UTC)


class Emulator:
    """All topics and subscriptions of all projects, in memory."""

    def __init__(
        self,
        clock: Clock,
        *,
        utcnow: Callable[[], datetime] = _utcnow,
        on_subscription: Callable[[Subscription], object] = lambda _subscription: None,
    ) -> None:
        """`on_subscription` is called with every new subscription."""
        self._clock = clock
        self._utcnow = utcnow
        self._on_subscription = on_subscription
        self._topics: dict[str, Topic] = {}
        self._subscriptions: dict[str, Subscription] = {}
        # Ids start at the current time, so that no id repeats an id of an earlier run.
        self._message_ids = itertools.count(time.time_ns() // 1000)

    def create_topic(self, resource: wire.Proto) -> Topic:
        """Create a topic. Raises InvalidArgument, AlreadyExists, MethodNotImplemented."""
        resources.check_topic(resource.name)
        for topic_field, _ in resource.ListFields():
            if topic_field.name in _UNSUPPORTED_TOPIC_FIELDS:
                raise MethodNotImplemented(
                    f"This emulator does not support a topic's {topic_field.name}. Leave it out."
                )
        if resource.name in self._topics:
            raise AlreadyExists(f"Topic already exists: {resource.name}. Use it, or delete it first.")
        topic = self._topics[resource.name] = Topic(resource)
        _log.info("topic created topic=%s", resource.name)
        return topic

    def topic(self, name: str) -> Topic:
        """The topic with the given name. Raises InvalidArgument, NotFound."""
        resources.check_topic(name)
        if name not in self._topics:
            raise NotFound(f"Topic not found: {name}. Create it first.")
        return self._topics[name]

    def topic_names(self, project: str) -> list[str]:
        """The names of a project's topics. Raises InvalidArgument."""
        resources.check_project(project)
        return [name for name in self._topics if name.startswith(f"{project}/")]

    def update_topic(self, changes: wire.Proto, mask: FieldMask) -> Topic:
        """Change the masked fields of a topic. Raises InvalidArgument, NotFound."""
        topic = self.topic(changes.name)
        topic.resource = resources.updated(topic.resource, changes, mask, resources.MUTABLE_TOPIC_FIELDS)
        return topic

    def delete_topic(self, name: str) -> None:
        """Delete a topic; the subscriptions keep all messages. Raises InvalidArgument, NotFound."""
        for subscription in self.topic(name).subscriptions.values():
            subscription.resource.topic = resources.DELETED_TOPIC
        del self._topics[name]
        _log.info("topic deleted topic=%s", name)

    def publish(self, name: str, drafts: Iterable[Draft]) -> list[str]:
        """Add messages to the topic's subscriptions; returns the message ids. Raises InvalidArgument, NotFound."""
        topic = self.topic(name)
        messages = [self._stamp(draft) for draft in drafts]
        for subscription in tuple(topic.subscriptions.values()):
            subscription.offer(messages)
        return [message.message_id for message in messages]

    def create_subscription(self, resource: wire.Proto) -> Subscription:
        """Create a subscription.

        Raises InvalidArgument, OutOfRange, NotFound, AlreadyExists, MethodNotImplemented.
        """
        resources.check_subscription(resource.name)
        if resource.name in self._subscriptions:
            raise AlreadyExists(f"Subscription already exists: {resource.name}. Use it, or delete it first.")
        topic = self.topic(resource.topic)
        complete(resource)
        policy = read_policy(resource)
        if policy.dead_letter:
            self.topic(policy.dead_letter.topic)
        subscription = Subscription(
            resource, policy, self._clock, lambda message, attempts: self._forward(subscription, message, attempts)
        )
        self._subscriptions[resource.name] = topic.subscriptions[resource.name] = subscription
        self._on_subscription(subscription)
        _log.info("subscription created subscription=%s topic=%s", resource.name, resource.topic)
        return subscription

    def subscription(self, name: str) -> Subscription:
        """The subscription with the given name. Raises InvalidArgument, NotFound."""
        resources.check_subscription(name)
        if name not in self._subscriptions:
            raise NotFound(f"Subscription does not exist: {name}. Create it first.")
        return self._subscriptions[name]

    def subscription_names(self, project: str) -> list[str]:
        """The names of a project's subscriptions. Raises InvalidArgument."""
        resources.check_project(project)
        return [name for name in self._subscriptions if name.startswith(f"{project}/")]

    def update_subscription(self, changes: wire.Proto, mask: FieldMask) -> Subscription:
        """Change the masked fields. Raises InvalidArgument, OutOfRange, NotFound, MethodNotImplemented."""
        subscription = self.subscription(changes.name)
        resource = resources.updated(subscription.resource, changes, mask, resources.MUTABLE_SUBSCRIPTION_FIELDS)
        complete(resource)
        policy = read_policy(resource)
        if policy.dead_letter:
            self.topic(policy.dead_letter.topic)
        subscription.change(resource, policy)
        return subscription

    def delete_subscription(self, name: str) -> None:
        """Delete a subscription with all messages. Raises InvalidArgument, NotFound."""
        subscription = self.subscription(name)
        self._unlink(subscription)
        del self._subscriptions[name]
        subscription.close(NotFound(f"Subscription does not exist: {name}. It was deleted."))
        _log.info("subscription deleted subscription=%s", name)

    def detach_subscription(self, name: str) -> None:
        """Detach a subscription from the topic, and drop all messages. Raises InvalidArgument, NotFound."""
        subscription = self.subscription(name)
        self._unlink(subscription)
        subscription.resource.detached = True
        subscription.close(FailedPrecondition(f"Subscription is detached: {name}. Delete it and create another."))

    def close(self) -> None:
        """End every pull and stream with ServiceUnavailable, so that clients retry."""
        for subscription in self._subscriptions.values():
            subscription.close(ServiceUnavailable("The Pub/Sub emulator is stopping. Start it again."))

    def _unlink(self, subscription: Subscription) -> None:
        topic = self._topics.get(subscription.resource.topic)
        if topic is not None:
            topic.subscriptions.pop(subscription.name, None)

    def _stamp(self, draft: Draft) -> Message:
        return Message(
            message_id=str(next(self._message_ids)),
            data=draft.data,
            attributes=draft.attributes,
            ordering_key=draft.ordering_key,
            publish_time=self._utcnow(),
        )

    def _forward(self, source: Subscription, message: Message, attempts: int) -> bool:
        dead_letter = source.policy.dead_letter
        if dead_letter is None or dead_letter.topic not in self._topics:
            _log.warning("dead letter kept: the dead-letter topic does not exist subscription=%s", source.name)
            return False
        attributes = dict(message.attributes) | _origin(source.name, message, attempts)
        self.publish(dead_letter.topic, [Draft(message.data, attributes, message.ordering_key)])
        _log.warning(
            "dead letter forwarded subscription=%s message_id=%s attempts=%d topic=%s",
            source.name, message.message_id, attempts, dead_letter.topic,
        )  # fmt: skip
        return True


def _origin(subscription: str, message: Message, attempts: int) -> dict[str, str]:
    return {
        "CloudPubSubDeadLetterSourceDeliveryCount": str(attempts),
        "CloudPubSubDeadLetterSourceSubscription": resources.short_id(subscription),
        "CloudPubSubDeadLetterSourceSubscriptionProject": resources.project_id(subscription),
        "CloudPubSubDeadLetterSourceTopicPublishTime": message.publish_timestamp,
    }

"""google.pubsub.v1.Publisher: topics and publishing."""

from collections.abc import Sequence

from google.api_core.exceptions import InvalidArgument

from local_emulators.pubsub import wire
from local_emulators.pubsub.emulator import Draft, Emulator
from local_emulators.pubsub.resources import page

_MAX_MESSAGES = 1000
_MAX_ATTRIBUTES = 100
_MAX_KEY_BYTES = 256
_MAX_VALUE_BYTES = 1024


class Publisher:
    """One method per RPC: request message in, response message out, google.api_core exceptions for errors."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def rpcs(self) -> wire.RpcService:
        """The RPCs by name."""
        return wire.RpcService(
            "google.pubsub.v1.Publisher",
            {
                "CreateTopic": wire.UnaryRpc(self.create_topic, wire.Topic, wire.Topic),
                "GetTopic": wire.UnaryRpc(self.get_topic, wire.GetTopicRequest, wire.Topic),
                "UpdateTopic": wire.UnaryRpc(self.update_topic, wire.UpdateTopicRequest, wire.Topic),
                "ListTopics": wire.UnaryRpc(self.list_topics, wire.ListTopicsRequest, wire.ListTopicsResponse),
                "DeleteTopic": wire.UnaryRpc(self.delete_topic, wire.DeleteTopicRequest, wire.Empty),
                "Publish": wire.UnaryRpc(self.publish, wire.PublishRequest, wire.PublishResponse),
                "ListTopicSubscriptions": wire.UnaryRpc(
                    self.list_topic_subscriptions,
                    wire.ListTopicSubscriptionsRequest,
                    wire.ListTopicSubscriptionsResponse,
                ),
                "DetachSubscription": wire.UnaryRpc(
                    self.detach_subscription, wire.DetachSubscriptionRequest, wire.DetachSubscriptionResponse
                ),
            },
        )

    async def create_topic(self, request: wire.Proto) -> wire.Proto:
        return self._emulator.create_topic(request).resource

    async def get_topic(self, request: wire.Proto) -> wire.Proto:
        return self._emulator.topic(request.topic).resource

    async def update_topic(self, request: wire.Proto) -> wire.Proto:
        return self._emulator.update_topic(request.topic, request.update_mask).resource

    async def list_topics(self, request: wire.Proto) -> wire.Proto:
        found, token = page(self._emulator.topic_names(request.project), request.page_size, request.page_token)
        topics = [self._emulator.topic(name).resource for name in found]
        return wire.ListTopicsResponse(topics=topics, next_page_token=token)

    async def delete_topic(self, request: wire.Proto) -> wire.Proto:
        self._emulator.delete_topic(request.topic)
        return wire.Empty()

    async def publish(self, request: wire.Proto) -> wire.Proto:
        _check_messages(request.messages)
        drafts = [
            Draft(message.data, dict(message.attributes), message.ordering_key) for message in request.messages
        ]
        return wire.PublishResponse(message_ids=self._emulator.publish(request.topic, drafts))

    async def list_topic_subscriptions(self, request: wire.Proto) -> wire.Proto:
        attached = self._emulator.topic(request.topic).subscriptions
        found, token = page(attached, request.page_size, request.page_token)
        return wire.ListTopicSubscriptionsResponse(subscriptions=found, next_page_token=token)

    async def detach_subscription(self, request: wire.Proto) -> wire.Proto:
        self._emulator.detach_subscription(request.subscription)
        return wire.DetachSubscriptionResponse()


def _check_messages(messages: Sequence[wire.Proto]) -> None:
    if not 1 <= len(messages) <= _MAX_MESSAGES:
        raise InvalidArgument(f"A publish request has 1 to {_MAX_MESSAGES} messages, not {len(messages)}.")
    for message in messages:
        if not message.data and not message.attributes:
            raise InvalidArgument("Some messages are empty. Give each non-empty data or at least one attribute.")
        _check_attributes(message.attributes)


def _check_attributes(attributes: wire.Proto) -> None:
    if len(attributes) > _MAX_ATTRIBUTES:
        raise InvalidArgument(f"A message has at most {_MAX_ATTRIBUTES} attributes, not {len(attributes)}.")
    for key, value in attributes.items():
        if not 1 <= len(key.encode()) <= _MAX_KEY_BYTES or key.startswith("goog"):
            raise InvalidArgument(
                f"Invalid attribute key {key!r}. Use 1 to {_MAX_KEY_BYTES} bytes that do not start with goog."
            )
        if len(value.encode()) > _MAX_VALUE_BYTES:
            raise InvalidArgument(f"The value of attribute {key!r} is over {_MAX_VALUE_BYTES} bytes. Shorten it.")

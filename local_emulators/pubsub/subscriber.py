"""google.pubsub.v1.Subscriber: subscriptions, pulling and acknowledging."""

import asyncio

from google.api_core.exceptions import InvalidArgument

from local_emulators.pubsub import wire
from local_emulators.pubsub.backlog import Consumer, Delivery
from local_emulators.pubsub.broker import Broker
from local_emulators.pubsub.paging import page
from local_emulators.pubsub.rendering import received_message
from local_emulators.pubsub.rpc import Method, Service, Stream
from local_emulators.pubsub.rules import check_ack_deadline
from local_emulators.pubsub.streaming import streaming_pull
from local_emulators.pubsub.subscription import Subscription

#: A pull that finds nothing is answered, empty, after this many seconds.
_LONGEST_PULL = 90
_MAX_PULL_MESSAGES = 1000


class Subscriber:
    """One method per RPC: request message in, response message out, google.api_core exceptions for errors."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def service(self) -> Service:
        """The RPCs by name."""
        return Service(
            "google.pubsub.v1.Subscriber",
            {
                "CreateSubscription": Method(self.create_subscription, wire.Subscription, wire.Subscription),
                "GetSubscription": Method(self.get_subscription, wire.GetSubscriptionRequest, wire.Subscription),
                "UpdateSubscription": Method(
                    self.update_subscription, wire.UpdateSubscriptionRequest, wire.Subscription
                ),
                "ListSubscriptions": Method(
                    self.list_subscriptions, wire.ListSubscriptionsRequest, wire.ListSubscriptionsResponse
                ),
                "DeleteSubscription": Method(self.delete_subscription, wire.DeleteSubscriptionRequest, wire.Empty),
                "ModifyPushConfig": Method(self.modify_push_config, wire.ModifyPushConfigRequest, wire.Empty),
                "Pull": Method(self.pull, wire.PullRequest, wire.PullResponse),
                "Acknowledge": Method(self.acknowledge, wire.AcknowledgeRequest, wire.Empty),
                "ModifyAckDeadline": Method(self.modify_ack_deadline, wire.ModifyAckDeadlineRequest, wire.Empty),
                "StreamingPull": Stream(
                    self.streaming_pull, wire.StreamingPullRequest, wire.StreamingPullResponse
                ),
            },
        )

    async def create_subscription(self, request: wire.Proto) -> wire.Proto:
        return self._broker.create_subscription(request).resource

    async def get_subscription(self, request: wire.Proto) -> wire.Proto:
        return self._broker.subscription(request.subscription).resource

    async def update_subscription(self, request: wire.Proto) -> wire.Proto:
        return self._broker.update_subscription(request.subscription, request.update_mask).resource

    async def list_subscriptions(self, request: wire.Proto) -> wire.Proto:
        found, token = page(
            self._broker.subscription_names(request.project), request.page_size, request.page_token
        )
        subscriptions = [self._broker.subscription(name).resource for name in found]
        return wire.ListSubscriptionsResponse(subscriptions=subscriptions, next_page_token=token)

    async def delete_subscription(self, request: wire.Proto) -> wire.Proto:
        self._broker.delete_subscription(request.subscription)
        return wire.Empty()

    async def modify_push_config(self, request: wire.Proto) -> wire.Proto:
        changes = wire.Subscription(name=request.subscription, push_config=request.push_config)
        self._broker.update_subscription(changes, wire.FieldMask(paths=["push_config"]))
        return wire.Empty()

    async def acknowledge(self, request: wire.Proto) -> wire.Proto:
        _check_ack_ids(request.ack_ids)
        self._broker.subscription(request.subscription).acknowledge(request.ack_ids)
        return wire.Empty()

    async def modify_ack_deadline(self, request: wire.Proto) -> wire.Proto:
        _check_ack_ids(request.ack_ids)
        check_ack_deadline(request.ack_deadline_seconds)
        self._broker.subscription(request.subscription).modify(request.ack_ids, request.ack_deadline_seconds)
        return wire.Empty()

    async def pull(self, request: wire.Proto) -> wire.Proto:
        if request.max_messages < 1:
            raise InvalidArgument(f"max_messages is {request.max_messages}. Use 1 or more.")
        subscription = self._broker.subscription(request.subscription)
        limit = min(request.max_messages, _MAX_PULL_MESSAGES)
        deliveries = _take(subscription, limit)
        if not deliveries and not request.return_immediately:
            deliveries = await _wait_and_take(subscription, limit)
        received = [received_message(delivery, subscription.rules) for delivery in deliveries]
        return wire.PullResponse(received_messages=received)

    async def streaming_pull(self, requests: wire.Proto, send: wire.Proto) -> None:
        await streaming_pull(self._broker.subscription, requests, send)


def _check_ack_ids(ack_ids: wire.Proto) -> None:
    if not ack_ids:
        raise InvalidArgument("No ack ids specified. Give at least one.")


def _take(subscription: Subscription, limit: int) -> list[Delivery]:
    subscription.check_pullable()
    return subscription.lease(Consumer(), limit=limit, seconds=subscription.rules.ack_deadline)


async def _wait_and_take(subscription: Subscription, limit: int) -> list[Delivery]:
    changed = asyncio.Event()
    unwatch = subscription.watch(changed.set)
    try:
        async with asyncio.timeout(_LONGEST_PULL):
            while True:
                await changed.wait()
                changed.clear()
                if deliveries := _take(subscription, limit):
                    return deliveries
    except TimeoutError:
        return []
    finally:
        unwatch()

"""google.pubsub.v1.Subscriber: subscriptions, Pull, StreamingPull and acknowledgements."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from google.api_core.exceptions import InvalidArgument

from local_emulators.pubsub import wire
from local_emulators.pubsub.backlog import Consumer, LeasedMessage
from local_emulators.pubsub.emulator import Emulator
from local_emulators.pubsub.policy import MIN_ACK_DEADLINE, DeliveryPolicy, check_ack_deadline
from local_emulators.pubsub.resources import page
from local_emulators.pubsub.subscription import Subscription

#: Seconds until the empty response of a pull without messages.
_LONGEST_PULL = 90
_MAX_PULL_MESSAGES = 1000
_MAX_MESSAGES_PER_RESPONSE = 100


class Subscriber:
    """One method per RPC: request message in, response message out, google.api_core exceptions for errors."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def rpcs(self) -> wire.RpcService:
        """The RPCs by name."""
        return wire.RpcService(
            "google.pubsub.v1.Subscriber",
            {
                "CreateSubscription": wire.UnaryRpc(
                    self.create_subscription, wire.Subscription, wire.Subscription
                ),
                "GetSubscription": wire.UnaryRpc(
                    self.get_subscription, wire.GetSubscriptionRequest, wire.Subscription
                ),
                "UpdateSubscription": wire.UnaryRpc(
                    self.update_subscription, wire.UpdateSubscriptionRequest, wire.Subscription
                ),
                "ListSubscriptions": wire.UnaryRpc(
                    self.list_subscriptions, wire.ListSubscriptionsRequest, wire.ListSubscriptionsResponse
                ),
                "DeleteSubscription": wire.UnaryRpc(
                    self.delete_subscription, wire.DeleteSubscriptionRequest, wire.Empty
                ),
                "ModifyPushConfig": wire.UnaryRpc(
                    self.modify_push_config, wire.ModifyPushConfigRequest, wire.Empty
                ),
                "Pull": wire.UnaryRpc(self.pull, wire.PullRequest, wire.PullResponse),
                "Acknowledge": wire.UnaryRpc(self.acknowledge, wire.AcknowledgeRequest, wire.Empty),
                "ModifyAckDeadline": wire.UnaryRpc(
                    self.modify_ack_deadline, wire.ModifyAckDeadlineRequest, wire.Empty
                ),
                "StreamingPull": wire.StreamRpc(
                    self.streaming_pull, wire.StreamingPullRequest, wire.StreamingPullResponse
                ),
            },
        )

    async def create_subscription(self, request: wire.Proto) -> wire.Proto:
        return self._emulator.create_subscription(request).resource

    async def get_subscription(self, request: wire.Proto) -> wire.Proto:
        return self._emulator.subscription(request.subscription).resource

    async def update_subscription(self, request: wire.Proto) -> wire.Proto:
        return self._emulator.update_subscription(request.subscription, request.update_mask).resource

    async def list_subscriptions(self, request: wire.Proto) -> wire.Proto:
        found, token = page(
            self._emulator.subscription_names(request.project), request.page_size, request.page_token
        )
        subscriptions = [self._emulator.subscription(name).resource for name in found]
        return wire.ListSubscriptionsResponse(subscriptions=subscriptions, next_page_token=token)

    async def delete_subscription(self, request: wire.Proto) -> wire.Proto:
        self._emulator.delete_subscription(request.subscription)
        return wire.Empty()

    async def modify_push_config(self, request: wire.Proto) -> wire.Proto:
        changes = wire.Subscription(name=request.subscription, push_config=request.push_config)
        self._emulator.update_subscription(changes, wire.FieldMask(paths=["push_config"]))
        return wire.Empty()

    async def acknowledge(self, request: wire.Proto) -> wire.Proto:
        _check_ack_ids(request.ack_ids)
        self._emulator.subscription(request.subscription).acknowledge(request.ack_ids)
        return wire.Empty()

    async def modify_ack_deadline(self, request: wire.Proto) -> wire.Proto:
        _check_ack_ids(request.ack_ids)
        check_ack_deadline(request.ack_deadline_seconds)
        self._emulator.subscription(request.subscription).modify(request.ack_ids, request.ack_deadline_seconds)
        return wire.Empty()

    async def pull(self, request: wire.Proto) -> wire.Proto:
        if request.max_messages < 1:
            raise InvalidArgument(f"max_messages is {request.max_messages}. Use 1 or more.")
        subscription = self._emulator.subscription(request.subscription)
        limit = min(request.max_messages, _MAX_PULL_MESSAGES)
        leased_messages = _take(subscription, limit)
        if not leased_messages and not request.return_immediately:
            leased_messages = await _wait_and_take(subscription, limit)
        received = [received_message(leased, subscription.policy) for leased in leased_messages]
        return wire.PullResponse(received_messages=received)

    async def streaming_pull(self, requests: wire.Proto, send: wire.Proto) -> None:
        await streaming_pull(self._emulator.subscription, requests, send)


def _check_ack_ids(ack_ids: wire.Proto) -> None:
    if not ack_ids:
        raise InvalidArgument("No ack ids specified. Give at least one.")


def _take(subscription: Subscription, limit: int) -> list[LeasedMessage]:
    subscription.check_pullable()
    return subscription.lease(Consumer(), limit=limit, seconds=subscription.policy.ack_deadline)


async def _wait_and_take(subscription: Subscription, limit: int) -> list[LeasedMessage]:
    changed = asyncio.Event()
    unwatch = subscription.watch(changed.set)
    try:
        async with asyncio.timeout(_LONGEST_PULL):
            while True:
                await changed.wait()
                changed.clear()
                if leased_messages := _take(subscription, limit):
                    return leased_messages
    except TimeoutError:
        return []
    finally:
        unwatch()


async def streaming_pull(
    find: Callable[[str], Subscription],
    requests: AsyncIterator[wire.Proto],
    send: Callable[[wire.Proto], Awaitable[None]],
) -> None:
    """Serve one stream until the client ends the stream. Raises the google.api_core exception of a failed stream.

    Messages leased at the end of the stream stay leased until the deadline.
    """
    opening = await anext(requests, None)
    if opening is None:
        raise InvalidArgument("The stream ended before its first request. Send one that names the subscription.")
    stream = _Stream(find(opening.subscription), opening)
    stream.apply(opening)
    await stream.run(requests, send)


class _Stream:
    """One open StreamingPull: sends ready messages within the stream's limits, applies acknowledgements."""

    def __init__(self, subscription: Subscription, opening: wire.Proto) -> None:
        if not opening.stream_ack_deadline_seconds:
            raise InvalidArgument("The first request of a stream must set stream_ack_deadline_seconds.")
        self._subscription = subscription
        self._seconds = MIN_ACK_DEADLINE
        # Clients send 0 or a negative number for no limit.
        self._consumer = Consumer(
            max_messages=max(0, opening.max_outstanding_messages), max_bytes=max(0, opening.max_outstanding_bytes)
        )
        self._changed = asyncio.Event()

    def apply(self, request: wire.Proto) -> None:
        """Apply a request of the stream, acknowledgements first."""
        if request.stream_ack_deadline_seconds:
            check_ack_deadline(request.stream_ack_deadline_seconds, minimum=MIN_ACK_DEADLINE)
            self._seconds = request.stream_ack_deadline_seconds
        if len(request.modify_deadline_ack_ids) != len(request.modify_deadline_seconds):
            raise InvalidArgument("modify_deadline_ack_ids and modify_deadline_seconds differ in length.")
        if request.ack_ids:
            self._subscription.acknowledge(request.ack_ids)
        for ack_id, seconds in zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True):
            check_ack_deadline(seconds)
            self._subscription.modify([ack_id], seconds)

    async def run(
        self, requests: AsyncIterator[wire.Proto], send: Callable[[wire.Proto], Awaitable[None]]
    ) -> None:
        reader = asyncio.create_task(self._read(requests))
        reader.add_done_callback(lambda _: self._changed.set())
        unwatch = self._subscription.watch(self._changed.set)
        try:
            while not reader.done():
                self._changed.clear()
                while leased_messages := self._take():
                    await send(self._response(leased_messages))
                await self._changed.wait()
            reader.result()
        finally:
            unwatch()
            reader.cancel()

    async def _read(self, requests: AsyncIterator[wire.Proto]) -> None:
        async for request in requests:
            self.apply(request)

    def _take(self) -> list[LeasedMessage]:
        self._subscription.check_pullable()
        return self._subscription.lease(self._consumer, limit=_MAX_MESSAGES_PER_RESPONSE, seconds=self._seconds)

    def _response(self, leased_messages: list[LeasedMessage]) -> wire.Proto:
        policy = self._subscription.policy
        return wire.StreamingPullResponse(
            received_messages=[received_message(leased, policy) for leased in leased_messages],
            subscription_properties={},
        )


def received_message(leased: LeasedMessage, policy: DeliveryPolicy) -> wire.Proto:
    """The message in a pull response, with `delivery_attempt` only under a dead-letter policy."""
    message = leased.message
    result = wire.ReceivedMessage(
        ack_id=leased.ack_id,
        message=wire.PubsubMessage(
            data=message.data,
            attributes=message.attributes,
            message_id=message.message_id,
            ordering_key=message.ordering_key,
        ),
        delivery_attempt=leased.attempt if policy.dead_letter else 0,
    )
    result.message.publish_time.FromDatetime(message.publish_time)
    return result

"""StreamingPull: messages go out as they become ready, within the stream's limits; acknowledgements come in."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from google.api_core.exceptions import InvalidArgument

from local_emulators.pubsub import wire
from local_emulators.pubsub.backlog import Consumer, Delivery
from local_emulators.pubsub.rendering import received_message
from local_emulators.pubsub.rules import MIN_ACK_DEADLINE, check_ack_deadline
from local_emulators.pubsub.subscription import Subscription

_MAX_MESSAGES_PER_RESPONSE = 100


async def streaming_pull(
    find: Callable[[str], Subscription],
    requests: AsyncIterator[wire.Proto],
    send: Callable[[wire.Proto], Awaitable[None]],
) -> None:
    """Serve one stream until the client ends it. Raises the google.api_core exception that ends it otherwise.

    Messages that are out when the stream ends stay leased until their deadline.
    """
    opening = await anext(requests, None)
    if opening is None:
        raise InvalidArgument("The stream ended before its first request. Send one that names the subscription.")
    stream = _Stream(find(opening.subscription), opening)
    stream.apply(opening)
    await stream.run(requests, send)


class _Stream:
    """One open StreamingPull."""

    def __init__(self, subscription: Subscription, opening: wire.Proto) -> None:
        if not opening.stream_ack_deadline_seconds:
            raise InvalidArgument("The first request of a stream must set stream_ack_deadline_seconds.")
        self._subscription = subscription
        self._seconds = MIN_ACK_DEADLINE
        # Only a limit above zero is one; clients send 0 or less for none.
        self._consumer = Consumer(
            max_messages=max(0, opening.max_outstanding_messages), max_bytes=max(0, opening.max_outstanding_bytes)
        )
        self._changed = asyncio.Event()

    def apply(self, request: wire.Proto) -> None:
        """What a request on the stream asks for, acknowledgements first."""
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
                while deliveries := self._take():
                    await send(self._response(deliveries))
                await self._changed.wait()
            reader.result()
        finally:
            unwatch()
            reader.cancel()

    async def _read(self, requests: AsyncIterator[wire.Proto]) -> None:
        async for request in requests:
            self.apply(request)

    def _take(self) -> list[Delivery]:
        self._subscription.check_pullable()
        return self._subscription.lease(self._consumer, limit=_MAX_MESSAGES_PER_RESPONSE, seconds=self._seconds)

    def _response(self, deliveries: list[Delivery]) -> wire.Proto:
        rules = self._subscription.rules
        return wire.StreamingPullResponse(
            received_messages=[received_message(delivery, rules) for delivery in deliveries],
            subscription_properties={},
        )

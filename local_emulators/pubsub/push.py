"""Push delivery: POST messages to the subscription's endpoint; the status acknowledges or refuses a message.

Requests run on daemon threads, since urllib3 blocks. The number of threads per subscription is bounded, and zero
without messages.
"""

import asyncio
import base64
import contextlib
import functools
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import urllib3

from local_emulators.pubsub.backlog import Consumer, LeasedMessage
from local_emulators.pubsub.oidc import TokenIssuer
from local_emulators.pubsub.policy import DeliveryPolicy, PushTarget
from local_emulators.pubsub.subscription import Subscription

#: Statuses for acknowledging a pushed message; every other status refuses the message.
ACKNOWLEDGING_STATUSES = frozenset({102, 200, 201, 202, 204})

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PushResult:
    """The result of one push request; `reason` is the HTTP status, or the error without a response."""

    acknowledged: bool
    reason: str


class PushDispatcher:
    """Pushes the messages of every attached subscription with a push endpoint."""

    def __init__(self, issuer: TokenIssuer, *, concurrency: int = 32) -> None:
        """`concurrency` is the largest number of concurrent requests per subscription."""
        self._issuer = issuer
        self._concurrency = concurrency
        self._connections = urllib3.PoolManager(maxsize=concurrency, retries=False)

    def attach(self, subscription: Subscription) -> None:
        """Push the messages of a subscription until the subscription is closed."""
        _Pusher(subscription, self._post, self._concurrency).start()

    def _post(self, push: PushTarget, body: bytes, timeout: float) -> PushResult:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "CloudPubSub-Google",
            "From": "noreply@google.com",
        }
        if push.service_account_email:
            headers["Authorization"] = f"Bearer {self._issuer.token(push.service_account_email, push.audience)}"
        try:
            response = self._connections.request(
                "POST",
                push.endpoint,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=timeout),
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return PushResult(acknowledged=False, reason=f"{type(error).__name__}: {error}")
        return PushResult(response.status in ACKNOWLEDGING_STATUSES, f"status {response.status}")


class _Pusher:
    """Pushes the messages of one subscription, up to `concurrency` at once."""

    def __init__(
        self, subscription: Subscription, post: Callable[[PushTarget, bytes, float], PushResult], concurrency: int
    ) -> None:
        self._subscription = subscription
        self._post = post
        self._concurrency = concurrency
        self._consumer = Consumer(max_messages=concurrency)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._subscription.watch(self._pump)
        self._pump()

    def _pump(self) -> None:
        policy = self._subscription.policy
        if policy.push is None or not self._subscription.is_open:
            return
        for leased in self._subscription.lease(
            self._consumer, limit=self._concurrency, seconds=policy.ack_deadline
        ):
            task = asyncio.create_task(self._deliver(leased, policy.push, policy.ack_deadline))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, leased: LeasedMessage, push: PushTarget, timeout: float) -> None:  # noqa: ASYNC109
        body = push_body(self._subscription.name, leased, self._subscription.policy)
        result = await _in_daemon_thread(functools.partial(self._post, push, body, timeout))
        if result.acknowledged:
            self._subscription.acknowledge([leased.ack_id])
            return
        _log.warning(
            "push refused subscription=%s message_id=%s attempt=%d endpoint=%s reason=%s",
            self._subscription.name, leased.message.message_id, leased.attempt, push.endpoint, result.reason,
        )  # fmt: skip
        self._subscription.modify([leased.ack_id], 0)


def push_body(subscription: str, leased: LeasedMessage, policy: DeliveryPolicy) -> bytes:
    """The JSON body of a push request, with `deliveryAttempt` only under a dead-letter policy."""
    message = leased.message
    published = message.publish_timestamp
    wrapped: dict[str, Any] = {
        "messageId": message.message_id,
        "message_id": message.message_id,
        "publishTime": published,
        "publish_time": published,
    }
    optional = {
        "attributes": dict(message.attributes),
        "data": base64.b64encode(message.data).decode("ascii"),
        "orderingKey": message.ordering_key,
    }
    wrapped |= {name: value for name, value in optional.items() if value}
    envelope: dict[str, Any] = {"message": wrapped, "subscription": subscription}
    if policy.dead_letter:
        envelope["deliveryAttempt"] = leased.attempt
    return json.dumps(envelope).encode()


async def _in_daemon_thread(call: Callable[[], T]) -> T:
    """Run a blocking call on a daemon thread: an executor's thread would delay the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(setter: Callable[[Any], None], result: object) -> None:
        if not future.done():
            setter(result)

    def run() -> None:
        try:
            settled = functools.partial(settle, future.set_result, call())
        except Exception as error:  # noqa: BLE001 - raised again at the await
            settled = functools.partial(settle, future.set_exception, error)
        # If the process stops during a request, the loop is closed already.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settled)

    threading.Thread(target=run, name="push", daemon=True).start()
    return await future

"""A running subscription: the resource, the backlog, a timer for the next deadline, and listeners for changes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from google.api_core.exceptions import FailedPrecondition, GoogleAPICallError, InvalidArgument

from local_emulators.pubsub import wire
from local_emulators.pubsub.backlog import Backlog, Consumer, Forward, LeasedMessage, MalformedAckId, Message
from local_emulators.pubsub.policy import DeliveryPolicy

#: The largest response, except for a single larger message.
MAX_RESPONSE_BYTES = 10 * 1024 * 1024


class TimerHandle(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


class Clock(Protocol):
    """Monotonic seconds and scheduled calls, for example an asyncio event loop."""

    def time(self) -> float:
        """Seconds now."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> TimerHandle:
        """Call `callback` once at `when`."""


class Subscription:
    """One subscription. Not thread-safe: all calls are on the event loop's thread.

    Operations raise the google.api_core exception for the status of the RPC.
    """

    def __init__(self, resource: wire.Proto, policy: DeliveryPolicy, clock: Clock, forward: Forward) -> None:
        #: The google.pubsub.v1.Subscription message, as in the response of GetSubscription.
        self.resource = resource
        self._clock = clock
        self._backlog = Backlog(resource.name, policy, forward)
        self._listeners: set[Callable[[], object]] = set()
        self._timer: TimerHandle | None = None
        self._timer_due: float | None = None
        self._closed: GoogleAPICallError | None = None

    @property
    def name(self) -> str:
        """`projects/PROJECT/subscriptions/ID`."""
        return str(self.resource.name)

    @property
    def policy(self) -> DeliveryPolicy:
        """The current delivery policy."""
        return self._backlog.policy

    @property
    def undelivered(self) -> int:
        """The number of messages not yet acknowledged."""
        return len(self._backlog)

    @property
    def is_open(self) -> bool:
        """False once deleted or detached."""
        return self._closed is None

    def change(self, resource: wire.Proto, policy: DeliveryPolicy) -> None:
        """Replace resource and policy; current leases keep the deadline."""
        self.resource = resource
        self._backlog.policy = policy
        self._changed()

    def offer(self, messages: Iterable[Message]) -> None:
        """Add the messages accepted by the filter."""
        before = len(self._backlog)
        for message in messages:
            if self.policy.accepts(message.attributes):
                self._backlog.add(message)
        if len(self._backlog) > before:
            self._changed()

    def lease(self, consumer: Consumer, *, limit: int, seconds: float) -> list[LeasedMessage]:
        """Lease ready messages. Raises the error given to `close` if closed."""
        self.check_open()
        leased_messages = self._backlog.lease(
            self._clock.time(), limit=limit, max_bytes=MAX_RESPONSE_BYTES, seconds=seconds, consumer=consumer
        )
        self._rearm()
        return leased_messages

    def acknowledge(self, ack_ids: Iterable[str]) -> None:
        """Remove messages. Raises InvalidArgument for an id of another subscription."""
        with _ack_id_errors():
            self._backlog.acknowledge(ack_ids)
        self._changed()

    def modify(self, ack_ids: Iterable[str], seconds: float) -> None:
        """Move deadlines to `seconds` from now; 0 refuses the message. Raises InvalidArgument for a foreign id."""
        with _ack_id_errors():
            self._backlog.modify(ack_ids, seconds, self._clock.time())
        self._changed()

    def watch(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call `listener` after every change or close; returns a function to remove the listener."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def close(self, error: GoogleAPICallError) -> None:
        """Drop all messages; every later lease raises `error`."""
        self._closed = error
        self._backlog.clear()
        self._changed()

    def check_open(self) -> None:
        """Raise the error given to `close` if closed."""
        if self._closed is not None:
            raise self._closed

    def check_pullable(self) -> None:
        """Raise FailedPrecondition for a push subscription."""
        self.check_open()
        if self.policy.push is not None:
            raise FailedPrecondition(
                f"Pull is not supported for this subscription type: {self.name} pushes to "
                f"{self.policy.push.endpoint}. Clear its push_config first."
            )

    def _changed(self) -> None:
        self._rearm()
        for listener in tuple(self._listeners):
            listener()

    def _rearm(self) -> None:
        due = self._backlog.next_due()
        if due == self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = None if due is None else self._clock.call_at(due, self._on_due)

    def _on_due(self) -> None:
        self._timer = self._timer_due = None
        self._backlog.advance(self._clock.time())
        self._changed()


@contextmanager
def _ack_id_errors() -> Iterator[None]:
    try:
        yield
    except MalformedAckId as error:
        raise InvalidArgument(f"Invalid ack id (ack_id={error}). Use one from this subscription.") from error

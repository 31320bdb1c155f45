"""A subscription at work: its resource, its backlog, the one timer it needs, and who wants to hear of changes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from google.api_core.exceptions import FailedPrecondition, GoogleAPICallError, InvalidArgument

from local_emulators.pubsub import wire
from local_emulators.pubsub.backlog import Backlog, Consumer, Forward, LeasedMessage, MalformedAckId, Message
from local_emulators.pubsub.policy import DeliveryPolicy

#: No response carries more than this, save for one message that is larger by itself.
MAX_RESPONSE_BYTES = 10 * 1024 * 1024


class TimerHandle(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Drop the call."""


class Clock(Protocol):
    """Monotonic seconds and calls at a later time; an asyncio event loop is one."""

    def time(self) -> float:
        """Seconds now."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> TimerHandle:
        """Call back once at that time."""


class Subscription:
    """One subscription. Not thread-safe: everything happens on the event loop's thread.

    Operations raise the google.api_core exception that the RPC answers with.
    """

    def __init__(self, resource: wire.Proto, policy: DeliveryPolicy, clock: Clock, forward: Forward) -> None:
        #: The google.pubsub.v1.Subscription message, as Get answers it.
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
        """How messages are treated now."""
        return self._backlog.policy

    @property
    def undelivered(self) -> int:
        """Messages not yet acknowledged."""
        return len(self._backlog)

    @property
    def is_open(self) -> bool:
        """False once deleted or detached."""
        return self._closed is None

    def change(self, resource: wire.Proto, policy: DeliveryPolicy) -> None:
        """Replace resource and policy; leases that are out keep their deadline."""
        self.resource = resource
        self._backlog.policy = policy
        self._changed()

    def offer(self, messages: Iterable[Message]) -> None:
        """Take the messages that pass the filter."""
        before = len(self._backlog)
        for message in messages:
            if self.policy.accepts(message.attributes):
                self._backlog.add(message)
        if len(self._backlog) > before:
            self._changed()

    def lease(self, consumer: Consumer, *, limit: int, seconds: float) -> list[LeasedMessage]:
        """Hand out ready messages. Raises what `close` was given, once closed."""
        self.check_open()
        leased_messages = self._backlog.lease(
            self._clock.time(), limit=limit, max_bytes=MAX_RESPONSE_BYTES, seconds=seconds, consumer=consumer
        )
        self._rearm()
        return leased_messages

    def acknowledge(self, ack_ids: Iterable[str]) -> None:
        """Remove messages. Raises InvalidArgument for an id that is none of ours."""
        with _named_ack_ids():
            self._backlog.acknowledge(ack_ids)
        self._changed()

    def modify(self, ack_ids: Iterable[str], seconds: float) -> None:
        """Move deadlines to `seconds` from now, 0 gives back. Raises InvalidArgument for a foreign id."""
        with _named_ack_ids():
            self._backlog.modify(ack_ids, seconds, self._clock.time())
        self._changed()

    def watch(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call `listener` when messages may be ready, room was made, or it closed; returns how to stop that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def close(self, error: GoogleAPICallError) -> None:
        """Drop every message and refuse deliveries with this error from now on."""
        self._closed = error
        self._backlog.clear()
        self._changed()

    def check_open(self) -> None:
        """Raise what `close` was given, once closed."""
        if self._closed is not None:
            raise self._closed

    def check_pullable(self) -> None:
        """Raise FailedPrecondition while messages are pushed."""
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
def _named_ack_ids() -> Iterator[None]:
    try:
        yield
    except MalformedAckId as error:
        raise InvalidArgument(f"Invalid ack id (ack_id={error}). Use one from this subscription.") from error

"""The messages of one subscription: ready, leased, or delayed until a redelivery.

Pure: time is an argument (seconds of any monotonic clock), and no function sleeps or locks. Delivery is at least
once and unordered. Messages stay in memory until acknowledged or forwarded.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from local_emulators.pubsub.policy import DeliveryPolicy

#: Forwards a message after the last attempt; False on failure, and the message stays in the backlog.
Forward = Callable[["Message", int], bool]


class MalformedAckId(ValueError):
    """An acknowledgement id of a wrong form or of another subscription."""


@dataclass(frozen=True, slots=True)
class Message:
    """A published message; `publish_time` is in UTC."""

    message_id: str
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str
    publish_time: datetime

    @property
    def size(self) -> int:
        """Bytes of the payload and the attributes."""
        return len(self.data) + sum(len(key) + len(value) for key, value in self.attributes.items())

    @property
    def publish_timestamp(self) -> str:
        """`publish_time` as Pub/Sub writes it in JSON and in attributes, to the millisecond."""
        return self.publish_time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class LeasedMessage:
    """One delivery of a message, leased until the acknowledgement deadline; `attempt` counts from 1."""

    ack_id: str
    message: Message
    attempt: int


@dataclass(eq=False, slots=True)
class Consumer:
    """A holder of leases, with limits on messages and bytes leased at once (0: no limit)."""

    max_messages: int = 0
    max_bytes: int = 0
    messages: int = 0
    bytes: int = 0

    @property
    def has_room(self) -> bool:
        """True if the limits allow another message."""
        return not (0 < self.max_messages <= self.messages or 0 < self.max_bytes <= self.bytes)


@dataclass(eq=False, slots=True)
class _Entry:
    serial: int
    message: Message
    attempt: int = 0
    #: The end of the lease or the delay; None while the message is ready.
    due: float | None = None
    #: The holder of the lease; None without a lease.
    holder: Consumer | None = None


@dataclass(eq=False)
class Backlog:
    """One subscription's undelivered and unacknowledged messages."""

    name: str
    policy: DeliveryPolicy
    forward: Forward
    _entries: dict[int, _Entry] = field(default_factory=dict)
    _ready: deque[int] = field(default_factory=deque)
    _timers: list[tuple[float, int]] = field(default_factory=list)
    _serials: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, message: Message) -> None:
        """Append a message, ready at once."""
        entry = _Entry(next(self._serials), message)
        self._entries[entry.serial] = entry
        self._ready.append(entry.serial)

    def lease(
        self, now: float, *, limit: int, max_bytes: int, seconds: float, consumer: Consumer
    ) -> list[LeasedMessage]:
        """Lease up to `limit` ready messages for `seconds`, oldest first, within the consumer's limits.

        The messages together have at most `max_bytes`; a single larger message is leased alone.
        """
        leased_messages: list[LeasedMessage] = []
        size = 0
        while self._ready and len(leased_messages) < limit and consumer.has_room:
            entry = self._entries[self._ready[0]]
            size += entry.message.size
            if leased_messages and size > max_bytes:
                break
            self._ready.popleft()
            leased_messages.append(self._deliver(entry, now + seconds, consumer))
        return leased_messages

    def acknowledge(self, ack_ids: Iterable[str]) -> None:
        """Remove the messages; the id of an ended lease has no effect. Raises MalformedAckId."""
        for entry in self._leased(ack_ids):
            self._free(entry)
            del self._entries[entry.serial]

    def modify(self, ack_ids: Iterable[str], seconds: float, now: float) -> None:
        """Move the end of the leases to `seconds` from now; 0 refuses the messages. Raises MalformedAckId."""
        for entry in self._leased(ack_ids):
            if seconds:
                self._schedule(entry, now + seconds)
            else:
                self._fail(entry, now)

    def advance(self, now: float) -> None:
        """End due leases and delays: an expired lease is a failed delivery, a delayed message becomes ready."""
        while (due := self.next_due()) is not None and due <= now:
            entry = self._entries[heapq.heappop(self._timers)[1]]
            if entry.holder is not None:
                self._fail(entry, now)
            else:
                self._make_ready(entry)

    def next_due(self) -> float | None:
        """The earliest end of a lease or a delay; None without leases and delays."""
        while self._timers and not self._is_current(*self._timers[0]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def clear(self) -> None:
        """Drop every message."""
        for entry in self._entries.values():
            self._free(entry)
        self._entries.clear()
        self._ready.clear()
        self._timers.clear()

    def _deliver(self, entry: _Entry, due: float, consumer: Consumer) -> LeasedMessage:
        entry.attempt += 1
        entry.holder = consumer
        consumer.messages += 1
        consumer.bytes += entry.message.size
        self._schedule(entry, due)
        return LeasedMessage(f"{self.name}:{entry.serial}:{entry.attempt}", entry.message, entry.attempt)

    def _leased(self, ack_ids: Iterable[str]) -> list[_Entry]:
        """The entries with a current lease under the ids, without duplicates; a malformed id fails the call."""
        wanted = dict.fromkeys(self._parse(ack_id) for ack_id in ack_ids)
        found = ((self._entries.get(serial), attempt) for serial, attempt in wanted)
        return [entry for entry, attempt in found if entry and entry.holder and entry.attempt == attempt]

    def _parse(self, ack_id: str) -> tuple[int, int]:
        name, *numbers = ack_id.rsplit(":", 2)
        if name != self.name or len(numbers) != 2 or not all(_is_number(text) for text in numbers):
            raise MalformedAckId(ack_id)
        return int(numbers[0]), int(numbers[1])

    def _fail(self, entry: _Entry, now: float) -> None:
        self._free(entry)
        dead_letter = self.policy.dead_letter
        if (
            dead_letter
            and entry.attempt >= dead_letter.max_attempts
            and self.forward(entry.message, entry.attempt)
        ):
            del self._entries[entry.serial]
            return
        delay = self.policy.backoff.after(entry.attempt)
        if delay > 0:
            self._schedule(entry, now + delay)
        else:
            self._make_ready(entry)

    def _make_ready(self, entry: _Entry) -> None:
        entry.due = None
        self._ready.append(entry.serial)

    def _schedule(self, entry: _Entry, due: float) -> None:
        entry.due = due
        heapq.heappush(self._timers, (due, entry.serial))

    def _is_current(self, due: float, serial: int) -> bool:
        entry = self._entries.get(serial)
        return entry is not None and entry.due == due

    @staticmethod
    def _free(entry: _Entry) -> None:
        if entry.holder is not None:
            entry.holder.messages -= 1
            entry.holder.bytes -= entry.message.size
        entry.holder = None
        entry.due = None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19

"""The messages of one subscription: which are ready, which are out on a lease, which wait for a redelivery.

Pure: time comes in as an argument (seconds on any monotonic clock), nothing sleeps and nothing locks.
LeasedMessage is at least once and unordered. Messages live in memory until they are acknowledged or forwarded.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from local_emulators.pubsub.policy import DeliveryPolicy

#: Forwards a message whose attempts are used up; False when it could not, and the message stays.
Forward = Callable[["Message", int], bool]


class MalformedAckId(ValueError):
    """An acknowledgement id that this subscription cannot have given out."""


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
    """One delivery of a message; `attempt` counts from 1."""

    ack_id: str
    message: Message
    attempt: int


@dataclass(eq=False, slots=True)
class Consumer:
    """Somebody who holds leases, and how much it may hold at once (0: no limit)."""

    max_messages: int = 0
    max_bytes: int = 0
    messages: int = 0
    bytes: int = 0

    @property
    def has_room(self) -> bool:
        """Whether it may take one more message."""
        return not (0 < self.max_messages <= self.messages or 0 < self.max_bytes <= self.bytes)


@dataclass(eq=False, slots=True)
class _Entry:
    serial: int
    message: Message
    attempt: int = 0
    #: When the lease or the delay ends; None while the message is ready.
    due: float | None = None
    #: Who holds the lease; None while there is none.
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
        """Append a message; it is ready at once."""
        entry = _Entry(next(self._serials), message)
        self._entries[entry.serial] = entry
        self._ready.append(entry.serial)

    def lease(
        self, now: float, *, limit: int, max_bytes: int, seconds: float, consumer: Consumer
    ) -> list[LeasedMessage]:
        """Hand out up to `limit` ready messages for `seconds`, oldest first, while the consumer has room.

        Stops before `max_bytes` are passed, but never leaves out the first.
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
        """Remove the messages; an id whose lease is over is ignored. Raises MalformedAckId."""
        for entry in self._leased(ack_ids):
            self._free(entry)
            del self._entries[entry.serial]

    def modify(self, ack_ids: Iterable[str], seconds: float, now: float) -> None:
        """Let the leases end `seconds` from now; 0 gives the message back. Raises MalformedAckId."""
        for entry in self._leased(ack_ids):
            if seconds:
                self._schedule(entry, now + seconds)
            else:
                self._fail(entry, now)

    def advance(self, now: float) -> None:
        """End what is due: a lease that ran out counts as a failed delivery, a delay makes the message ready."""
        while (due := self.next_due()) is not None and due <= now:
            entry = self._entries[heapq.heappop(self._timers)[1]]
            if entry.holder is not None:
                self._fail(entry, now)
            else:
                self._make_ready(entry)

    def next_due(self) -> float | None:
        """When `advance` has something to do next; None: never, as things stand."""
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
        """The entries whose present lease these ids name, each once; every id is checked before any is used."""
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

"""Changes of rows on the way to the clients of a process. No I/O; every call is in the event loop's thread.

The id of an event is a snapshot of Postgres (`db.snapshot`) with a property for the stream of the event:
each change that the snapshot sees was sent on the stream before, or is older than the stream. So a client that
comes back with the id misses no change, also of a transaction that began earlier and was committed later.

Notifications arrive in the order of commits. A snapshot read after some notifications may see a
change with a notification still on the way. As soon as a notification arrives that the snapshot does not see,
all changes that the snapshot sees have arrived: then the snapshot becomes the id of the next events.
"""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from db.changes import Changes
from db.listen import Notice
from db.models import EVERY_TASK
from db.reads import CaptionRecord
from db.snapshot import Snapshot
from dropline.contract import ChangeNotice, FilteredNotice, ObjectVersion
from gallery.documents import change_document, row_document

#: Most waiting events of a slow client. The stream then ends, and the client comes back with the last id.
MOST_WAITING = 10_000
#: Most bytes of them; all streams share the events.
MOST_WAITING_BYTES = 32 * 1024 * 1024
#: Most rows sent after a lost connection; beyond the limit a client has to read the table again.
MOST_MISSED = 1_000


@dataclass(frozen=True, slots=True)
class Event:
    """A block of a stream, shared by all streams."""

    #: The transaction of the change.
    changed_in: int
    block: bytes


class Stream:
    """The waiting events of a client."""

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._seen: Snapshot | None = None
        self.is_open = True

    def put(self, event: Event) -> None:
        """Append an event, unless its change was sent as a part of a present state."""
        if self._seen is not None and self._seen.sees(event.changed_in):
            return
        self._append(event)

    def put_state(self, events: Iterable[Event], snapshot: Snapshot) -> None:
        """Append the present state of rows, and leave out the further changes that the snapshot sees."""
        for event in events:
            self.put(event)
        # The state is complete: the client comes back with its snapshot.
        self._append(Event(snapshot.xmax, id_block(snapshot)))
        self._leave_out(snapshot)

    def begin_with(self, snapshot: Snapshot) -> None:
        """Leave out all changes in the snapshot, since the client has them."""
        self._waiting = deque(event for event in self._waiting if not snapshot.sees(event.changed_in))
        self._waiting_bytes = sum(len(event.block) for event in self._waiting)
        self._leave_out(snapshot)

    async def take(self, timeout_s: float, most_bytes: int) -> list[bytes]:
        """A block, and further blocks up to `most_bytes`; none after the time, or at the end of the stream."""
        if not self._waiting and self.is_open:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
        self._arrived.clear()
        taken: list[bytes] = []
        size = 0
        while self._waiting and (not taken or size + len(self._waiting[0].block) <= most_bytes):
            taken.append(self._waiting.popleft().block)
            size += len(taken[-1])
        self._waiting_bytes -= size
        return taken

    def end(self) -> None:
        """Drop the waiting events, and end the stream."""
        self.is_open = False
        self._waiting.clear()
        self._waiting_bytes = 0
        self._arrived.set()

    def _append(self, event: Event) -> None:
        if len(self._waiting) >= MOST_WAITING or self._waiting_bytes > MOST_WAITING_BYTES:
            self.end()
        if self.is_open:
            self._waiting.append(event)
            self._waiting_bytes += len(event.block)
            self._arrived.set()

    def _leave_out(self, snapshot: Snapshot) -> None:
        if self._seen is None or snapshot.is_after(self._seen):
            self._seen = snapshot


@dataclass(eq=False, slots=True)
class Waiter:
    """A request waiting for the next news about an object version."""

    news: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set if a rule filtered the object version.
    filtered: FilteredNotice | None = None
    #: True when the client has gone away.
    has_left: bool = False

    def leave(self) -> None:
        """End the wait without an answer."""
        self.has_left = True
        self.news.set()

    async def has_news(self, timeout_s: float) -> bool:
        """Wait for news, for `timeout_s` seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.news.wait()
        arrived = self.news.is_set()
        self.news.clear()
        return arrived


class Feed:
    """Passes changes to streams and waiters."""

    def __init__(self) -> None:
        self._streams: set[Stream] = set()
        self._waiters: defaultdict[ObjectVersion, set[Waiter]] = defaultdict(set)
        #: The id of the next events; None before the first snapshot.
        self._confirmed: Snapshot | None = None
        #: A snapshot of which some changes may not have arrived.
        self._candidate: Snapshot | None = None
        #: The changes that were sent since `_confirmed`, as id and transaction.
        self._sent: set[tuple[int, int]] = set()
        #: True when the process stops.
        self.has_ended = False

    @property
    def streams(self) -> int:
        """The number of streams."""
        return len(self._streams)

    @property
    def waiters(self) -> int:
        """The number of waiting requests."""
        return sum(map(len, self._waiters.values()))

    @property
    def confirmed(self) -> Snapshot | None:
        """The snapshot after which changes must be read when notifications were lost."""
        return self._confirmed

    @contextmanager
    def stream(self) -> Iterator[Stream]:
        """A stream of the changes that arrive from now on."""
        stream = Stream()
        if self.has_ended:
            stream.end()
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)

    @contextmanager
    def waiting_for(self, version: ObjectVersion) -> Iterator[Waiter]:
        """A waiter; read the row inside the block, not before, and no news is missed."""
        waiter = Waiter()
        self._waiters[version].add(waiter)
        try:
            yield waiter
        finally:
            self._waiters[version].discard(waiter)
            if not self._waiters[version]:
                del self._waiters[version]

    def wake(self, notices: Iterable[Notice]) -> None:
        """Wake the waiters of the notices' object versions."""
        for notice in notices:
            for waiter in self._waiters.get(version_of(notice), ()):
                if isinstance(notice, FilteredNotice):
                    waiter.filtered = notice
                waiter.news.set()

    def wake_all(self) -> None:
        """Wake all waiters: notifications may have been lost."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.news.set()

    def offer(self, snapshot: Snapshot) -> None:
        """Take a snapshot that was read after the only stream began, as the id of its next events.

        The changes that it sees are older than the stream, or were sent as a present state. With further streams
        the offer is ignored: one of them may have begun with an older state.
        """
        if self._confirmed is None or len(self._streams) <= 1:
            self._confirm(snapshot)

    def publish(self, notices: Iterable[ChangeNotice], changes: Changes) -> None:
        """Send changes in the order of their notifications.

        Args:
            notices: which arrived before the rows were read.
            changes: their rows.
        """
        rows = {row.id: row for row in changes.rows}
        for notice in notices:
            self._confirm_at(notice.changed_in)
            row = rows.get(notice.id)
            if row is not None and row.task != EVERY_TASK:
                self._send(self._event(notice.changed_in, change_document(row, notice)))
                self._sent.add((notice.id, notice.changed_in))
        self._candidate = self._candidate or changes.snapshot

    def catch_up(self, changes: Changes) -> None:
        """Send the present state of the rows that changed after `confirmed`; notifications may have been lost."""
        events = [
            self._event(row.changed_in or 0, row_document(row))
            for row in changes.rows
            if (row.id, row.changed_in) not in self._sent
        ]
        for stream in self._streams:
            stream.put_state(events, changes.snapshot)
        self._sent.update((row.id, row.changed_in or 0) for row in changes.rows)
        self._end_catch_up(changes.snapshot)

    def reset(self, snapshot: Snapshot) -> None:
        """Tell all clients to read the table again: more changes were missed than are sent."""
        for stream in self._streams:
            stream.put_state([Event(snapshot.xmax, reset_block(snapshot))], snapshot)
        self._end_catch_up(snapshot)

    def end_streams(self) -> None:
        """End all streams and waits: the process stops."""
        self.has_ended = True
        for stream in self._streams:
            stream.end()
        self.wake_all()

    def _end_catch_up(self, snapshot: Snapshot) -> None:
        self._confirmed = self._confirmed or snapshot
        self._candidate = snapshot
        self.wake_all()

    def _confirm_at(self, changed_in: int) -> None:
        """A change that the candidate does not see has arrived: so have all changes that the candidate sees."""
        if self._candidate is not None and not self._candidate.sees(changed_in):
            self._confirm(self._candidate)

    def _confirm(self, snapshot: Snapshot) -> None:
        self._confirmed, self._candidate = snapshot, None
        self._sent.clear()

    def _event(self, changed_in: int, document: Mapping[str, object]) -> Event:
        return Event(changed_in, f"id: {self._confirmed}\n".encode() + caption_block(document))

    def _send(self, event: Event) -> None:
        for stream in self._streams:
            stream.put(event)


def version_of(notice: Notice) -> ObjectVersion:
    """The object version of a notification."""
    if isinstance(notice, FilteredNotice):
        return notice.version
    return ObjectVersion(notice.bucket, notice.object_name, notice.generation)


def state_blocks(rows: Iterable[CaptionRecord], snapshot: Snapshot) -> list[bytes]:
    """The present state of rows; the id comes last: a client without all rows comes back with its old id."""
    return [*(caption_block(row_document(row)) for row in rows), id_block(snapshot)]


def caption_block(document: Mapping[str, object]) -> bytes:
    """The event of a row, in ASCII: some clients take a line separator of Unicode for the end of a line."""
    return f"event: caption\ndata: {json.dumps(document, separators=(',', ':'))}\n\n".encode()


def reset_block(snapshot: Snapshot) -> bytes:
    """The event after too many missed changes."""
    return f'id: {snapshot}\nevent: reset\ndata: {{"most_missed":{MOST_MISSED}}}\n\n'.encode()


def id_block(snapshot: Snapshot) -> bytes:
    """An id without an event: the client keeps the id and runs no handler."""
    return f"id: {snapshot}\n\n".encode()

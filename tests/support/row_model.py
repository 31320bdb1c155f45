"""A reference model of the captions table, in a few lines of Python.

The model has an object with generations and tasks, and no clock: a lease is held, over, or None, and a not-before
time is to come, past, or None. The steps of the model are numbered: due rows are in the order of these numbers.
"""

import enum
from collections.abc import Collection
from dataclasses import dataclass, field

from dropline.contract import Status

#: Generation and task: the key of a row of the object.
Key = tuple[int, str]
TOMBSTONE_TASK = "*"


class Lease(enum.Enum):
    """State of a lease, without a clock."""

    HELD = "held"
    OVER = "over"


class NotBefore(enum.Enum):
    """State of a not-before time, without a clock."""

    TO_COME = "to come"
    PAST = "past"


@dataclass
class Row:
    """The compared columns of a row."""

    status: Status
    attempts: int = 0
    lost_attempts: int = 0
    before_redrive: int = 0
    lease: Lease | None = None
    caption: str | None = None
    code: str | None = None
    written: bool = False
    write_back: bool = True
    priority: int = 0
    not_before: NotBefore | None = None
    #: True from the first transient error to the end of the row.
    failing: bool = False
    redo: bool = False
    claimed_by: str | None = None
    #: True if the last redo was given up.
    redo_failed: bool = False
    #: Replaced captions, the oldest first.
    history: list[str] = field(default_factory=list)
    #: Steps at which the row was queued, the lease ran out, and the not-before time passed.
    queued_in: int = field(default=0, compare=False)
    lease_over_in: int = field(default=0, compare=False)
    not_before_in: int = field(default=0, compare=False)

    def end(self, status: Status) -> None:
        """An event ends the row with `status`."""
        self.status, self.lease = status, None

    def finish(self, status: Status) -> None:
        """The attempt ends the row; a row that is captioned again keeps the old caption."""
        self.end(status)
        self.not_before, self.failing, self.redo = None, False, False

    @property
    def needs_attempt(self) -> bool:
        """False if only the write-back is missing."""
        return self.status is not Status.CAPTIONED or self.redo

    @property
    def is_fresh(self) -> bool:
        """True if the row can be claimed together with others."""
        return self.needs_attempt and self.lease is None and self.lost_attempts == 0

    @property
    def is_unfinished(self) -> bool:
        """True for a row that a worker has to claim, now or later."""
        to_redo = self.redo and self.status is Status.CAPTIONED
        return self.status is Status.QUEUED or self.lease is not None or to_redo

    @property
    def due_in(self) -> int | None:
        """The step since which the row is due; None if its time is to come."""
        if self.lease is not None:
            return self.lease_over_in if self.lease is Lease.OVER else None
        if self.not_before is not None:
            return self.not_before_in if self.not_before is NotBefore.PAST else None
        return self.queued_in


@dataclass(frozen=True)
class Token:
    """The claim of a worker for a caption; the row may have changed since."""

    key: Key
    attempt: int
    lost_attempts: int
    before_redrive: int
    failing: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Copy:
    """The claim of a worker for a write-back."""

    key: Key
    claimed_by: str
    caption: str | None


@dataclass
class ObjectModel:
    """All rows of an object, and the notices of changed rows."""

    rows: dict[Key, Row] = field(default_factory=dict)
    notices: list[tuple[Key, Status, bool]] = field(default_factory=list)
    step: int = 0
    #: True if the end of the last write-back was refused, and its row is due.
    is_due_again: bool = False

    def finalize(self, key: Key, *, own_task: bool = True) -> Status:
        """A FINALIZE, or a request for a further task: the status of the row."""
        generation = key[0]
        write_back = own_task and not any(row.write_back for (g, _), row in self.rows.items() if g == generation)
        is_deleted = any(g == generation and row.status is Status.DELETED for (g, _), row in self.rows.items())
        if key in self.rows:
            self._adopt(self.rows[key], write_back=write_back and not is_deleted)
            return self.rows[key].status
        if is_deleted:
            return Status.DELETED
        late = any(
            g > generation or (g == generation and row.status is Status.SUPERSEDED)
            for (g, _), row in self.rows.items()
        )
        status = Status.SUPERSEDED if late else Status.QUEUED
        self.rows[key] = Row(status, write_back=write_back, queued_in=self._next())
        self._notify(key)
        for other, row in self._sorted():
            if other[0] < generation and not row.status.is_terminal:
                row.end(Status.SUPERSEDED)
                self._notify(other)
        return self.rows[key].status

    def _adopt(self, row: Row, *, write_back: bool) -> None:
        """The event of a row that a request has made: the row is written back, if no other row is."""
        if write_back and row.status is not Status.DELETED:
            row.write_back = True
            if row.status is Status.CAPTIONED and not row.redo:
                self._expire(row)

    def delete(self, generation: int) -> None:
        """A DELETE of a generation."""
        self._end_generation(generation, Status.DELETED, unless=(Status.DELETED,))

    def archive(self, generation: int) -> None:
        """An ARCHIVE of a generation."""
        self._end_generation(generation, Status.SUPERSEDED, unless=(Status.SUPERSEDED, Status.DELETED))

    def _end_generation(self, generation: int, status: Status, *, unless: tuple[Status, ...]) -> None:
        mine = [(key, row) for key, row in self._sorted() if key[0] == generation]
        for key, row in mine:
            if row.status not in unless:
                row.end(status)
                self._notify(key)
        if not mine:
            self.rows[generation, TOMBSTONE_TASK] = Row(status)
            self._notify((generation, TOMBSTONE_TASK))

    def redo(self, key: Key) -> None:
        """A captioned row is queued again, and keeps its caption."""
        row = self.rows.get(key)
        if row is not None and row.status is Status.CAPTIONED and not row.redo:
            news, row.lease = row.lease is not None, None
            row.redo, row.priority, row.queued_in = True, 1, self._next()
            row.not_before, row.failing = None, False
            row.lost_attempts, row.before_redrive, row.redo_failed = 0, row.attempts, False
            if news:
                self._notify(key)

    def prioritize(self, key: Key, priority: int) -> None:
        """The row has another priority."""
        if key in self.rows:
            self.rows[key].priority = priority

    def first_due(self, hint: Key | None = None, but: Collection[Key] = ()) -> list[Key]:
        """The keys of the most urgent rows, which have waited equally long; the hint alone, if it is as urgent."""
        found = [
            (row.priority, row.due_in, key) for key, row in self._sorted() if key not in but and self._is_due(row)
        ]
        if not found:
            return []
        first = min(priority for priority, _, _ in found)
        waiting = [(since or 0, key) for priority, since, key in found if priority == first]
        if hint in [key for _, key in waiting]:
            return [key for _, key in waiting if key == hint]
        return [key for since, key in waiting if since == min(waiting)[0]]

    def is_one_awaited(self, but: Collection[Key] = ()) -> bool:
        """True if the time of an unfinished row is to come."""
        return any(key not in but and row.is_unfinished and row.due_in is None for key, row in self.rows.items())

    def claim(self, hint: Key | None, child: str) -> Token | Copy | None:
        """A child claims the most urgent row; None if no row is due."""
        first = self.first_due(hint)
        return self.take(first[0], child) if first else None

    def take_siblings(self, key: Key, child: str) -> list[Token]:
        """The claims of the other due rows of the object version; call it before `take`."""
        if not self.rows[key].is_fresh:
            return []
        found = [
            other
            for other, row in self._sorted()
            if other != key and other[0] == key[0] and row.is_fresh and self._is_due(row)
        ]
        return [token for other in found if isinstance(token := self.take(other, child), Token)]

    def take(self, key: Key, child: str) -> Token | Copy:
        """A child claims a due row."""
        row = self.rows[key]
        lost, row.lease, row.claimed_by = row.lease is not None, Lease.HELD, child
        if not row.needs_attempt:
            return Copy(key, child, row.caption)
        row.attempts += 1
        row.lost_attempts += lost
        row.status = Status.RUNNING if row.status is Status.QUEUED else row.status
        return Token(key, row.attempts, row.lost_attempts, row.before_redrive, row.failing)

    def record(self, token: Token, caption: str, *, write_back: bool) -> bool:
        """Record a caption; False if the attempt is stale."""
        row = self.rows[token.key]
        if not (self._holds(token) or (row.status is Status.CAPTIONED and row.attempts == token.attempt)):
            return False
        if row.redo_failed or (row.redo and row.lease is None):
            return False
        write_back = write_back and row.write_back
        news = row.status is Status.RUNNING or (row.lease is not None and not write_back) or row.written
        if row.caption is not None and row.needs_attempt:
            row.history.append(row.caption)
        row.finish(Status.CAPTIONED)
        row.written = row.redo_failed = False
        row.caption, row.code, row.lease = caption, None, Lease.HELD if write_back else None
        if news:
            self._notify(token.key)
        return True

    def give_up(self, token: Token, status: Status, code: str | None) -> bool:
        """End an attempt without a caption: failed, superseded or deleted."""
        if not self._holds(token):
            return False
        row = self.rows[token.key]
        if status is Status.FAILED:
            row.redo_failed = row.redo
        row.finish(row.status if row.redo and status is Status.FAILED else status)
        row.code = code or row.code
        self._notify(token.key)
        return True

    def requeue(self, token: Token, code: str, not_before: NotBefore, *, lost: bool = False) -> bool:
        """End an attempt with a transient error."""
        if not self._holds(token):
            return False
        row = self.rows[token.key]
        row.end(row.status if row.redo else Status.QUEUED)
        row.code, row.not_before, row.failing, row.not_before_in = code, not_before, True, self._next()
        row.lost_attempts += lost
        self._notify(token.key)
        return True

    def _holds(self, token: Token) -> bool:
        row = self.rows[token.key]
        return row.attempts == token.attempt and (
            row.status is Status.RUNNING or (row.status is Status.CAPTIONED and row.redo and row.lease is not None)
        )

    def redrive(self) -> list[Key]:
        """Redrive all failed rows: the keys of the redriven rows."""
        failed = [key for key, row in self._newest() if row.status is Status.FAILED]
        for key in failed:
            row = self.rows[key]
            row.finish(Status.QUEUED)
            row.code, row.lost_attempts, row.before_redrive, row.queued_in = None, 0, row.attempts, self._next()
            self._notify(key)
        return failed

    def redrive_unwritten(self) -> list[Key]:
        """Redrive all unwritten rows: the keys of the redriven rows."""
        found = [
            key
            for key, row in self._newest()
            if row.status is Status.CAPTIONED
            and row.code
            and row.lease is None
            and not (row.written or row.redo or row.redo_failed)
        ]
        for key in found:
            self._expire(self.rows[key])
            self.rows[key].failing = False
        return found

    def finish_write_back(self, copy: Copy, *, written: bool) -> bool:
        """End a write-back, with or without success."""
        row = self.rows[copy.key]
        if row.status is not Status.CAPTIONED or row.redo or row.claimed_by != copy.claimed_by:
            self.is_due_again = self._write_again(row, copy)
            return False
        self.is_due_again = False
        news = row.lease is not None or written
        row.lease, row.failing = None, False
        row.written = row.written or written
        if not row.redo_failed:
            row.code = None if written else "left_out"
        if news:
            self._notify(copy.key)
        return True

    def postpone_write_back(self, copy: Copy) -> bool:
        """A write-back is due again later."""
        row = self.rows[copy.key]
        is_held = row.lease is not None and row.claimed_by == copy.claimed_by and not row.redo
        if row.status is not Status.CAPTIONED or not is_held:
            self.is_due_again = self._write_again(row, copy)
            return False
        self.is_due_again = False
        row.lease, row.failing, row.claimed_by = Lease.HELD, True, None
        return True

    def _write_again(self, row: Row, copy: Copy) -> bool:
        """The metadata may have a replaced caption: True if the row is due."""
        is_another = row.claimed_by != copy.claimed_by and row.caption != copy.caption
        waits = row.lease is not None and row.claimed_by is None
        if row.status is not Status.CAPTIONED or not row.write_back or waits or not is_another:
            return False
        news, row.written = row.written, False
        if not row.redo:
            self._expire(row)
            row.claimed_by = None
        if news:
            self._notify(copy.key)
        return row.lease is Lease.OVER

    def release(self, child: str) -> int:
        """A child has died: the number of rows whose lease has ended."""
        found = [row for row in self.rows.values() if row.claimed_by == child and row.lease is Lease.HELD]
        step = self._next()
        for row in found:
            row.lease, row.lease_over_in = Lease.OVER, step
        return len(found)

    def wait(self) -> None:
        """All leases run out, and all not-before times pass."""
        step = self._next()
        for row in self.rows.values():
            if row.lease is Lease.HELD:
                row.lease, row.lease_over_in = Lease.OVER, step
            if row.not_before is NotBefore.TO_COME:
                row.not_before, row.not_before_in = NotBefore.PAST, step

    def _expire(self, row: Row) -> None:
        row.lease, row.lease_over_in = Lease.OVER, self._next()

    def _next(self) -> int:
        self.step += 1
        return self.step

    def _is_due(self, row: Row) -> bool:
        return row.is_unfinished and row.due_in is not None

    def _sorted(self) -> list[tuple[Key, Row]]:
        return sorted(self.rows.items())

    def _newest(self) -> list[tuple[Key, Row]]:
        """Rows of the newest generation that is not deleted, or later."""
        last = max((g for (g, _), row in self.rows.items() if row.status is not Status.DELETED), default=0)
        return [(key, row) for key, row in self._sorted() if key[0] >= last]

    def _notify(self, key: Key) -> None:
        self.notices.append((key, self.rows[key].status, self.rows[key].written))

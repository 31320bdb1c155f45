"""A row's life as it should be, in a few lines of Python: what the table is compared with.

One object, its generations and tasks. Times are left out: a lease is held, has run out, or is not there.
"""

import enum
from dataclasses import dataclass, field

from dropline.contract import Status

#: Generation and task: which row of the object.
Key = tuple[int, str]
TOMBSTONE_TASK = "*"


class Lease(enum.Enum):
    """What can be said of a lease without a clock."""

    HELD = "held"
    OVER = "over"


@dataclass
class Row:
    """What is compared of a row."""

    status: Status
    attempts: int = 0
    lost_attempts: int = 0
    before_redrive: int = 0
    lease: Lease | None = None
    caption: str | None = None
    code: str | None = None
    written: bool = False
    #: Which of the object's captions it is, by time; 0: none.
    recorded: int = field(default=0, compare=False)
    #: The redrive that gave it the lease with which it waits; the table knows it by the time of the lease.
    redrive: int | None = field(default=None, compare=False)

    def end(self, status: Status) -> None:
        """Nobody works on it any more."""
        self.status = status
        self.lend(None)

    def lend(self, lease: Lease | None, redrive: int | None = None) -> None:
        """Another lease, or none."""
        self.lease, self.redrive = lease, redrive


@dataclass(frozen=True)
class Token:
    """What a worker holds after a claim; the row may have moved on since."""

    key: Key
    attempt: int
    lost_attempts: int
    before_redrive: int


@dataclass
class ObjectModel:
    """All rows of one object, and the notices they sent."""

    rows: dict[Key, Row] = field(default_factory=dict)
    notices: list[tuple[Key, Status, bool]] = field(default_factory=list)
    #: How often an operator had copies made again.
    redrives: int = 0
    records: int = 0

    def finalize(self, key: Key) -> Status:
        """An event about a new generation."""
        generation = key[0]
        if key in self.rows:
            return self.rows[key].status
        if any(g == generation and row.status is Status.DELETED for (g, _), row in self.rows.items()):
            return Status.DELETED
        newer = any(g > generation for g, _ in self.rows)
        self.rows[key] = Row(Status.SUPERSEDED if newer else Status.QUEUED)
        self._notify(key)
        for other, row in self._sorted():
            if other[0] < generation and not row.status.is_terminal:
                row.end(Status.SUPERSEDED)
                self._notify(other)
        return self.rows[key].status

    def delete(self, generation: int) -> None:
        """An event about the end of a generation."""
        mine = [(key, row) for key, row in self._sorted() if key[0] == generation]
        for key, row in mine:
            if row.status is not Status.DELETED:
                row.end(Status.DELETED)
                self._notify(key)
        if not mine:
            self.rows[generation, TOMBSTONE_TASK] = Row(Status.DELETED)
            self._notify((generation, TOMBSTONE_TASK))

    def claim(self, key: Key) -> "Token | str":
        """A worker takes a message about the row: a token, `write back`, `busy` or `nothing`."""
        row = self.rows.get(key)
        if row is None:
            return "nothing"
        lost = row.status is Status.RUNNING and row.lease is Lease.OVER
        if row.status is Status.QUEUED or lost:
            return self._take(key, row, lost=lost)
        if row.lease is Lease.HELD:
            return "busy"
        if row.status is Status.CAPTIONED and row.lease is Lease.OVER:
            row.lend(Lease.HELD)
            return "write back"
        return "nothing"

    def _take(self, key: Key, row: Row, *, lost: bool) -> Token:
        row.attempts += 1
        row.lost_attempts += lost
        row.lease = Lease.HELD
        if not lost:
            row.status = Status.RUNNING
            self._notify(key)
        return Token(key, row.attempts, row.lost_attempts, row.before_redrive)

    def record(self, token: Token, caption: str, *, write_back: bool) -> bool:
        """The model answered."""
        row = self.rows[token.key]
        if row.attempts != token.attempt or row.status not in (Status.RUNNING, Status.CAPTIONED):
            return False
        news = row.status is Status.RUNNING or (row.lease is not None and not write_back)
        row.end(Status.CAPTIONED)
        self.records += 1
        row.recorded = self.records
        row.caption, row.code, row.lease = caption, None, Lease.HELD if write_back else None
        if news:
            self._notify(token.key)
        return True

    def give_up(self, token: Token, status: Status, code: str | None, *, lost: bool = False) -> bool:
        """A worker ends its attempt without a caption: failed, put back, superseded or deleted."""
        row = self.rows[token.key]
        if row.attempts != token.attempt or row.status is not Status.RUNNING:
            return False
        row.end(status)
        row.code = code or row.code
        row.lost_attempts += lost
        self._notify(token.key)
        return True

    def redrive(self) -> list[Key]:
        """An operator sends all dead letters again."""
        failed = [key for key, row in self._newest() if row.status is Status.FAILED]
        for key in failed:
            row = self.rows[key]
            row.status, row.code, row.lost_attempts, row.before_redrive = Status.QUEUED, None, 0, row.attempts
            self._notify(key)
        return failed

    def take_back(self, key: Key, attempts: int, code: str) -> bool:
        """The operator's message did not get through."""
        row = self.rows[key]
        if row.status is not Status.QUEUED or row.attempts != attempts:
            return False
        row.status, row.code = Status.FAILED, code
        self._notify(key)
        return True

    def redrive_copies(self) -> list[Key]:
        """An operator has all copies made again that were given up."""
        self.redrives += 1
        found = [
            key
            for key, row in self._newest()
            if row.status is Status.CAPTIONED
            and row.code
            and not row.written
            and row.lease is None
            and not self._has_a_later_caption(key)
        ]
        for key in found:
            self.rows[key].lend(Lease.OVER, self.redrives)
        return found

    def take_back_copy(self, key: Key, redrive: int) -> bool:
        """The operator's message did not get through."""
        row = self.rows[key]
        if row.status is not Status.CAPTIONED or row.redrive != redrive:
            return False
        row.lend(None)
        self._notify(key)
        return True

    def finish_write_back(self, key: Key, *, written: bool) -> bool:
        """The metadata is written, or is not going to be."""
        row = self.rows.get(key)
        if row is None or row.status is not Status.CAPTIONED:
            return False
        news = row.lease is not None or written
        row.lend(None)
        row.written, row.code = row.written or written, None if written else "left_out"
        if news:
            self._notify(key)
        return True

    def release(self, key: Key) -> bool:
        """A process is known to be dead."""
        row = self.rows.get(key)
        if row is None or row.lease is not Lease.HELD:
            return False
        row.lease = Lease.OVER
        return True

    def kill_everything(self) -> None:
        """Time passes over all leases."""
        for row in self.rows.values():
            row.lease = row.lease and Lease.OVER

    def _sorted(self) -> list[tuple[Key, Row]]:
        return sorted(self.rows.items())

    def _has_a_later_caption(self, key: Key) -> bool:
        others = [row for (g, _), row in self.rows.items() if g == key[0] and row.status is Status.CAPTIONED]
        return any(row.recorded > self.rows[key].recorded for row in others)

    def _newest(self) -> list[tuple[Key, Row]]:
        """Those whose object has no newer generation that is still there."""
        last = max((g for (g, _), row in self.rows.items() if row.status is not Status.DELETED), default=0)
        return [(key, row) for key, row in self._sorted() if key[0] >= last]

    def _notify(self, key: Key) -> None:
        self.notices.append((key, self.rows[key].status, self.rows[key].written))

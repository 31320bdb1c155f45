"""A reference model of the captions table, in a few lines of Python.

The model has an object with generations and tasks, and no times: a lease is held, over, or None.
"""

import enum
from dataclasses import dataclass, field

from dropline.contract import Status

#: Generation and task: the key of a row of the object.
Key = tuple[int, str]
TOMBSTONE_TASK = "*"


class Lease(enum.Enum):
    """State of a lease, without a clock."""

    HELD = "held"
    OVER = "over"


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
    #: Number of the redrive that set the lease; in the table, the time of the lease.
    redrive: int | None = field(default=None, compare=False)

    def end(self, status: Status) -> None:
        """End the attempt with `status`."""
        self.status = status
        self.lend(None)

    def lend(self, lease: Lease | None, redrive: int | None = None) -> None:
        """Set the lease."""
        self.lease, self.redrive = lease, redrive


@dataclass(frozen=True)
class Token:
    """The claim of a worker; the row may have changed since."""

    key: Key
    attempt: int
    lost_attempts: int
    before_redrive: int


@dataclass
class ObjectModel:
    """All rows of an object, and the notices of changed rows."""

    rows: dict[Key, Row] = field(default_factory=dict)
    notices: list[tuple[Key, Status, bool]] = field(default_factory=list)
    #: Number of redrives of unwritten rows.
    redrives: int = 0

    def finalize(self, key: Key, *, own_task: bool = True) -> Status:
        """A FINALIZE, or a request for a further task: the status of the row."""
        generation = key[0]
        write_back = own_task and not any(row.write_back for (g, _), row in self.rows.items() if g == generation)
        if key in self.rows:
            self._adopt(self.rows[key], write_back=write_back)
            return self.rows[key].status
        if any(g == generation and row.status is Status.DELETED for (g, _), row in self.rows.items()):
            return Status.DELETED
        late = any(
            g > generation or (g == generation and row.status is Status.SUPERSEDED)
            for (g, _), row in self.rows.items()
        )
        self.rows[key] = Row(Status.SUPERSEDED if late else Status.QUEUED, write_back=write_back)
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
            if row.status is Status.CAPTIONED:
                row.lend(Lease.OVER)

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

    def claim(self, key: Key) -> "Token | str":
        """A claim: a token, `write back`, `busy` or `nothing`."""
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
        """Record a caption; False if the attempt is stale."""
        row = self.rows[token.key]
        if row.attempts != token.attempt or row.status not in (Status.RUNNING, Status.CAPTIONED):
            return False
        write_back = write_back and row.write_back
        news = row.status is Status.RUNNING or (row.lease is not None and not write_back)
        row.end(Status.CAPTIONED)
        row.caption, row.code, row.lease = caption, None, Lease.HELD if write_back else None
        if news:
            self._notify(token.key)
        return True

    def give_up(self, token: Token, status: Status, code: str | None, *, lost: bool = False) -> bool:
        """End an attempt without a caption: failed, queued again, superseded or deleted."""
        row = self.rows[token.key]
        if row.attempts != token.attempt or row.status is not Status.RUNNING:
            return False
        row.end(status)
        row.code = code or row.code
        row.lost_attempts += lost
        self._notify(token.key)
        return True

    def redrive(self) -> list[Key]:
        """Redrive all dead letters: the keys of the redriven rows."""
        failed = [key for key, row in self._newest() if row.status is Status.FAILED]
        for key in failed:
            row = self.rows[key]
            row.status, row.code, row.lost_attempts, row.before_redrive = Status.QUEUED, None, 0, row.attempts
            self._notify(key)
        return failed

    def undo_redrive(self, key: Key, attempts: int, code: str) -> bool:
        """Undo the redrive of a dead letter, after a message that could not be sent."""
        row = self.rows[key]
        if row.status is not Status.QUEUED or row.attempts != attempts:
            return False
        row.status, row.code = Status.FAILED, code
        self._notify(key)
        return True

    def redrive_unwritten(self) -> list[Key]:
        """Redrive all unwritten rows: the keys of the redriven rows."""
        self.redrives += 1
        found = [
            key
            for key, row in self._newest()
            if row.status is Status.CAPTIONED and row.code and not row.written and row.lease is None
        ]
        for key in found:
            self.rows[key].lend(Lease.OVER, self.redrives)
        return found

    def undo_redrive_of_unwritten(self, key: Key, redrive: int) -> bool:
        """Undo the redrive of an unwritten row, after a message that could not be sent."""
        row = self.rows[key]
        if row.status is not Status.CAPTIONED or row.redrive != redrive:
            return False
        row.lend(None)
        self._notify(key)
        return True

    def finish_write_back(self, key: Key, *, written: bool) -> bool:
        """End a write-back, with or without success."""
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
        """Expire the lease of a dead process."""
        row = self.rows.get(key)
        if row is None or row.lease is not Lease.HELD:
            return False
        row.lease = Lease.OVER
        return True

    def kill_everything(self) -> None:
        """Expire all leases."""
        for row in self.rows.values():
            row.lease = row.lease and Lease.OVER

    def _sorted(self) -> list[tuple[Key, Row]]:
        return sorted(self.rows.items())

    def _newest(self) -> list[tuple[Key, Row]]:
        """Rows of the newest generation that is not deleted, or later."""
        last = max((g for (g, _), row in self.rows.items() if row.status is not Status.DELETED), default=0)
        return [(key, row) for key, row in self._sorted() if key[0] >= last]

    def _notify(self, key: Key) -> None:
        self.notices.append((key, self.rows[key].status, self.rows[key].written))

"""The captions table in memory: the worker's functions of `db`, over the reference model of the table.

`tests/integration/test_row_life.py` leads the table and `ObjectModel` through the same steps, so the
double allows the transitions of Postgres and no other.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest

from db import claims, reads
from db.session import Connection, Database
from dropline.contract import (
    Caption,
    Claim,
    Dimensions,
    ObjectVersion,
    Status,
    TaskRequest,
    WriteBack,
    WriteOutcome,
)
from tests.support.row_model import Key, Lease, ObjectModel, Row, Token
from tests.support.script import Script

BUCKET, NAME, CAPTION = "drops", "cat.png", "<CAPTION>"


@dataclass
class Details:
    """Columns missing from the model."""

    #: Seconds of the last lease: the clock stands still, so a held lease has the whole time left.
    lease_s: float = 0.0
    error: str | None = None
    model: str = ""
    size_bytes: int | None = None
    image: Dimensions | None = None


class MemoryRows:
    """Rows of an object. Each function is a step of the script; an error rolls the transaction back."""

    def __init__(self, script: Script) -> None:
        self.model = ObjectModel()
        self._script = script
        self._keys: dict[int, Key] = {}
        self._details: dict[int, Details] = {}
        #: Whether a transaction is open.
        self.is_open = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Database:
        """Put the double in the place of `db`: the database to pass to the code under test."""
        for name in (
            "claim",
            "record_caption",
            "finish_write_back",
            "fail",
            "requeue",
            "supersede",
            "mark_deleted",
            "expire_lease",
            "lock_recovery",
        ):
            monkeypatch.setattr(claims, name, getattr(self, name))
        for name in ("rows_without_message", "leased_rows"):
            monkeypatch.setattr(reads, name, getattr(self, name))
        return cast("Database", self)

    def register(self, generation: int = 1, task: str = CAPTION, *, own_task: bool = True) -> int:
        """Make a queued row: the row's id."""
        self.model.finalize((generation, task), own_task=own_task)
        row_id = len(self._keys) + 1
        self._keys[row_id] = (generation, task)
        self._details[row_id] = Details()
        return row_id

    def claim_once(self, row_id: int, lease_s: float) -> None:
        """Another worker claims the row."""
        assert isinstance(self.model.claim(self._keys[row_id]), Token)
        self._details[row_id].lease_s = lease_s

    def claim_and_die(self, row_id: int) -> None:
        """Another worker claims the row and dies; the worker's parent frees the lease."""
        self.claim_once(row_id, 0.0)
        self.model.release(self._keys[row_id])

    def requeue_once(self, row_id: int) -> None:
        """Another worker has claimed the row and put the row back a moment ago."""
        token = self.model.claim(self._keys[row_id])
        assert isinstance(token, Token)
        self.model.give_up(token, Status.QUEUED, "storage_unavailable")

    def row(self, row_id: int) -> Row:
        """The model's row."""
        return self.model.rows[self._keys[row_id]]

    def details(self, row_id: int) -> Details:
        """The row's other columns."""
        return self._details[row_id]

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """See `db.session.Database.transaction`. An error of `commit` is raised after the commit."""
        self._script.check("begin")
        before = copy.deepcopy((self.model, self._details))
        self.is_open = True
        try:
            yield cast("Connection", self)
        except BaseException:
            self.model, self._details = before
            raise
        finally:
            self.is_open = False
        self._script.check("commit")

    def lock_recovery(self, connection: object) -> None:
        """See `db.claims.lock_recovery`."""
        self._step(connection, "lock_recovery")

    def claim(
        self, connection: object, row_id: int, lease_s: float
    ) -> Claim | WriteBack | claims.LeaseHeld | None:
        """See `db.claims.claim`."""
        self._step(connection, "claim")
        if row_id not in self._keys:
            return None
        details = self._details[row_id]
        match self.model.claim(self._keys[row_id]):
            case Token(_, attempt, lost_attempts, before_redrive):
                details.lease_s = lease_s
                task = TaskRequest.parse(self._keys[row_id][1])
                return Claim(row_id, self.version(row_id), task, attempt, lost_attempts, before_redrive)
            case "write back":
                details.lease_s = lease_s
                caption = self.row(row_id).caption or ""
                return WriteBack(row_id, self.version(row_id), self._keys[row_id][1], caption, details.model)
            case "busy":
                return claims.LeaseHeld(details.lease_s)
            case _:
                return None

    def record_caption(
        self,
        connection: object,
        claim: Claim,
        caption: Caption,
        image: Dimensions,
        *,
        size_bytes: int,
        write_back_lease_s: float | None,
    ) -> claims.Recorded | None:
        """See `db.claims.record_caption`."""
        self._step(connection, "record_caption")
        write_back = write_back_lease_s is not None
        if not self.model.record(self._token(claim), caption.text, write_back=write_back):
            return None
        self._details[claim.row_id] = Details(
            write_back_lease_s or 0.0, None, caption.model, size_bytes=size_bytes, image=image
        )
        return claims.Recorded(is_write_back_due=self.row(claim.row_id).lease is not None)

    def finish_write_back(self, connection: object, write_back: WriteBack, outcome: WriteOutcome) -> bool:
        """See `db.claims.finish_write_back`."""
        self._step(connection, "finish_write_back")
        done = self.model.finish_write_back(self._keys[write_back.row_id], written=outcome.written)
        if done:
            self.row(write_back.row_id).code = outcome.code
            self._details[write_back.row_id].error = outcome.note
        return done

    def fail(self, connection: object, claim: Claim, code: str, error: str) -> bool:
        """See `db.claims.fail`."""
        self._step(connection, "fail")
        return self._give_up(claim, Status.FAILED, code, error)

    def requeue(self, connection: object, claim: Claim, code: str, error: str, *, lost: bool) -> bool:
        """See `db.claims.requeue`."""
        self._step(connection, "requeue")
        return self._give_up(claim, Status.QUEUED, code, error, lost=lost)

    def supersede(self, connection: object, claim: Claim) -> bool:
        """See `db.claims.supersede`."""
        self._step(connection, "supersede")
        return self._give_up(claim, Status.SUPERSEDED, None, None)

    def mark_deleted(self, connection: object, claim: Claim) -> bool:
        """See `db.claims.mark_deleted`."""
        self._step(connection, "mark_deleted")
        return self._give_up(claim, Status.DELETED, None, None)

    def expire_lease(self, connection: object, row_id: int) -> bool:
        """See `db.claims.expire_lease`."""
        self._step(connection, "expire_lease")
        return self.model.release(self._keys[row_id])

    def rows_without_message(
        self, connection: object, oldest: Sequence[int], *, whole_queue: bool, batch: int, resting_s: float = 0.0
    ) -> Iterator[list[int]]:
        """See `db.reads.rows_without_message`; rows are queued by id, and were requeued a moment ago."""
        self._step(connection, "rows_without_message")
        reach = len(self._keys) + 1 if whole_queue else max(oldest, default=0)
        found = [
            row_id
            for row_id in self._keys
            if self.row(row_id).status is Status.QUEUED
            and row_id not in oldest
            and row_id < reach
            and not (resting_s and self.row(row_id).attempts > self.row(row_id).before_redrive)
        ]
        return _batches(found, batch)

    def leased_rows(self, connection: object, batch: int) -> Iterator[list[reads.LeasedRow]]:
        """See `db.reads.leased_rows`."""
        self._step(connection, "leased_rows")
        found = [
            reads.LeasedRow(row_id, self._details[row_id].lease_s if self.row(row_id).lease is Lease.HELD else 0.0)
            for row_id in self._keys
            if self.row(row_id).lease is not None
        ]
        return _batches(found, batch)

    def version(self, row_id: int) -> ObjectVersion:
        """The object version of the row."""
        return ObjectVersion(BUCKET, NAME, self._keys[row_id][0])

    def _give_up(self, claim: Claim, status: Status, code: str | None, error: str | None, **lost: bool) -> bool:
        held = self.model.give_up(self._token(claim), status, code, **lost)
        if held:
            self._details[claim.row_id].error = error
        return held

    def _token(self, claim: Claim) -> Token:
        key = self._keys[claim.row_id]
        return Token(key, claim.attempt, claim.lost_attempts, claim.attempts_before_redrive)

    def _step(self, connection: object, name: str) -> None:
        assert connection is self, f"{name} got a connection of another database"
        assert self.is_open, f"{name} was called outside of a transaction"
        self._script.step(name)


def _batches(found: list[Any], batch: int) -> Iterator[list[Any]]:
    return (found[start : start + batch] for start in range(0, len(found), batch))

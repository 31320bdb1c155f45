"""The captions table in memory: the worker's functions of `db`, over the reference model of the table.

`tests/integration/test_row_life.py` leads the table and `ObjectModel` through the same steps, so the
double allows the transitions of Postgres and no other.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import pytest

from db import attempts, claims
from db.attempts import Ended, Recorded
from db.claims import Claimed
from db.due_rows import Due
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
from tests.support.row_model import Copy, Key, NotBefore, ObjectModel, Row, Token
from tests.support.script import Script

BUCKET, NAME, CAPTION = "drops", "cat.png", "<CAPTION>"


@dataclass
class Details:
    """Columns missing from the model."""

    #: Seconds until the row's time: the clock stands still, so a held lease has the whole time left.
    in_s: float = 0.0
    #: Seconds since the first transient error; the test sets them.
    failing_s: float = 0.0
    error: str | None = None
    model: str = ""
    size_bytes: int | None = None
    image: Dimensions | None = None
    slow_attempts: int = 0


class MemoryRows:
    """Rows of an object. Each function is a step of the script."""

    def __init__(self, script: Script) -> None:
        self.model = ObjectModel()
        self._script = script
        self._keys: dict[int, Key] = {}
        self._details: dict[int, Details] = {}
        #: True within `statement`.
        self.is_open = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Database:
        """Put the double in the place of `db`: the database to pass to the code under test."""
        monkeypatch.setattr(claims, "claim", self.claim)
        for name in (
            "record_caption",
            "finish_write_back",
            "postpone_write_back",
            "fail",
            "requeue",
            "supersede",
            "mark_deleted",
        ):
            monkeypatch.setattr(attempts, name, getattr(self, name))
        return cast("Database", self)

    def register(
        self, generation: int = 1, task: str = CAPTION, *, own_task: bool = True, priority: int = 0
    ) -> int:
        """Make a queued row: the row's id."""
        self.model.finalize((generation, task), own_task=own_task)
        self.model.prioritize((generation, task), priority)
        row_id = len(self._keys) + 1
        self._keys[row_id] = (generation, task)
        self._details[row_id] = Details()
        return row_id

    def claim_once(self, row_id: int, lease_s: float) -> None:
        """Another child claims the row."""
        assert self.model.claim(self._keys[row_id], "other/1") == self._token_of(row_id)
        self._details[row_id].in_s = lease_s

    def claim_and_die(self, row_id: int) -> None:
        """Another child claims the row and dies; its parent frees the lease."""
        self.claim_once(row_id, 0.0)
        self.model.release("other/1")

    def redo(self, row_id: int) -> None:
        """Queue a captioned row again."""
        self.model.redo(self._keys[row_id])

    def row(self, row_id: int) -> Row:
        """The model's row."""
        return self.model.rows[self._keys[row_id]]

    def details(self, row_id: int) -> Details:
        """The row's other columns."""
        return self._details[row_id]

    @contextmanager
    def statement(self) -> Iterator[Connection]:
        """See `db.session.Database.statement`. An error of `commit` is raised after the commit."""
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

    def claim(
        self, connection: object, hint: int, lease_s: float, claimed_by: str, model: object = None
    ) -> Claimed:
        """See `db.claims.claim`."""
        assert model is None, "the double knows no identical bytes"
        self._step(connection, "claim")
        first = self.model.first_due(self._keys.get(hint))
        if not first:
            return Claimed(None, self._others())
        siblings = self.model.take_siblings(first[0], claimed_by)
        taken = self.model.take(first[0], claimed_by)
        row_id = self._id_of(taken.key)
        details, version, task = self._details[row_id], self.version(row_id), taken.key[1]
        for key in (taken.key, *(token.key for token in siblings)):
            self._details[self._id_of(key)].in_s = lease_s
        others = self._others(row_id, *(self._id_of(token.key) for token in siblings))
        if isinstance(taken, Copy):
            words = self.row(row_id).caption or ""
            return Claimed(
                WriteBack(row_id, version, task, words, details.model, claimed_by, details.failing_s), others
            )
        return Claimed(
            self._claim_of(taken),
            others,
            tuple(sorted(map(self._claim_of, siblings), key=lambda claim: claim.row_id)),
        )

    def _claim_of(self, token: Token) -> Claim:
        row_id, task = self._id_of(token.key), TaskRequest.parse(token.key[1])
        details = self._details[row_id]
        counts = (token.attempt, token.lost_attempts, token.before_redrive, details.failing_s)
        priority = self.model.rows[token.key].priority
        return Claim(row_id, self.version(row_id), task, *counts, details.slow_attempts, priority=priority)

    def record_caption(
        self,
        connection: object,
        claim: Claim,
        caption: Caption,
        image: Dimensions,
        *,
        size_bytes: int,
        write_back_lease_s: float | None,
        copied_from: int | None = None,
    ) -> Recorded:
        """See `db.attempts.record_caption`."""
        assert copied_from is None, "the double knows no identical bytes"
        self._step(connection, "record_caption")
        write_back, others = write_back_lease_s is not None, self._others(claim.row_id)
        if not self.model.record(self._token(claim), caption.text, write_back=write_back):
            return Recorded(held=False, is_write_back_due=False, others=others)
        self._details[claim.row_id] = Details(
            write_back_lease_s or 0.0, 0.0, None, caption.model, size_bytes=size_bytes, image=image
        )
        return Recorded(held=True, is_write_back_due=self.row(claim.row_id).lease is not None, others=others)

    def finish_write_back(self, connection: object, write_back: WriteBack, outcome: WriteOutcome) -> Ended:
        """See `db.attempts.finish_write_back`."""
        self._step(connection, "finish_write_back")
        done = self.model.finish_write_back(self._copy(write_back), written=outcome.written)
        if done:
            self.row(write_back.row_id).code = outcome.code
            self._details[write_back.row_id].error = outcome.note
        return Ended(done, self._others(write_back.row_id))

    def postpone_write_back(self, connection: object, write_back: WriteBack, delay_s: float) -> Ended:
        """See `db.attempts.postpone_write_back`."""
        self._step(connection, "postpone_write_back")
        done = self.model.postpone_write_back(self._copy(write_back))
        return self._postponed(done, write_back.row_id, delay_s)

    def fail(self, connection: object, claim: Claim, code: str, error: str) -> Ended:
        """See `db.attempts.fail`."""
        self._step(connection, "fail")
        return self._give_up(claim, Status.FAILED, code, error)

    def requeue(
        self,
        connection: object,
        claim: Claim,
        code: str,
        error: str,
        *,
        lost: bool,
        delay_s: float,
        slow: bool = False,
    ) -> Ended:
        """See `db.attempts.requeue`."""
        self._step(connection, "requeue")
        held = self.model.requeue(self._token(claim), code, NotBefore.TO_COME, lost=lost)
        if held:
            self._details[claim.row_id].error = error
            self._details[claim.row_id].slow_attempts += slow
        return self._postponed(held, claim.row_id, delay_s)

    def supersede(self, connection: object, claim: Claim) -> Ended:
        """See `db.attempts.supersede`."""
        self._step(connection, "supersede")
        return self._give_up(claim, Status.SUPERSEDED, None, None)

    def mark_deleted(self, connection: object, claim: Claim, *, erase: bool) -> Ended:
        """See `db.attempts.mark_deleted`."""
        self._step(connection, "mark_deleted")
        return self._give_up(claim, Status.DELETED, None, None)

    def version(self, row_id: int) -> ObjectVersion:
        """The object version of the row."""
        return ObjectVersion(BUCKET, NAME, self._keys[row_id][0])

    def _give_up(self, claim: Claim, status: Status, code: str | None, error: str | None) -> Ended:
        held = self.model.give_up(self._token(claim), status, code)
        if held:
            self._details[claim.row_id].error = error
        return Ended(held, self._others(claim.row_id))

    def _postponed(self, held: bool, row_id: int, delay_s: float) -> Ended:
        if held:
            self._details[row_id].in_s = delay_s
        return Ended(held, self._others(*([] if held else [row_id])))

    def _others(self, *own: int) -> Due:
        """The own rows are due no sooner than in their time; so they are left out of the due rows."""
        but = [self._keys[each] for each in own]
        delays = [
            self._details[row_id].in_s
            for row_id, key in self._keys.items()
            if key not in but and self.row(row_id).is_unfinished and self.row(row_id).due_in is None
        ]
        return Due(tuple(map(self._id_of, self.model.first_due(but=but)[:1])), min(delays, default=None))

    def _token(self, claim: Claim) -> Token:
        key = self._keys[claim.row_id]
        return Token(key, claim.attempt, claim.lost_attempts, claim.attempts_before_redrive)

    def _token_of(self, row_id: int) -> Token:
        row = self.row(row_id)
        return Token(self._keys[row_id], row.attempts, row.lost_attempts, row.before_redrive)

    def _copy(self, write_back: WriteBack) -> Copy:
        return Copy(self._keys[write_back.row_id], write_back.claimed_by, write_back.caption)

    def _id_of(self, key: Key) -> int:
        return next(row_id for row_id, found in self._keys.items() if found == key)

    def _step(self, connection: object, name: str) -> None:
        assert connection is self, f"{name} got a connection of another database"
        assert self.is_open, f"{name} was called outside of a statement"
        self._script.step(name)

"""After any interleaving of events, claims, results and kills, the table is equal to the reference model."""

import itertools
import operator
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from db import attempts, claims, object_rows
from db.attempts import Ended, Recorded
from db.due_rows import Due
from db.listen import parse_notice
from db.redrivable import FAILED_ROWS, UNWRITTEN_ROWS, Redrivable, RowFilter
from dropline.contract import (
    NOTIFY_CHANNEL,
    Claim,
    ObjectFacts,
    ObjectVersion,
    Status,
    TaskPrompt,
    TaskRequest,
    WriteBack,
    WriteOutcome,
)
from tests.support.row_model import Copy, Key, Lease, NotBefore, ObjectModel, Row, Token
from tests.support.rows import IMAGE, LEASE_S, a_caption, redo

INTERLEAVINGS = 2000
TASKS = {str(task): task for task in map(TaskRequest, (TaskPrompt.CAPTION, TaskPrompt.OD, TaskPrompt.OCR))}
CAPTION, DETECTION, OCR = TASKS
CHILDREN = ("one/1", "two/1")

_WAIT = (
    text("UPDATE captions SET lease_until = now() WHERE lease_until > now()"),
    text("UPDATE captions SET not_before = now() WHERE not_before > now()"),
)
_PRIORITIZE = text("UPDATE captions SET priority = :priority WHERE id = :id")
_SNAPSHOT = text("""
    SELECT id, generation, task, status, attempts, lost_attempts, attempts_before_redrive, caption, error_code,
           metadata_written_at IS NOT NULL AS written, write_back, priority, redo, claimed_by,
           redo_failed_at IS NOT NULL AS redo_failed,
           ARRAY(SELECT caption FROM caption_history WHERE caption_id = captions.id ORDER BY id) AS history,
           failing_since IS NOT NULL AS failing,
           CASE WHEN lease_until > now() THEN 'held' WHEN lease_until IS NOT NULL THEN 'over' END AS lease,
           CASE WHEN not_before > now() THEN 'to come' WHEN not_before IS NOT NULL THEN 'past' END AS not_before
    FROM captions
""")

# Most steps are on one row: many faults need several attempts at the same row.
keys = st.sampled_from([(1, CAPTION)] * 6 + [(1, DETECTION), (1, OCR), (2, CAPTION), (2, DETECTION), (3, CAPTION)])
#: Index of the claim among the latest claims, stale claims included.
tokens = st.integers(1, 3)
children = st.sampled_from(CHILDREN)
claimed = st.tuples(st.just("claim"), keys, children)
steps = st.one_of(
    st.tuples(st.just("finalize"), keys),
    st.tuples(st.just("request"), keys),
    st.tuples(st.just("request"), keys),
    st.tuples(st.just("delete"), st.sampled_from((1, 2, 3))),
    st.tuples(st.just("archive"), st.sampled_from((1, 2, 3))),
    *[claimed] * 4,
    st.tuples(st.just("record"), tokens, st.booleans()),
    st.tuples(st.just("record"), tokens, st.booleans()),
    st.tuples(st.just("give_up"), tokens, st.sampled_from(["fail", "supersede", "mark_deleted"])),
    st.tuples(st.just("put_back"), tokens, st.booleans(), st.sampled_from([0.0, 600.0])),
    st.tuples(st.just("put_back"), tokens, st.booleans(), st.sampled_from([0.0, 600.0])),
    st.tuples(st.just("finish"), tokens, st.booleans()),
    st.tuples(st.just("postpone"), tokens),
    st.tuples(st.just("release"), children),
    st.tuples(st.just("prioritize"), keys, st.integers(0, 2)),
    st.tuples(st.just("redo"), keys),
    st.tuples(st.just("redo"), keys),
    st.tuples(st.just("redrive")),
    st.tuples(st.just("redrive_copies")),
    st.tuples(st.just("wait")),
    st.tuples(st.just("wait")),
)
BORN = [("finalize", (1, CAPTION))]
TAKEN = [*BORN, ("claim", (1, CAPTION), CHILDREN[0])]
REQUESTED = [("request", (1, CAPTION))]
FAILED = [*TAKEN, ("give_up", 1, "fail")]
REDONE = [*TAKEN, ("record", 1, False), ("redo", (1, CAPTION))]
UNWRITTEN_COPY = [*TAKEN, ("record", 1, True), ("finish", 1, False)]
SEVERAL = [("request", (1, task)) for task in TASKS]
#: Most histories begin with an event; some with a delete. Without these beginnings, redriven rows would be rare.
interleavings = st.builds(
    operator.add,
    st.sampled_from([BORN, BORN, SEVERAL, FAILED, UNWRITTEN_COPY, REDONE, REQUESTED, []]),
    st.lists(steps, min_size=6, max_size=18),
)


class Life:
    """Applies the same steps to the table and to the model."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        self.name = name
        self.model = ObjectModel()
        self.ids: dict[Key, int] = {}
        self.claims: list[tuple[Claim, Token]] = []
        self.copies: list[tuple[WriteBack, Copy]] = []

    def version(self, generation: int) -> ObjectVersion:
        return ObjectVersion("drops", self.name, generation)

    def finalize(self, key: Key, *, own_task: bool = True) -> None:
        found = object_rows.register_object(
            self.connection, self.version(key[0]), ObjectFacts(), TASKS[key[1]], own_task=own_task
        )
        assert found.status is self.model.finalize(key, own_task=own_task)

    def request(self, key: Key) -> None:
        self.finalize(key, own_task=False)

    def delete(self, generation: int) -> None:
        object_rows.tombstone(self.connection, self.version(generation))
        self.model.delete(generation)

    def archive(self, generation: int) -> None:
        object_rows.archive(self.connection, self.version(generation))
        self.model.archive(generation)

    def claim(self, hint: Key, child: str) -> None:
        found = claims.claim(self.connection, self.ids.get(hint, -1), LEASE_S, child)
        first = self.model.first_due(hint)
        if found.work is None:
            assert first == []
            self.check_others(found.others)
            return
        key = self.key_of(found.work.row_id)
        assert key in first
        siblings = self.model.take_siblings(key, child)
        by_key = sorted((self.key_of(each.row_id), each) for each in found.siblings)
        assert [key for key, _ in by_key] == [token.key for token in siblings]
        self.claims += [(claim, token) for (_, claim), token in zip(by_key, siblings, strict=True)]
        taken = self.model.take(key, child)
        if isinstance(taken, Token):
            assert isinstance(found.work, Claim)
            assert (found.work.attempt, found.work.lost_attempts) == (taken.attempt, taken.lost_attempts)
            assert found.work.attempts_before_redrive == taken.before_redrive
            assert taken.failing or found.work.failing_s == 0
            self.claims.append((found.work, taken))
        else:
            assert isinstance(found.work, WriteBack)
            assert (found.work.caption, found.work.claimed_by) == (self.model.rows[key].caption, child)
            self.copies.append((found.work, taken))
        self.check_others(found.others, key, *[token.key for token in siblings])

    def record(self, number: int, write_back: bool) -> None:
        if not self.claims:
            return
        claim, token = self.claims[-min(number, len(self.claims))]
        # Each attempt has a caption of its own.
        words = f"attempt {claim.attempt}"
        lease_s = LEASE_S if write_back else None
        others = self.expected_others(token.key)
        done = attempts.record_caption(
            self.connection, claim, a_caption(words), IMAGE, size_bytes=1, write_back_lease_s=lease_s
        )
        held = self.model.record(token, words, write_back=write_back)
        row = self.model.rows[token.key]
        assert (done.held, done.is_write_back_due) == (held, held and row.lease is not None)
        check_due(done, others)
        if done.is_write_back_due and row.claimed_by:
            self.copies.append(
                (
                    WriteBack(claim.row_id, claim.version, token.key[1], words, "demo", row.claimed_by),
                    Copy(token.key, row.claimed_by, words),
                )
            )

    def give_up(self, number: int, how: str) -> None:
        if not self.claims:
            return
        claim, token = self.claims[-min(number, len(self.claims))]
        acts: dict[str, tuple[Callable[[], Ended], Status, str | None]] = {
            "fail": (lambda: attempts.fail(self.connection, claim, "bad", "words"), Status.FAILED, "bad"),
            "supersede": (lambda: attempts.supersede(self.connection, claim), Status.SUPERSEDED, None),
            "mark_deleted": (lambda: attempts.mark_deleted(self.connection, claim), Status.DELETED, None),
        }
        act, status, code = acts[how]
        others = self.expected_others(token.key)
        ended = act()
        assert ended.held == self.model.give_up(token, status, code)
        check_due(ended, others)

    def put_back(self, number: int, lost: bool, delay_s: float) -> None:
        if not self.claims:
            return
        claim, token = self.claims[-min(number, len(self.claims))]
        (rows, is_one_awaited) = self.expected_others(token.key)
        ended = attempts.requeue(self.connection, claim, "later", "words", lost=lost, delay_s=delay_s)
        not_before = NotBefore.TO_COME if delay_s else NotBefore.PAST
        assert ended.held == self.model.requeue(token, "later", not_before, lost=lost)
        check_due(ended, (rows, is_one_awaited or ended.held))

    def finish(self, number: int, written: bool) -> None:
        if not self.copies:
            return
        write_back, copy = self.copies[-min(number, len(self.copies))]
        outcome = WriteOutcome(written, None if written else "left_out", None if written else "words")
        (rows, is_one_awaited) = self.expected_others(copy.key)
        ended = attempts.finish_write_back(self.connection, write_back, outcome)
        assert ended.held == self.model.finish_write_back(copy, written=written)
        check_due(ended, (rows, is_one_awaited or self.model.is_due_again))

    def postpone(self, number: int) -> None:
        if not self.copies:
            return
        write_back, copy = self.copies[-min(number, len(self.copies))]
        (rows, is_one_awaited) = self.expected_others(copy.key)
        ended = attempts.postpone_write_back(self.connection, write_back, LEASE_S)
        assert ended.held == self.model.postpone_write_back(copy)
        check_due(ended, (rows, is_one_awaited or ended.held or self.model.is_due_again))

    def release(self, child: str) -> None:
        assert claims.release(self.connection, child) == self.model.release(child)

    def prioritize(self, key: Key, priority: int) -> None:
        self.connection.execute(_PRIORITIZE, {"id": self.ids.get(key, -1), "priority": priority})
        self.model.prioritize(key, priority)

    def redo(self, key: Key) -> None:
        redo(self.connection, self.ids.get(key, -1))
        self.model.redo(key)

    def redrive(self) -> None:
        self._sent_again(FAILED_ROWS, self.model.redrive())

    def redrive_copies(self) -> None:
        self._sent_again(UNWRITTEN_ROWS, self.model.redrive_unwritten())

    def _sent_again(self, kind: Redrivable, expected: list[Key]) -> None:
        rows = kind.redrive(self.connection, RowFilter(objects=(("drops", self.name, None),)), 0, 100)
        assert {row.row_id for row in rows} == {self.ids[key] for key in expected}

    def wait(self) -> None:
        for statement in _WAIT:
            self.connection.execute(statement)
        self.model.wait()

    def key_of(self, row_id: int) -> Key:
        return next(key for key, found in self.ids.items() if found == row_id)

    def expected_others(self, *own: Key) -> tuple[set[int], bool]:
        """The ids of the most urgent other rows, which have waited equally long; whether a time is to come."""
        return {self.ids[key] for key in self.model.first_due(but=own)}, self.model.is_one_awaited(own)

    def check_others(self, found: Due, *own: Key) -> None:
        check_due(Ended(True, found), self.expected_others(*own))

    def rows(self) -> dict[Key, Row]:
        """The table in the model's form."""
        found = {}
        for row in self.connection.execute(_SNAPSHOT):
            self.ids[row.generation, row.task] = row.id
            found[row.generation, row.task] = _row(row)
        return found


def _row(row: Any) -> Row:
    lease = None if row.lease is None else Lease(row.lease)
    return Row(
        Status(row.status),
        row.attempts,
        row.lost_attempts,
        row.attempts_before_redrive,
        lease,
        row.caption,
        row.error_code,
        row.written,
        row.write_back,
        row.priority,
        None if row.not_before is None else NotBefore(row.not_before),
        row.failing,
        row.redo,
        row.claimed_by,
        row.redo_failed,
        row.history,
    )


def check_due(ended: Ended | Recorded, expected: tuple[Collection[int], bool]) -> None:
    """The statement names one of the expected rows, and a time if one is to come."""
    rows, is_one_awaited = expected
    assert len(ended.others.row_ids) == min(1, len(rows))
    assert set(ended.others.row_ids) <= set(rows)
    assert (ended.others.next_in_s is not None) == is_one_awaited


def check_that_nothing_went_backwards(before: dict[Key, Row], after: dict[Key, Row]) -> None:
    """Checks of the table without the model."""
    assert before.keys() <= after.keys()
    for key, old in before.items():
        new = after[key]
        if old.status is Status.FAILED:
            assert new.status in (Status.FAILED, Status.QUEUED, Status.SUPERSEDED, Status.DELETED)
        elif old.status.is_terminal:
            assert new.status in (old.status, Status.SUPERSEDED, Status.DELETED)
        if old.status is Status.DELETED:
            assert replace(new, priority=old.priority, not_before=old.not_before) == old
        if old.caption is not None:
            assert new.caption == old.caption or old.redo
            assert [*new.history, new.caption] == [*old.history, old.caption] or old.redo
        assert new.attempts >= max(old.attempts, new.lost_attempts + new.before_redrive)
    assert len({key[0] for key, row in after.items() if not row.status.is_terminal}) <= 1
    written_back = [key[0] for key, row in after.items() if row.write_back]
    assert len(written_back) == len(set(written_back)), "two captions of a generation go to the metadata"


def by_row(notices: Iterable[tuple[Key, Status, bool]]) -> dict[Key, list[tuple[Status, bool]]]:
    """The order of notices of different rows in one transaction is free."""
    found = defaultdict(list)
    for key, status, written in notices:
        found[key].append((status, written))
    return found


def heard(ear: psycopg.Connection[Any], connection: Connection) -> list[tuple[Key, Status, bool]]:
    """All notices since the last call, up to a mark sent now: notices arrive in the order of commits."""
    connection.execute(text("SELECT pg_notify(:channel, 'mark')"), {"channel": NOTIFY_CHANNEL})
    payloads = itertools.takewhile("mark".__ne__, (notify.payload for notify in ear.notifies(timeout=60)))
    notices = [parse_notice(payload) for payload in payloads]
    return [((notice.generation, notice.task), notice.status, notice.metadata_written) for notice in notices]


@pytest.fixture
def ear(database_url: str) -> Iterator["psycopg.Connection[Any]"]:
    with psycopg.connect(database_url, autocommit=True) as found:
        found.execute(f"LISTEN {NOTIFY_CHANNEL}".encode())
        yield found


def test_any_interleaving_leaves_the_table_as_the_model_has_it(
    connection: Connection, ear: "psycopg.Connection[Any]"
) -> None:
    """2,000 interleavings: after each step, table and received notices are equal to the model's."""
    names = (f"{number}.jpg" for number in itertools.count())
    reached: set[tuple[Status, Lease | None, bool]] = set()

    @settings(max_examples=INTERLEAVINGS, deadline=None, print_blob=True)
    @given(interleavings)
    def live(interleaving: list[tuple[Any, ...]]) -> None:
        life = Life(connection, next(names))
        # A claim takes a row of any object.
        connection.execute(text("DELETE FROM captions"))
        heard(ear, connection)  # of an interleaving that failed
        before: dict[Key, Row] = {}
        for name, *arguments in interleaving:
            getattr(life, name)(*arguments)
            after = life.rows()
            assert after == life.model.rows
            check_that_nothing_went_backwards(before, after)
            reached.update((row.status, row.lease, row.redo) for row in after.values())
            before = after
        assert by_row(heard(ear, connection)) == by_row(life.model.notices)

    live()
    held_or_over = {(status, lease, False) for status in (Status.RUNNING, Status.CAPTIONED) for lease in Lease}
    redone = {(Status.CAPTIONED, lease, True) for lease in (None, *Lease)}
    ended = {(status, None, False) for status in set(Status) - {Status.RUNNING}}
    assert reached - {(status, None, True) for status in (Status.SUPERSEDED, Status.DELETED)} == (
        ended | held_or_over | redone
    )

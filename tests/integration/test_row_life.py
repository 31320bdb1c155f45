"""After any interleaving of events, claims, results and kills, the table is equal to the reference model."""

import itertools
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from db import claims, object_rows
from db.listen import parse_notice
from db.redrivable import DEAD_LETTERS, UNWRITTEN_ROWS, Redrivable, RedrivenRow, RowFilter
from dropline.contract import (
    NOTIFY_CHANNEL,
    Claim,
    ObjectFacts,
    ObjectVersion,
    Status,
    TaskPrompt,
    TaskRequest,
    WriteBack,
)
from tests.support.row_model import Key, Lease, ObjectModel, Row, Token
from tests.support.rows import IMAGE, LEASE_S, a_caption, finish_write_back

INTERLEAVINGS = 2000
TASKS = {str(task): task for task in (TaskRequest(TaskPrompt.CAPTION), TaskRequest(TaskPrompt.OD))}
CAPTION, DETECTION = TASKS

_EXPIRE = text("""
    UPDATE captions SET lease_until = now() - interval '1s' WHERE object_name = :name AND lease_until > now()
""")
_SNAPSHOT = text("""
    SELECT id, generation, task, status, attempts, lost_attempts, attempts_before_redrive, caption, error_code,
           metadata_written_at IS NOT NULL AS written, write_back,
           CASE WHEN lease_until > now() THEN 'held' WHEN lease_until IS NOT NULL THEN 'over' END AS lease
    FROM captions WHERE object_name = :name
""")

# Most steps are on one row: many faults need several attempts at the same row.
keys = st.sampled_from([(1, CAPTION)] * 6 + [(1, DETECTION), (2, CAPTION), (2, DETECTION), (3, CAPTION)])
#: Index of the claim among the latest claims, stale claims included.
tokens = st.integers(1, 3)
steps = st.one_of(
    st.tuples(st.just("finalize"), keys),
    st.tuples(st.just("request"), keys),
    st.tuples(st.just("delete"), st.sampled_from((1, 2, 3))),
    st.tuples(st.just("archive"), st.sampled_from((1, 2, 3))),
    st.tuples(st.just("claim"), keys),
    st.tuples(st.just("claim"), keys),
    st.tuples(st.just("claim"), keys),
    st.tuples(st.just("record"), tokens, st.booleans()),
    st.tuples(st.just("give_up"), tokens, st.sampled_from(["fail", "supersede", "mark_deleted"])),
    st.tuples(st.just("put_back"), tokens, st.booleans()),
    st.tuples(st.just("finish"), keys, st.booleans()),
    st.tuples(st.just("release"), keys),
    st.tuples(st.just("redrive")),
    st.tuples(st.just("redrive")),
    st.tuples(st.just("take_back")),
    st.tuples(st.just("redrive_copies")),
    st.tuples(st.just("redrive_copies")),
    st.tuples(st.just("take_back_copy")),
    st.tuples(st.just("kill")),
    st.tuples(st.just("kill")),
)
BORN = [("finalize", (1, CAPTION))]
TAKEN = [*BORN, ("claim", (1, CAPTION))]
REQUESTED = [("request", (1, CAPTION))]
FAILED = [*TAKEN, ("give_up", 1, "fail")]
UNWRITTEN_COPY = [*TAKEN, ("record", 1, True), ("finish", (1, CAPTION), False)]
#: Most histories begin with an event; some with a delete. Without these beginnings, redriven rows would be rare.
interleavings = st.builds(
    operator.add,
    st.sampled_from([BORN, BORN, BORN, FAILED, UNWRITTEN_COPY, REQUESTED, []]),
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
        self.redriven: list[tuple[Key, RedrivenRow]] = []
        self.copies: list[tuple[Key, RedrivenRow, int]] = []

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

    def claim(self, key: Key) -> None:
        found = claims.claim(self.connection, self.ids.get(key, -1), LEASE_S)
        expected = self.model.claim(key)
        if isinstance(expected, Token):
            assert isinstance(found, Claim)
            assert (found.attempt, found.lost_attempts) == (expected.attempt, expected.lost_attempts)
            assert found.attempts_before_redrive == expected.before_redrive
            self.claims.append((found, expected))
        else:
            kinds = {"write back": WriteBack, "busy": claims.LeaseHeld, "nothing": type(None)}
            assert isinstance(found, kinds[expected])

    def record(self, number: int, write_back: bool) -> None:
        if not self.claims:
            return
        claim, token = self.claims[-min(number, len(self.claims))]
        # Each attempt has a caption of its own.
        words = f"attempt {claim.attempt}"
        lease_s = LEASE_S if write_back else None
        done = claims.record_caption(
            self.connection, claim, a_caption(words), IMAGE, size_bytes=1, write_back_lease_s=lease_s
        )
        assert (done is not None) == self.model.record(token, words, write_back=write_back)

    def give_up(self, number: int, how: str) -> None:
        if not self.claims:
            return
        claim, token = self.claims[-min(number, len(self.claims))]
        acts: dict[str, tuple[Callable[[], bool], Status, str | None]] = {
            "fail": (lambda: claims.fail(self.connection, claim, "bad", "words"), Status.FAILED, "bad"),
            "supersede": (lambda: claims.supersede(self.connection, claim), Status.SUPERSEDED, None),
            "mark_deleted": (lambda: claims.mark_deleted(self.connection, claim), Status.DELETED, None),
        }
        act, status, code = acts[how]
        assert act() == self.model.give_up(token, status, code)

    def put_back(self, number: int, lost: bool) -> None:
        if not self.claims:
            return
        claim, token = self.claims[-min(number, len(self.claims))]
        done = claims.requeue(self.connection, claim, "later", "words", lost=lost)
        assert done == self.model.give_up(token, Status.QUEUED, "later", lost=lost)

    def finish(self, key: Key, written: bool) -> None:
        code = None if written else "left_out"
        done = finish_write_back(self.connection, self.ids.get(key, -1), written=written, code=code)
        assert done == self.model.finish_write_back(key, written=written)

    def release(self, key: Key) -> None:
        done = claims.expire_lease(self.connection, self.ids.get(key, -1))
        assert done == self.model.release(key)

    def redrive(self) -> None:
        self.redriven += self._sent_again(DEAD_LETTERS, self.model.redrive())

    def redrive_copies(self) -> None:
        rows = self._sent_again(UNWRITTEN_ROWS, self.model.redrive_unwritten())
        self.copies += [(key, row, self.model.redrives) for key, row in rows]

    def _sent_again(self, kind: Redrivable, expected: list[Key]) -> list[tuple[Key, RedrivenRow]]:
        rows = kind.redrive(self.connection, RowFilter(objects=(("drops", self.name, None),)), 0, 100)
        assert {row.row_id for row in rows} == {self.ids[key] for key in expected}
        key_of = {row_id: key for key, row_id in self.ids.items()}
        return [(key_of[row.row_id], row) for row in rows]

    def take_back(self) -> None:
        if not self.redriven:
            return
        key, row = self.redriven[-1]
        done = DEAD_LETTERS.undo_redrive(self.connection, [row])
        assert (done == {row.row_id}) == self.model.undo_redrive(key, row.attempts, row.error_code)

    def take_back_copy(self) -> None:
        if not self.copies:
            return
        key, row, redrive = self.copies[-1]
        done = UNWRITTEN_ROWS.undo_redrive(self.connection, [row])
        assert (done == {row.row_id}) == self.model.undo_redrive_of_unwritten(key, redrive)

    def kill(self) -> None:
        self.connection.execute(_EXPIRE, {"name": self.name})
        self.model.kill_everything()

    def rows(self) -> dict[Key, Row]:
        """The table in the model's form."""
        found = {}
        for row in self.connection.execute(_SNAPSHOT, {"name": self.name}):
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
    )


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
            assert new == old
        if old.caption is not None:
            assert new.caption == old.caption
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
    reached: set[tuple[Status, Lease | None]] = set()

    @settings(max_examples=INTERLEAVINGS, deadline=None, print_blob=True)
    @given(interleavings)
    def live(interleaving: list[tuple[Any, ...]]) -> None:
        life = Life(connection, next(names))
        before: dict[Key, Row] = {}
        for name, *arguments in interleaving:
            getattr(life, name)(*arguments)
            after = life.rows()
            assert after == life.model.rows
            check_that_nothing_went_backwards(before, after)
            reached.update((row.status, row.lease) for row in after.values())
            before = after
        assert by_row(heard(ear, connection)) == by_row(life.model.notices)

    live()
    held_or_over = {(status, lease) for status in (Status.RUNNING, Status.CAPTIONED) for lease in Lease}
    assert reached == {(status, None) for status in set(Status) - {Status.RUNNING}} | held_or_over

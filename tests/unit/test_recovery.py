"""Which rows a recovery enqueues, and when, over rows in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from dropline.errors import BrokerUnavailable, DatabaseUnavailable
from tests.support.memory_rows import MemoryRows
from tests.support.script import Script
from worker.recovery import Recovery

#: Messages read by a recovery, oldest first.
HEAD = 100


@dataclass
class Scene:
    """A recovery with rows and queue in memory; each call is a step of the script."""

    script: Script
    rows: MemoryRows
    database: Any
    #: Row ids of the oldest messages.
    oldest: Sequence[int] = ()
    #: Enqueued rows: id and countdown in seconds.
    sent: list[tuple[int, float]] = field(default_factory=list)

    def run(self, batch: int = 500, resting_s: float = 0.0) -> tuple[int, int]:
        """Recover: numbers of enqueued rows, queued and leased."""
        found = Recovery(self.database, self, batch).run(resting_s)
        return found.queued, found.leased

    def begin_recovery(self) -> Sequence[int]:
        self.script.step("head")
        return self.oldest

    def enqueue_again(self, row_id: int, countdown_s: float) -> None:
        self.script.step("enqueue")
        self.sent.append((row_id, countdown_s))

    def end_recovery(self) -> None:
        assert self.rows.is_open, "the next worker's turn must not come before the end is noted"
        self.script.step("finished")


@pytest.fixture
def recovery(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A recovery without rows and messages."""
    script = Script()
    rows = MemoryRows(script)
    return Scene(script, rows, rows.install(monkeypatch))


def drop(recovery: Scene, count: int) -> list[int]:
    """Make `count` queued rows, each with another task: the ids."""
    return [recovery.rows.register(task=f"task {number}") for number in range(count)]


def test_nothing_is_enqueued_where_nothing_waits(recovery: Scene) -> None:
    """The recovery takes the lock, reads once, and notes the end."""
    assert recovery.run() == (0, 0)
    assert recovery.script.journal == ["lock_recovery", "head", "rows_without_message", "leased_rows", "finished"]


def test_rows_without_a_message_are_enqueued_at_once(recovery: Scene) -> None:
    """Every message of a short queue is known, so every other queued row has lost the message."""
    first, second, third = drop(recovery, 3)
    recovery.oldest = [second]
    assert recovery.run() == (2, 0)
    assert recovery.sent == [(first, 0.0), (third, 0.0)]


@pytest.mark.parametrize(("messages", "enqueued"), [(HEAD - 1, 2), (HEAD, 1)])
def test_behind_a_full_head_nothing_is_known(recovery: Scene, messages: int, enqueued: int) -> None:
    """The message of a row younger than the whole head may be behind the head."""
    ids = drop(recovery, messages + 2)
    recovery.oldest = ids[1:-1]
    assert recovery.run() == (enqueued, 0)
    assert recovery.sent == [(ids[0], 0.0), (ids[-1], 0.0)][:enqueued]


def test_many_rows_are_enqueued_in_batches(recovery: Scene) -> None:
    """Each row is enqueued once, in the order of the ids, and the count is of rows."""
    ids = drop(recovery, 7)
    assert recovery.run(batch=3) == (7, 0)
    assert recovery.sent == [(row_id, 0.0) for row_id in ids]


def test_a_leased_row_is_enqueued_for_the_end_of_its_lease(recovery: Scene) -> None:
    """The owner may be at work: the message arrives within seconds after the end of the lease."""
    (row_id,) = drop(recovery, 1)
    recovery.rows.claim_once(row_id, 30)
    assert recovery.run() == (0, 1)
    ((sent, countdown_s),) = recovery.sent
    assert sent == row_id
    assert 30 < countdown_s <= 40


def test_a_row_whose_lease_is_over_is_enqueued_at_once(recovery: Scene) -> None:
    """The owner is dead; a countdown would only delay the caption."""
    (row_id,) = drop(recovery, 1)
    recovery.rows.claim_and_die(row_id)
    assert recovery.run() == (0, 1)
    assert recovery.sent == [(row_id, 0.0)]


def test_queued_and_leased_rows_are_counted_apart(recovery: Scene) -> None:
    """Queued and leased rows are counted apart, also over batches of both kinds."""
    ids = drop(recovery, 5)
    for row_id in ids[:3]:
        recovery.rows.claim_and_die(row_id)
    assert recovery.run(batch=2) == (2, 3)
    assert sorted(recovery.sent) == [(row_id, 0.0) for row_id in ids]


@pytest.mark.parametrize(("resting_s", "enqueued"), [(300.0, 1), (0.0, 2)])
def test_rows_that_rest_between_two_attempts_are_left_out(
    recovery: Scene, resting_s: float, enqueued: int
) -> None:
    """A living worker holds the message of such a row until the retry."""
    tried, fresh = drop(recovery, 2)
    recovery.rows.requeue_once(tried)
    assert recovery.run(resting_s=resting_s) == (enqueued, 0)
    assert (fresh, 0.0) in recovery.sent


@pytest.mark.parametrize("call", ["head", "enqueue"])
def test_a_recovery_that_loses_redis_is_not_finished(recovery: Scene, call: str) -> None:
    """No end is noted: the enqueued rows would hide the other rows from the next recovery."""
    drop(recovery, 3)
    recovery.script.plan(call, BrokerUnavailable("away"))
    with pytest.raises(BrokerUnavailable):
        recovery.run()
    assert "finished" not in recovery.script.journal


@pytest.mark.parametrize("call", ["begin", "lock_recovery", "rows_without_message", "leased_rows"])
def test_a_recovery_that_loses_postgres_is_not_finished(recovery: Scene, call: str) -> None:
    """No end is noted; without the lock the queue is not read."""
    drop(recovery, 3)
    recovery.script.plan(call, DatabaseUnavailable("away"))
    with pytest.raises(DatabaseUnavailable):
        recovery.run()
    assert "finished" not in recovery.script.journal
    assert ("head" in recovery.script.journal) == ("rows" in call)

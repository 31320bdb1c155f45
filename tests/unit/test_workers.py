"""Whether a worker can caption an image now: each case, in words and as JSON."""

import pytest

from dropline.broker.workers import AliveWorkers, NotListed
from dropline.scaling.protocol import is_waking
from dropline.settings import Settings
from operations.workers import Availability, PoolState, WorkerState, availability, judge

A, B = "dropline-worker-a", "dropline-worker-b"
NO_WORKER = AliveWorkers(frozenset())
REFUSED = NotListed("Redis refuses CLIENT LIST (NOPERM)")


@pytest.mark.parametrize("pool", PoolState)
def test_alive_workers_count_under_every_mark_of_the_worker_pool(pool: PoolState) -> None:
    """One alive worker is enough, also under the mark of a sleeping worker pool."""
    found = judge(AliveWorkers(frozenset({A, B})), pool)
    assert (found.state, found.alive, found.may_answer) == (WorkerState.ALIVE, 2, True)
    assert (found.is_alive(A), found.is_alive("dropline-worker-killed")) == (True, False)
    assert found.words() == "2 workers are alive"
    assert judge(AliveWorkers(frozenset({A})), pool).words() == "1 worker is alive"


def test_a_worker_pool_that_wakes_may_answer() -> None:
    """Cloud Run was called, and no worker is connected yet."""
    found = judge(NO_WORKER, PoolState.WAKING)
    assert (found.state, found.alive, found.may_answer) == (WorkerState.WAKING, 0, True)
    assert "waking" in found.words()


@pytest.mark.parametrize(("pool", "words"), [(PoolState.NO_POOL, "start one"), (PoolState.ASLEEP, "sleeps")])
def test_without_a_worker_nothing_answers(pool: PoolState, words: str) -> None:
    """No worker, and no call to Cloud Run: waiting is useless, and the words say what starts one."""
    found = judge(NO_WORKER, pool)
    assert (found.state, found.alive, found.may_answer) == (WorkerState.NONE, 0, False)
    assert found.words().startswith("no worker is alive: ")
    assert words in found.words()


@pytest.mark.parametrize("pool", PoolState)
def test_a_list_that_redis_refuses_is_no_absence(pool: PoolState) -> None:
    """Without the list, no worker counts as alive or dead, and an answer may come."""
    found = judge(REFUSED, pool)
    assert (found.state, found.alive, found.is_alive(A), found.may_answer) == (
        WorkerState.NOT_KNOWN,
        None,
        None,
        True,
    )
    assert found.words() == f"not known whether a worker is alive: {REFUSED.reason}"


def test_without_the_url_of_redis_the_workers_are_not_known() -> None:
    """The reason names the variable; no connection is opened."""
    found = availability(Settings())
    assert found.state is WorkerState.NOT_KNOWN
    assert "DROPLINE_BROKER__URL" in found.words()


def test_the_document_has_state_number_and_words() -> None:
    """The JSON of each state has the same keys."""
    assert Availability(WorkerState.ALIVE, frozenset({A})).document() == {
        "state": "alive",
        "alive": 1,
        "words": "1 worker is alive",
    }
    assert judge(REFUSED, PoolState.NO_POOL).document()["alive"] is None


@pytest.mark.parametrize(
    ("mark", "waking"), [(None, False), ("sleeping:x", False), ("waking:x", True), ("awake", True)]
)
def test_which_marks_mean_that_workers_are_on_their_way(mark: str | None, waking: bool) -> None:
    """A call to 1 has begun or was answered, and none to 0 since."""
    assert is_waking(mark) is waking

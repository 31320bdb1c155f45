"""One call to Cloud Run for all requests of a process, and the time that a request waits for it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import cast
from unittest.mock import patch

import pytest

from dropline.deadline import Deadline
from dropline.scaling.activation import Activator
from dropline.scaling.errors import PoolChanging, ScalingRefused, ScalingUnknown
from trigger_fn import activation
from trigger_fn.activation import DeadlineActivator

#: For a loaded machine.
LONG_S = 60.0
#: A wait that ends without the call.
SHORT_S = 0.2


class Pool:
    """A worker pool whose first call ends when the test says so, and whose later calls end at once."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self._outcomes = outcomes
        self.awake = False
        #: The mark is `awake` after a call without an error.
        self.is_kept = True
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.calls = 0

    def is_awake(self) -> bool:
        """Whether the mark is `awake`."""
        return self.awake

    def scale_up(self) -> None:
        """Call Cloud Run."""
        number, self.calls = self.calls, self.calls + 1
        self.begun.set()
        assert self.may_end.wait(LONG_S)
        if number < len(self._outcomes) and (error := self._outcomes[number]):
            raise error
        self.awake = self.is_kept


@contextmanager
def activator_of(pool: Pool) -> Iterator[DeadlineActivator]:
    with closing(DeadlineActivator(cast("Activator", pool))) as found:
        try:
            yield found
        finally:
            pool.may_end.set()


def errors_of(
    activator: DeadlineActivator, pool: Pool, others: int, after: Callable[[], None]
) -> list[BaseException | None]:
    """The errors of a request, and of others that wait for the end of its call; `after` ends the call."""
    wait, waits = activation._wait, threading.Semaphore(0)

    def wait_noted(call: Future[None], limit: Deadline) -> None:
        waits.release()
        wait(call, limit)

    with patch.object(activation, "_wait", wait_noted), ThreadPoolExecutor(others + 1) as threads:

        def send() -> None:
            activator.ensure_awake(Deadline.after(LONG_S))

        first = threads.submit(send)
        assert pool.begun.wait(LONG_S)
        rest = [threads.submit(send) for _ in range(others)]
        for _ in range(others + 1):
            assert waits.acquire(timeout=LONG_S)
        after()
        return [each.exception(LONG_S) for each in (first, *rest)]


def test_requests_share_a_call() -> None:
    """30 requests cause a call, and one more that reads the mark again."""
    pool = Pool()
    with activator_of(pool) as activator:
        assert errors_of(activator, pool, 29, pool.may_end.set) == [None] * 30
    assert pool.calls == 2


def test_a_refusal_is_the_answer_to_its_own_request() -> None:
    """A request that arrived during the call that is refused has a call of its own."""
    refused = ScalingRefused("busy")
    pool = Pool(refused)
    with activator_of(pool) as activator:
        assert errors_of(activator, pool, 1, pool.may_end.set) == [refused, None]
    assert pool.calls == 2


def test_a_call_that_began_before_the_row_is_no_proof() -> None:
    """The call may have read the mark before the row was written; since then a worker scales to zero."""
    changing = PoolChanging("a worker is scaling to zero")
    pool = Pool(None, changing)
    pool.is_kept = False
    with activator_of(pool) as activator:
        assert errors_of(activator, pool, 1, pool.may_end.set) == [None, changing]


def test_a_call_that_hangs_ends_the_wait_and_not_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is answered at its limit, no second call begins, and a later request reads `awake`."""
    monkeypatch.setattr(activation, "WAKE_BUDGET_S", SHORT_S)
    pool = Pool()
    with activator_of(pool) as activator:
        for _ in range(2):
            with pytest.raises(ScalingUnknown):
                activator.ensure_awake(Deadline.after(LONG_S))
        pool.may_end.set()
        while not pool.awake:
            threading.Event().wait(0.01)
        activator.ensure_awake(Deadline.after(LONG_S))
    assert pool.calls == 1


def test_further_requests_are_answered_at_their_own_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """While as many requests wait as may, the next one does not occupy its thread for longer than any request."""
    monkeypatch.setattr(activation, "MOST_WAITING", 1)
    pool = Pool()
    found: list[type[BaseException]] = []
    with activator_of(pool) as activator:

        def send_another() -> None:
            with pytest.raises(ScalingUnknown) as late:
                activator.ensure_awake(Deadline.after(SHORT_S))
            found.append(late.type)
            pool.may_end.set()

        monkeypatch.setattr(activation, "WAKE_BUDGET_S", LONG_S)
        assert errors_of(activator, pool, 0, send_another) == [None]
    assert found == [ScalingUnknown]

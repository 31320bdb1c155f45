"""When a process without rights on the worker pool has the function called, over a mark in memory."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.scaling.errors import ScalingRefused
from dropline.scaling.mark import PoolMark
from dropline.scaling.protocol import AWAKE
from dropline.scaling.wake_queue import WakeQueue
from dropline.scaling.wake_requests import PAUSE_S, WakeRequester
from tests.support.scaling_store import MemoryStore


class Tasks:
    """Cloud Tasks: the times of the tasks taken, and refusals on demand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.refuses = False
        self.times: list[float] = []

    def arrange(self, in_s: float, consequence: str) -> None:
        """Note the time of the task."""
        assert in_s >= 0
        if self.refuses:
            raise ScalingRefused(f"busy; {consequence}")
        self.times.append(self.now + in_s)


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.sampled_from([None, AWAKE, "sleeping:1"]), st.booleans()), max_size=60
    )
)
def test_each_request_is_followed_by_a_task(steps: list[tuple[float, str | None, bool]]) -> None:
    """A request that succeeds under another mark than `awake` has a later task, and few requests make one."""
    store, tasks = MemoryStore(), Tasks()
    requester = WakeRequester(cast("PoolMark", store), cast("WakeQueue", tasks), lambda: tasks.now)
    for pause_s, mark, refuses in steps:
        tasks.now += pause_s
        store.mark, tasks.refuses = mark, refuses
        taken = len(tasks.times)
        try:
            requester.ensure_awake()
        except ScalingRefused:
            assert refuses
            continue
        if mark == AWAKE:
            assert len(tasks.times) == taken
        else:
            assert tasks.times[-1] >= tasks.now
    assert all(
        later - earlier >= PAUSE_S - 1e-6 for earlier, later in zip(tasks.times, tasks.times[1:], strict=False)
    )


def test_the_first_task_is_due_at_once() -> None:
    """The first image does not wait; the second request within the pause has a task behind it."""
    tasks = Tasks()
    requester = WakeRequester(cast("PoolMark", MemoryStore()), cast("WakeQueue", tasks), lambda: tasks.now)
    for _ in range(3):
        requester.ensure_awake()
    assert tasks.times == [0, PAUSE_S]
    tasks.now = 3 * PAUSE_S
    requester.ensure_awake()
    assert tasks.times == [0, PAUSE_S, 3 * PAUSE_S]


def test_a_task_that_is_refused_is_asked_for_again() -> None:
    """A refusal names the consequence, and the next request asks again."""
    tasks = Tasks()
    requester = WakeRequester(cast("PoolMark", MemoryStore()), cast("WakeQueue", tasks), lambda: tasks.now)
    tasks.refuses = True
    with pytest.raises(ScalingRefused, match="the worker pool may stay at zero"):
        requester.ensure_awake()
    tasks.refuses = False
    requester.ensure_awake()
    assert tasks.times == [0]

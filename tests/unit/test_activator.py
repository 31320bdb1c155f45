"""When the function calls Cloud Run, and the log line of each call, over a mark in memory."""

from collections.abc import Callable
from typing import cast

import pytest
from structlog.testing import CapturedCall, CapturingLogger

from dropline.scaling import activation
from dropline.scaling.mark import PoolMark
from dropline.scaling.pool_document import PoolDocument
from dropline.scaling.protocol import AWAKE, ScalingPolicy
from tests.support.scaling_store import MemoryStore


class RecordingPool:
    """A worker pool with a record of the requested numbers of instances."""

    def __init__(self) -> None:
        self.history: list[int] = []

    def prepare(self) -> None:
        """Do not prepare."""

    def read(self) -> PoolDocument:
        """Know nothing."""
        return PoolDocument({})

    def scale(self, instances: int, before_change: Callable[[], None] = lambda: None) -> str:
        """Note the number."""
        before_change()
        self.history.append(instances)
        return ""


@pytest.mark.parametrize(("mark", "history"), [(None, [3]), (AWAKE, [])])
def test_a_call_that_scales_the_worker_pool_up_is_logged(
    monkeypatch: pytest.MonkeyPatch, mark: str | None, history: list[int]
) -> None:
    """Each call of Cloud Run has a log line with the number of instances; a request without a call has no line."""
    log, store, pool = CapturingLogger(), MemoryStore(), RecordingPool()
    monkeypatch.setattr(activation, "log", log)
    store.mark = mark
    activation.Activator(cast("PoolMark", store), pool, ScalingPolicy(instances=3)).scale_up()
    assert (pool.history, store.mark) == (history, AWAKE)
    expected = [CapturedCall("info", ("pool_woken",), {"instances": count}) for count in history]
    assert log.calls == expected

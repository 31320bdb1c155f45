"""When a stream takes no further tasks."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from dropline.contract import Caption, Dimensions, TaskPrompt, TaskRequest
from worker.engine.runtime.florence_stream import FlorenceStream
from worker.engine.runtime.network.slots import Ended
from worker.engine.wire import CaptionRequest


class Slots:
    """Slots whose answers end when a test says so."""

    most = 4

    def __init__(self) -> None:
        self.ending: list[Ended] = []
        self.dropped: set[int] = set()
        self._numbers = iter(range(100))

    def wanted(self, waiting: int) -> int:
        return min(waiting, self.most)

    def prepare(self, batch: Sequence[object]) -> list[int]:
        return [next(self._numbers) for _ in batch]

    def advance(self) -> list[Ended]:
        ended, self.ending = self.ending, []
        return ended

    def drop(self, numbers: set[int]) -> None:
        self.dropped |= numbers


def stream(slots: Slots, patience_s: float) -> FlorenceStream:
    def run(work: Callable[[], list[Ended]]) -> list[Ended]:
        return work()

    parts: dict[str, Any] = {
        "largest": lambda: 3,
        "patience_s": patience_s,
        "batch_of": list,
        "check": lambda _: None,
        "guarded": run,
        "caption": lambda *_: Caption("a caption", None, "scripted", "test"),
    }
    return FlorenceStream(slots, **parts)  # type: ignore[arg-type]  # slots of the test


def request() -> CaptionRequest:
    return CaptionRequest(np.zeros((1, 1, 3), np.uint8), TaskRequest(TaskPrompt.OCR), Dimensions(1, 1))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_no_task_is_taken_while_an_old_one_waits(clock: list[float]) -> None:
    """Each image that a CPU sees meanwhile makes the old answer wait; after its end others begin again."""
    slots = Slots()
    found = stream(slots, patience_s=40)
    old, young = request(), request()
    found.add([old])
    clock[0] = 30
    assert found.wanted(2) == 2
    found.add([young])
    clock[0] = 41
    assert found.wanted(2) == 0
    slots.ending = [Ended(0, [1], broken=False)]
    assert [each for each, _ in found.advance()] == [old]
    assert found.wanted(5) == 2


def test_a_gpu_takes_tasks_beside_old_ones(clock: list[float]) -> None:
    """There, images and answers share the time."""
    found = stream(Slots(), patience_s=math.inf)
    found.add([request()])
    clock[0] = 1e6
    assert found.wanted(1) == 1


def test_a_dropped_task_has_no_answer(clock: list[float]) -> None:
    """Its end is not returned, and it takes no room."""
    slots = Slots()
    found = stream(slots, patience_s=40)
    gone, other = request(), request()
    found.add([gone, other])
    clock[0] = 39
    found.drop([gone])
    assert slots.dropped == {0}
    slots.ending = [Ended(0, [1], broken=False), Ended(1, [1], broken=False)]
    assert [each for each, _ in found.advance()] == [other]

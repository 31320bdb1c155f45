"""The stub's stream: each answer ends by itself, in virtual time."""

import numpy as np
import pytest

from dropline.contract import Dimensions, TaskPrompt, TaskRequest
from worker.engine.runtime import model
from worker.engine.runtime.model import StubModel, StubStream
from worker.engine.wire import CaptionRequest


class VirtualTime:
    """A clock that only sleep moves, in place of the module `time`."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    """The stream's time."""
    virtual = VirtualTime()
    monkeypatch.setattr(model, "time", virtual)
    return virtual


def request(task: TaskPrompt) -> CaptionRequest:
    return CaptionRequest(np.zeros((1, 1, 3), np.uint8), TaskRequest(task), Dimensions(1, 1))


def next_captions(stream: StubStream) -> list[str]:
    """Of the answers that end together next."""
    while not (ended := stream.advance()):
        pass
    return [outcome.text for _, outcome in ended if not isinstance(outcome, Exception)]


def test_an_answer_neither_waits_for_another_nor_holds_it_up(clock: VirtualTime) -> None:
    """An answer begun in the middle of another ends a quarter of a second after its own begin."""
    stream = StubStream(0.25, 8)
    stream.add([request(TaskPrompt.CAPTION)])
    while clock.now < 100.125:
        assert stream.advance() == []
    began = clock.now
    assert stream.wanted(7) == 7
    stream.add([request(TaskPrompt.OCR)])
    assert next_captions(stream) == ["stub <CAPTION>"]
    assert clock.now == pytest.approx(100.25)
    assert next_captions(stream) == ["stub <OCR>"]
    assert clock.now == pytest.approx(began + 0.25)


@pytest.mark.usefixtures("clock")
def test_dropped_answers_do_not_end() -> None:
    """Also those of a reset."""
    stream = StubStream(0.01, 8)
    gone, stays = request(TaskPrompt.OCR), request(TaskPrompt.CAPTION)
    stream.add([gone, stays])
    stream.drop([gone])
    assert next_captions(stream) == ["stub <CAPTION>"]
    stream.add([gone])
    stream.reset()
    assert stream.advance() == []


def test_a_stub_without_time_answers_in_batches() -> None:
    """Benchmarks of the event path have no steps of an engine."""
    assert StubModel().stream is None
    stream = StubModel(0.25, 8).stream
    assert stream is not None
    assert stream.most == 8

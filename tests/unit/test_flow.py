"""Requests that pass through a stream: each is answered once, whatever fails beside it."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from dropline.contract import Caption, Dimensions, TaskPrompt, TaskRequest
from dropline.errors import DroplineError, InferenceFailed
from worker.engine.runtime.batcher import Batcher
from worker.engine.runtime.flow import Flow
from worker.engine.runtime.model import NON_FINITE_LOGITS, BatchTooLarge, DeviceBroken
from worker.engine.wire import CaptionRequest

ORIGINAL = Dimensions(8, 8)


@dataclass(frozen=True, eq=False)
class Request:
    """A request of a child."""

    child: int
    requests: list[CaptionRequest]
    isolated: bool = False
    priority: int = 0

    @property
    def size(self) -> int:
        return len(self.requests)


def request(child: int, tasks: int = 1, *, code: int = 0, isolated: bool = False) -> Request:
    """A request with a code in its pixels, which is the number of turns that its answers take."""
    pixels = np.full((1, 1, 3), code, np.uint8)
    task = TaskRequest(TaskPrompt.CAPTION)
    return Request(child, [CaptionRequest(pixels, task, ORIGINAL, isolated) for _ in range(tasks)], isolated)


#: Codes of images that fail.
RAISE, NOT_FINITE, BREAK, LARGE = 255, 254, 253, 100


class ScriptedStream:
    """Answers a task after as many turns as its image says."""

    most = 4

    def __init__(self) -> None:
        self.running: list[tuple[CaptionRequest, int]] = []
        #: Tasks that ran at the same time, by turn.
        self.loads: list[int] = []

    def wanted(self, waiting: int) -> int:
        return min(waiting, self.most - len(self.running))

    def add(self, requests: Sequence[CaptionRequest]) -> None:
        assert len(self.running) + len(requests) <= self.most
        self.running += [(each, int(each.pixels[0, 0, 0])) for each in requests]

    def advance(self) -> list[tuple[CaptionRequest, Caption | InferenceFailed]]:
        self.loads.append(len(self.running))
        codes = [code for _, code in self.running]
        if BREAK in codes:
            raise DeviceBroken("an illegal memory access")
        if RAISE in codes:
            raise RuntimeError("a poisonous image")
        if sum(code >= LARGE for code in codes) > 2:
            raise BatchTooLarge("out of memory")
        over = (0, LARGE, NOT_FINITE)
        ended = [(each, _outcome(code)) for each, code in self.running if code in over]
        self.running = [(each, code - 1) for each, code in self.running if code not in over]
        return ended

    def drop(self, requests: Sequence[CaptionRequest]) -> None:
        self.running = [(each, code) for each, code in self.running if each not in requests]

    def reset(self) -> None:
        self.running.clear()


def _outcome(code: int) -> Caption | InferenceFailed:
    if code == NOT_FINITE:
        return InferenceFailed("not finite", code=NON_FINITE_LOGITS)
    return Caption("a caption", None, "scripted", "test")


class Bench:
    """A flow with all that it did."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.stream = ScriptedStream()
        self.batcher: Batcher[Request] = Batcher(ScriptedStream.most, 0)
        self.answered: list[int] = []
        self.in_batches: list[list[int]] = []
        self.probes = 0
        self.probe_error: Exception | None = None
        self.gone: set[int] = set()
        self._left = len(requests)
        for each in requests:
            self.batcher.submit(each)

    def run(self) -> None:
        Flow(
            self.stream,
            self.batcher,
            watched=contextlib.nullcontext,
            probe=self._probe,
            started=lambda _: None,
            answer=self._answer,
            in_batches=self._in_batches,
            is_gone=lambda pending: pending.child in self.gone,
        ).run()

    def _probe(self) -> None:
        self.probes += 1
        if self.probe_error:
            raise self.probe_error

    def _answer(self, pending: Request, outcomes: Sequence[Caption | DroplineError]) -> None:
        assert len(outcomes) == pending.size
        self._end([pending])
        self.answered.append(pending.child)

    def _in_batches(self, batch: list[Request]) -> None:
        assert not self.stream.running
        self.in_batches.append([each.child for each in batch])
        self._end(batch)

    def _end(self, batch: Sequence[Request]) -> None:
        self._left -= len(batch)
        if not self._left:
            self.batcher.close()


def test_short_requests_pass_a_long_one() -> None:
    """The next request takes the place of one that has ended; no place stays empty while requests wait."""
    bench = Bench([request(0, code=5), *(request(child) for child in range(1, 10))])
    bench.run()
    assert bench.answered == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert bench.stream.loads[:3] == [4, 4, 4]


def test_a_request_of_several_tasks_is_answered_once() -> None:
    """With the outcomes of all tasks."""
    bench = Bench([request(0, 3), request(1, 2), request(2)])
    bench.run()
    assert bench.answered == [0, 1, 2]


@pytest.mark.parametrize(
    ("last", "order"),
    [(request(2, isolated=True), [1, 3, 0]), (request(2, 5), [1, 0, 3])],
    ids=["isolated", "too large"],
)
def test_a_request_that_runs_alone_waits_until_the_stream_is_empty(last: Request, order: list[int]) -> None:
    """Those behind a large one wait too; those behind an isolated one share the batch before it."""
    bench = Bench([request(0, code=3), request(1), last, request(3)])
    bench.run()
    assert bench.answered == order
    assert bench.in_batches == [[2]]


def test_an_error_of_the_stream_sends_all_that_is_under_way_through_batches() -> None:
    """There, the one that is at fault fails alone; the requests that wait go on in the stream."""
    bench = Bench([request(0, code=3), request(1), request(2, code=RAISE), request(3), request(4)])
    bench.run()
    assert bench.in_batches == [[0, 1, 2, 3]]
    assert bench.answered == [4]


def test_a_caption_without_finite_logits_has_the_model_probed() -> None:
    """A model that is broken for all images ends with the error of the probe."""
    bench = Bench([request(0, code=NOT_FINITE), request(1)])
    bench.run()
    assert bench.probes == 1
    assert bench.answered == [0, 1]


def test_a_probe_without_memory_is_no_verdict() -> None:
    """The answers under way, which the probe has ended, begin again in batches."""
    bench = Bench([request(0, code=NOT_FINITE), request(1, code=3)])
    bench.probe_error = BatchTooLarge("another program has the memory")
    bench.run()
    assert bench.in_batches == [[0, 1]]


def test_fewer_are_under_way_after_the_memory_ran_out() -> None:
    """One error, and not one for every few requests."""
    bench = Bench([request(child, code=LARGE + 1) for child in range(12)])
    bench.run()
    assert bench.in_batches == [[0, 1, 2, 3]]
    assert sorted(bench.answered) == list(range(4, 12))
    assert max(bench.stream.loads[1:]) == 2


def test_a_request_that_no_longer_fits_runs_in_batches() -> None:
    """A request of more tasks than the memory holds is not tried whole again."""
    bench = Bench([request(0, 4, code=LARGE + 1), request(1, 4, code=LARGE + 1)])
    bench.run()
    assert bench.in_batches == [[0], [1]]
    assert len(bench.stream.loads) == 1


def test_a_sender_that_is_gone_makes_room() -> None:
    """Its tasks end; the others are answered."""
    bench = Bench([request(0, 3, code=50), request(1), request(2), request(3)])
    started = bench.stream.advance

    def leaving() -> list[tuple[CaptionRequest, Caption | InferenceFailed]]:
        bench.gone = {0}
        return started()

    bench.stream.advance = leaving  # type: ignore[method-assign]  # one stream of one test
    bench._left -= 1
    bench.run()
    assert bench.answered == [1, 2, 3]
    assert len(bench.stream.loads) < 5


def test_a_broken_device_ends_the_flow() -> None:
    """The process has to end."""
    with pytest.raises(DeviceBroken):
        Bench([request(0, code=BREAK)]).run()


def test_what_is_under_way_is_answered_after_the_close() -> None:
    """What waits in the queue is not."""
    bench = Bench([*(request(child, code=2) for child in range(4)), request(4)])
    advance, turns = bench.stream.advance, iter(range(100))

    def closing() -> list[tuple[CaptionRequest, Caption | InferenceFailed]]:
        if next(turns) == 1:
            bench.batcher.close()
        return advance()

    bench.stream.advance = closing  # type: ignore[method-assign]  # one stream of one test
    bench.run()
    assert bench.answered == [0, 1, 2, 3]

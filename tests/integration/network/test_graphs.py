"""How graphs are captured, with a stand-in for torch's CUDA: no GPU is here."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from worker.engine.runtime.network.form import CudaGraphs, Part, graph_form

DEVICE = torch.device("cuda", 0)


class Stream:
    """A stream; in torch, streams of the same priority are different ones, too."""

    def __init__(self, device: torch.device | None = None, priority: int = 0) -> None:
        del device
        self.priority = priority

    def wait_stream(self, other: "Stream") -> None:
        """Streams of the stand-in run in turn."""


@dataclass
class Cuda:
    """What `torch.cuda` was asked for."""

    current: Stream = field(default_factory=Stream)
    #: Pool, stream and graph of each capture.
    captures: list[tuple[object, Stream, object]] = field(default_factory=list)
    #: Device and pool of each recording that was ended.
    ended: list[tuple[int, object]] = field(default_factory=list)
    #: Raised by the end of the next capture.
    end_error: RuntimeError | None = None

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    @contextmanager
    def graph(self, graph: object, *, pool: object, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        self.captures.append((pool, stream, graph))
        self.current = stream
        try:
            yield
        finally:
            error, self.end_error = self.end_error, None
            if error:
                # As in torch: the stream stays the current one.
                raise error

    def set_stream(self, stream: Stream) -> None:
        self.current = stream


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """The stand-in, in torch's place."""
    stand_in = Cuda()
    for name, value in {
        "Stream": Stream,
        "Event": SimpleNamespace,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
        "graph_pool_handle": object,
        "current_stream": lambda _device: stand_in.current,
        "stream": stand_in.stream,
        "set_stream": stand_in.set_stream,
        "graph": stand_in.graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    end = "_cuda_endAllocateToPool"
    monkeypatch.setattr(torch._C, end, lambda *recording: stand_in.ended.append(recording), raising=False)
    return stand_in


def test_graphs_that_run_at_the_same_time_share_neither_pool_nor_stream(cuda: Cuda) -> None:
    """Torch keeps one workspace of matrix products for a stream: both graphs would write into it."""
    form = graph_form(DEVICE)
    for capture in (form.capture, form.capture_aside, form.capture, form.capture_aside):
        capture(Part.DECODER, lambda: None)
    (pool, stream, _), (pool_aside, stream_aside, _), *again = cuda.captures
    assert pool is not pool_aside
    assert stream is not stream_aside
    assert [capture[:2] for capture in again] == [(pool, stream), (pool_aside, stream_aside)]


def test_a_token_goes_before_an_image(cuda: Cuda) -> None:
    """A lower number is a higher priority; a node of a graph has that of the stream of its capture."""
    form = graph_form(DEVICE)
    form.capture(Part.DECODER, lambda: None)
    form.capture_aside(Part.VISION, lambda: None)
    tokens, images = (stream.priority for _, stream, _ in cuda.captures)
    assert tokens < images


def test_work_runs_once_before_its_capture_in_the_same_stream(cuda: Cuda) -> None:
    """The library of matrix products reserves its workspace there, outside of the graph's memory."""
    streams: list[Any] = []
    CudaGraphs(DEVICE, 0)(Part.VISION, lambda: streams.append(cuda.current))
    assert streams == [cuda.captures[0][1]] * 2


def test_the_process_goes_on_after_a_failed_capture(cuda: Cuda) -> None:
    """The memory ran out: the error says so, the stream is that of before, and the pool records no more."""
    before, graphs, runs = cuda.current, CudaGraphs(DEVICE, 0), 0

    def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            cuda.end_error = RuntimeError("the capture was invalidated")
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        graphs(Part.VISION, work)
    assert cuda.current is before
    graphs(Part.VISION, lambda: None)
    first, second = cuda.captures
    assert first[:2] == second[:2]
    assert cuda.ended == [(0, first[0])]


def test_the_command_that_compares_the_lanes_runs() -> None:
    """On a GPU it compares captions of images that are seen beside the tokens of others; here it runs alone."""
    command = [sys.executable, "-m", "tests.support.lane_parity", "--checkpoint", "demo", "--images", "24"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "24 of 24 captions agree on cpu" in finished.stdout

"""How a device runs the network: work plain or captured as graphs, in turn or beside other work."""

import contextlib
import enum
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from worker.engine.runtime.device_errors import Fault, fault_of
from worker.engine.runtime.network.pairs import THREADS, Pairs

#: Prompts are padded to a multiple of so many tokens, so that few lengths need a graph.
_PROMPT_STEP = 16
#: Pixels that keep threads of a CPU busy: several images of Florence-2's own size in one pass gain nothing, small
#: ones gain much.
_CPU_PIXELS = 768 * 768

Work = Callable[[], None]


class Part(enum.StrEnum):
    """The parts of the network's work."""

    VISION = "vision"
    ENCODER = "encoder"
    DECODER = "decoder"


#: Turns work on a device into repeated work on the same memory.
Capture = Callable[[Part, Work], Work]


class Lane(Protocol):
    """Runs work beside the device's main work, one piece at a time."""

    def start(self, work: Work) -> None:
        """Start work once the main work so far is done."""
        ...

    def ready(self) -> bool:
        """Whether the work has ended; never blocks."""
        ...

    def join(self) -> None:
        """Let the main work that follows wait for the work."""
        ...


class SameLane:
    """Runs work at once: two threads of a CPU share the cores."""

    def start(self, work: Work) -> None:
        """See `Lane`."""
        work()

    def ready(self) -> bool:
        """See `Lane`."""
        return True

    def join(self) -> None:
        """See `Lane`."""


class SideStream:
    """A second stream of a GPU: tokens are bound by the memory, and leave the matrix units to the images."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._ended = torch.cuda.Event()

    def start(self, work: Work) -> None:
        """See `Lane`."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            work()
            self._ended.record()

    def ready(self) -> bool:
        """See `Lane`."""
        return self._ended.query()

    def join(self) -> None:
        """See `Lane`."""
        torch.cuda.current_stream(self._device).wait_event(self._ended)


def _in_turn(pieces: Sequence[Work]) -> None:
    for piece in pieces:
        piece()


@dataclass(frozen=True, slots=True)
class Form:
    """The form of one kind of device."""

    #: Of the main work.
    capture: Capture
    #: Of the work in the lane.
    capture_aside: Capture
    lane: Lane
    #: Sizes stay exact; else sizes are rounded up to a few, since each size has graphs.
    exact: bool
    #: Tokens between two looks of the host at the answers. A look makes a GPU wait for the host.
    tokens_per_look: int
    #: Wait for the main work before the host reads its result.
    settle: Callable[[], None] = lambda: None
    #: Most images in one pass of the vision tower.
    images_at_once: int = sys.maxsize
    #: Passes of the vision tower at the same time.
    passes: int = 1
    #: Run passes of the vision tower.
    run_all: Callable[[Sequence[Work]], None] = _in_turn

    def rounded(self, count: int, most: int) -> int:
        """The size of the graph for so many images, prompts or rows: a power of two, or the most."""
        return count if self.exact else min(1 << (count - 1).bit_length(), most)

    def padded_width(self, longest: int, most: int) -> int:
        """Tokens of padded prompts."""
        return longest if self.exact else min(-(-longest // _PROMPT_STEP) * _PROMPT_STEP, most)

    def worthwhile(self, waiting: int) -> int:
        """Images of the next group, by the number of waiting images."""
        at_once = self.images_at_once * self.passes
        return min(waiting, at_once) if self.exact else 1 << (waiting.bit_length() - 1)


def form_of(device: torch.device, side_px: int) -> Form:
    """The form of a device, for images of so many pixels per side."""
    if device.type == "cuda":
        return graph_form(device)
    pairs = Pairs() if torch.get_num_threads() == THREADS else None
    return direct_form(max(1, _CPU_PIXELS // side_px**2), pairs)


def uncaptured(_part: Part, work: Work) -> Work:
    """The work itself, on the same memory."""
    return work


def direct_form(images_at_once: int = 1, pairs: Pairs | None = None) -> Form:
    """Layer after layer, as a CPU does best; with pairs, two passes of the vision tower at the same time."""
    # One token between two groups of images: many answers share a step. Four answer sooner, and cost 8 %.
    return Form(
        uncaptured,
        uncaptured,
        SameLane(),
        exact=True,
        tokens_per_look=1,
        images_at_once=images_at_once,
        passes=pairs.size if pairs else 1,
        run_all=pairs.run if pairs else _in_turn,
    )


def graph_form(device: torch.device) -> Form:
    """Graphs of a GPU. The kernels of a token are small, and go before those of the images."""
    return Form(
        CudaGraphs(device, priority=-1),
        CudaGraphs(device, priority=0),
        SideStream(device),
        exact=False,
        tokens_per_look=4,
        settle=functools.partial(_sleep_until_done, device),
    )


def _sleep_until_done(device: torch.device) -> None:
    # A read of the result would wait too, but in a loop that takes a core from the children.
    done = torch.cuda.Event(blocking=True)
    done.record(torch.cuda.current_stream(device))
    done.synchronize()


class CudaGraphs:
    """See `Capture`: CUDA graphs that run one after the other. Graphs that run beside them need others.

    They share a pool of memory, and a stream. Torch keeps a workspace of matrix products for each stream, so
    graphs that were captured in the same stream write into the same workspace.
    """

    def __init__(self, device: torch.device, priority: int) -> None:
        """Capture for a device; work of a lower priority number goes first."""
        self._device = device
        self._stream = torch.cuda.Stream(device, priority=priority)
        self._pool = torch.cuda.graph_pool_handle()
        #: Also those of failed captures: the end of a graph frees the workspace of its stream.
        self._graphs: list[torch.cuda.CUDAGraph] = []

    def __call__(self, _part: Part, work: Work) -> Work:
        """See `Capture`."""
        # Once outside of the graph: kernels are compiled, and libraries reserve their memory.
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                work()
        finally:
            current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        self._graphs.append(graph)
        try:
            # Other threads may reserve page-locked memory for a new child meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                work()
        except RuntimeError as error:
            self._tidy_up(current)
            # The end of a broken capture raises an error of its own, which hides that the memory ran out.
            cause = error.__context__
            if isinstance(cause, RuntimeError) and fault_of(cause) is Fault.MEMORY:
                raise cause from None
            raise
        replay: Work = graph.replay
        return replay

    def _tidy_up(self, current: torch.cuda.Stream) -> None:
        """After a capture whose end failed: torch leaves its stream as the current one, and the pool recording."""
        torch.cuda.set_stream(current)
        # An error: the capture ended as it should.
        with contextlib.suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(self._device.index or 0, self._pool)  # noqa: SLF001 - no public name

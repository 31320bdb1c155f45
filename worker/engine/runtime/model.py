"""The interface between server and model, and a stub without a model, to measure the rest of the system."""

import sys
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dropline.contract import Caption
from dropline.errors import InferenceFailed
from worker.engine.slot import Pixels
from worker.engine.wire import CaptionRequest

#: Code of an image whose logits are not finite.
NON_FINITE_LOGITS = "non_finite_logits"
#: Code of an answer that repeats itself up to the limit of tokens.
REPETITIVE_ANSWER = "repetitive_answer"


class BatchTooLarge(Exception):
    """The device's memory does not hold a batch of this size."""


class DeviceBroken(Exception):
    """The process can use the device no more: the process has to end, whatever the image."""


class Stream(Protocol):
    """Answers that begin and end in mid-flight. One thread uses a stream and the model."""

    #: The most tasks at a time.
    most: int

    def wanted(self, waiting: int) -> int:
        """Tasks that `add` takes now, by the number of waiting tasks; 0: none before the next `advance`."""
        ...

    def add(self, requests: Sequence[CaptionRequest]) -> None:
        """Take tasks; those of one image have the same array of pixels. Only after a positive `wanted`.

        Raises:
            BatchTooLarge, DeviceBroken: as of `Model.caption`.
        """
        ...

    def advance(self) -> list[tuple[CaptionRequest, Caption | InferenceFailed]]:
        """Let all answers grow by some tokens; returns the ended tasks, each once.

        Raises:
            BatchTooLarge, DeviceBroken: as of `Model.caption`.
        """
        ...

    def drop(self, requests: Sequence[CaptionRequest]) -> None:
        """End tasks whose sender is gone; `advance` does not return them.

        Raises:
            DeviceBroken: as of `Model.caption`.
        """
        ...

    def reset(self) -> None:
        """Forget all tasks, after an error."""
        ...


class Model(Protocol):
    """A loaded model. One thread uses a model; only `allocate` is thread-safe."""

    #: Pixels per side of the square image that the model takes.
    input_size: int
    #: Checkpoint as configured.
    name: str
    #: Commit of the checkpoint, or a digest of the weights.
    revision: str
    #: The largest batch that `warmup` found: on a CPU by the time of a batch, on a GPU by the free memory.
    largest_batch: int
    #: True if a larger batch may fit later, when other programs have freed memory.
    may_grow: bool
    #: Device and dtype, for the log.
    device: str
    dtype: str

    @property
    def stream(self) -> Stream | None:
        """None: the model answers in batches alone."""
        ...

    def allocate(self) -> Pixels:
        """Memory for one image, uint8 `[input_size, input_size, 3]`, of the kind that the device reads fastest."""
        ...

    def caption(self, batch: Sequence[CaptionRequest]) -> list[Caption | InferenceFailed]:
        """The captions of a batch, in the batch's order; an error in place of an answer that is no answer.

        Requests of one image have the same array of pixels, so that the image need be seen once.

        Raises:
            BatchTooLarge: the device's memory ran out; the device is usable again.
            DeviceBroken: no later batch of this process can succeed.
            InferenceFailed: a request of the batch fails on every attempt.
        """
        ...

    def warmup(self) -> None:
        """Prepare for the first batch, and find the largest one; raises the error of a broken model."""
        ...

    def probe(self) -> None:
        """Caption a test image; raises the error of a broken model."""
        ...


#: Of the stub: from one look at the queue to the next, as from token to token.
_STEP_S = 0.005


class StubStream:
    """Answers of a stub, each after the same time."""

    def __init__(self, image_s: float, most: int) -> None:
        """No answer under way; each takes `image_s` seconds, and at most `most` are under way at a time."""
        self._image_s = image_s
        self.most = most
        #: In the order of their ends.
        self._ends: list[tuple[float, CaptionRequest]] = []

    def wanted(self, waiting: int) -> int:
        """All."""
        return waiting

    def add(self, requests: Sequence[CaptionRequest]) -> None:
        """Begin answers."""
        end = time.monotonic() + self._image_s
        self._ends += [(end, request) for request in requests]

    def advance(self) -> list[tuple[CaptionRequest, Caption | InferenceFailed]]:
        """Wait for the next end, or for a step; the ended answers."""
        now = time.monotonic()
        time.sleep(min(_STEP_S, max(0.0, self._ends[0][0] - now)) if self._ends else 0)
        now = time.monotonic()
        ended = [request for end, request in self._ends if end <= now]
        self._ends = [each for each in self._ends if each[0] > now]
        return [(request, _stub_caption(request)) for request in ended]

    def drop(self, requests: Sequence[CaptionRequest]) -> None:
        """End these answers."""
        gone = set(map(id, requests))
        self._ends = [each for each in self._ends if id(each[1]) not in gone]

    def reset(self) -> None:
        """End all answers."""
        self._ends.clear()


class StubModel:
    """A model whose caption is `stub <task>` for every image, at once or after the same time for each image."""

    input_size = 768
    name = "stub"
    revision = "stub"
    largest_batch = sys.maxsize
    may_grow = False
    device = "none"
    dtype = "none"

    def __init__(self, image_s: float = 0.0, most: int = 32) -> None:
        """Each answer takes `image_s` seconds, without CPU; 0: the answers come in batches, at once.

        Args:
            image_s: of each answer.
            most: answers at a time, where they take time.
        """
        self.stream = StubStream(image_s, most) if image_s else None

    def allocate(self) -> Pixels:
        """Plain memory for one image."""
        return np.empty((self.input_size, self.input_size, 3), np.uint8)

    def caption(self, batch: Sequence[CaptionRequest]) -> list[Caption | InferenceFailed]:
        """The task of each request as the caption."""
        return [_stub_caption(request) for request in batch]

    def warmup(self) -> None:
        """No work."""

    def probe(self) -> None:
        """No work."""


def _stub_caption(request: CaptionRequest) -> Caption:
    return Caption(f"stub {request.task}", None, StubModel.name, StubModel.revision)

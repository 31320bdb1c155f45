"""Images per second of a loaded model, batch size by batch size."""

import time
from dataclasses import dataclass

import numpy as np

from benchmarks.figures import Figure, shown
from dropline.contract import Dimensions, TaskRequest
from worker.engine.runtime.florence import FlorenceModel
from worker.engine.runtime.model import BatchTooLarge
from worker.engine.wire import CaptionRequest

#: Below this a single slow batch decides.
_FEW = 5


@dataclass(frozen=True)
class EngineResult:
    """What one batch size gives. Decoding images and writing captions back are not part of it."""

    batch: int
    batches: int
    seconds: float
    #: Of the longest answer of each batch, on average.
    tokens: float

    @property
    def images_per_second(self) -> float:
        """Of all batches together."""
        return self.batch * self.batches / self.seconds

    def figure(self) -> Figure:
        """One line for people."""
        return Figure(
            f"batches of {self.batch}",
            f"**{shown(self.images_per_second)} images/s**; {shown(self.seconds / self.batches * 1000)} ms and "
            f"{shown(self.tokens)} tokens per batch; {self.batches} batches{_few(self.batches)}",
        )


def _few(batches: int) -> str:
    return ", too few to go by: give more --seconds" if batches < _FEW else ""


def measure_batches(model: FlorenceModel, task: TaskRequest, batch: int, seconds: float) -> EngineResult | None:
    """Run batches for at least `seconds`, after one that counts for nothing; None where memory is too small."""
    images = [_noise(model, task, seed) for seed in range(batch)]
    try:
        _run(model, images)
        lengths: list[int] = []
        began = time.perf_counter()
        while time.perf_counter() - began < seconds or not lengths:
            lengths.append(_run(model, images))
        return EngineResult(batch, len(lengths), time.perf_counter() - began, sum(lengths) / len(lengths))
    except BatchTooLarge:
        return None


def _run(model: FlorenceModel, images: list[CaptionRequest]) -> int:
    """Tokens of the longest answer, the first one left out. What comes back is on the CPU, so the GPU is done."""
    import torch

    try:
        rows = model.generate(model.preprocess(images))
    except torch.OutOfMemoryError as error:
        raise BatchTooLarge(str(error)) from error
    return max(len(row) for row in rows) - 1


def _noise(model: FlorenceModel, task: TaskRequest, seed: int) -> CaptionRequest:
    pixels = model.allocate()
    pixels[:] = np.random.default_rng(seed).integers(0, 256, pixels.shape, dtype=np.uint8)
    return CaptionRequest(pixels, task, Dimensions(model.input_size, model.input_size))

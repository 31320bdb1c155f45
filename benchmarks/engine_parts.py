"""Where the time of a batch goes: the vision tower, the encoder, the decoder, and the host between them."""

import dataclasses
import functools
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import typer

from benchmarks.figures import Figure, shown
from benchmarks.roofline import VISION_GFLOP, ProductRate
from dropline.settings import EngineSettings
from worker.engine.runtime.florence import FlorenceModel
from worker.engine.runtime.loading import LoadedCheckpoint
from worker.engine.runtime.model import BatchTooLarge
from worker.engine.runtime.network.form import Capture, Form, Part, Work, form_of
from worker.engine.wire import CaptionRequest


@dataclass(frozen=True)
class PartTimes:
    """The seconds of one batch by part, one part after the other: a GPU sees images while it writes tokens."""

    batch: int
    #: By `Part`.
    seconds: dict[str, float]
    host: float
    #: Work of the vision tower as a share of the machine's rate of matrix products; None: the work is not known.
    vision_share: float | None = None

    def with_share(self, rate: ProductRate) -> Self:
        """With the share of the vision tower of Florence-2-base."""
        work = VISION_GFLOP * self.batch / self.seconds[Part.VISION]
        return dataclasses.replace(self, vision_share=work / rate.gflops)

    def figure(self) -> Figure:
        """The line of the report."""
        parts = ", ".join(f"{part} {shown(value * 1000)}" for part, value in self.seconds.items())
        share = ""
        if self.vision_share is not None:
            share = f"; the vision tower {self.vision_share:.0%} of the matrix products' rate"
        name = f"parts of a batch of {self.batch}, one after the other"
        return Figure(name, f"{parts}, host {shown(self.host * 1000)} ms{share}")


class PartClock:
    """Measures the parts of the batches that run with its form."""

    def __init__(self, form: Form, device: torch.device) -> None:
        """Measure a form of the device."""
        self._device = device
        self._seconds: defaultdict[str, float] = defaultdict(float)
        #: The form, with a clock around each work.
        self.form = dataclasses.replace(
            form, capture=self._around(form.capture), capture_aside=self._around(form.capture_aside)
        )

    def measure(self, run: Callable[[], object], batch: int, seconds: float) -> PartTimes:
        """The mean of the batches within `seconds`, after one to warm up."""
        run()
        self._seconds.clear()
        count, began = 0, time.perf_counter()
        while not count or time.perf_counter() - began < seconds:
            run()
            count += 1
        whole = (time.perf_counter() - began) / count
        parts = {part.value: self._seconds[part] / count for part in Part}
        return PartTimes(batch, parts, whole - sum(parts.values()))

    def _around(self, capture: Capture) -> Capture:
        def timed_capture(part: Part, work: Work) -> Work:
            captured = capture(part, work)

            def timed() -> None:
                self._settle()
                began = time.perf_counter()
                captured()
                self._settle()
                self._seconds[part] += time.perf_counter() - began

            return timed

        return timed_capture

    def _settle(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def measure_parts(
    weights: LoadedCheckpoint,
    settings: EngineSettings,
    run: Callable[[FlorenceModel, list[CaptionRequest]], object],
    images: list[CaptionRequest],
    batches: list[int],
    seconds: float,
) -> list[PartTimes]:
    """The parts of each batch that the memory holds, by a model of its own: clocks make a GPU wait.

    Args:
        weights: of the model.
        settings: of the model.
        run: captions a batch; raises `BatchTooLarge`.
        images: at least as many as the largest batch.
        batches: the sizes.
        seconds: for each size.
    """
    device: torch.device = weights.model.device
    clock = PartClock(form_of(device, weights.processor.image_processor.size["height"]), device)
    found: list[PartTimes] = []
    try:
        model = FlorenceModel(weights.model, weights.processor, weights.checkpoint, settings, clock.form)
        for batch in batches:
            typer.echo(f"measuring: the parts of a batch of {batch}", err=True)
            found.append(clock.measure(functools.partial(run, model, images[:batch]), batch, seconds))
    except BatchTooLarge as error:
        typer.echo(
            f"not measured: the parts of larger batches, which the memory does not hold ({error})", err=True
        )
    return found

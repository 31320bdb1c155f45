"""Images per second of the model alone on this machine, with the provenance of the figures.

    python -m benchmarks.engine [--checkpoint demo] [--device cuda] [--batch 32] [--json]

`python -m tools.cloud_costs --images-per-second` takes the result.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.checks import RunInvalidError
from benchmarks.cpu import Contention, CpuReading, contention_between
from benchmarks.figures import Figure, section, shown
from benchmarks.provenance import Provenance
from dropline.contract import Dimensions, TaskRequest
from dropline.errors import DroplineError
from dropline.settings import EngineSettings
from tools.demo_model.tokenizer import build_tokenizer
from tools.florence_shapes import FlorenceShape, build_model, build_processor, transformer_layers
from worker.engine.runtime.checkpoint import Checkpoint, find_checkpoint
from worker.engine.runtime.florence import FlorenceModel
from worker.engine.runtime.loading import choose_device, choose_dtype, load_florence
from worker.engine.runtime.model import BatchTooLarge
from worker.engine.wire import CaptionRequest

_BATCHES = [1, 8, 32]
_PACKAGES = ("torch", "transformers", "numpy")
#: With fewer batches, a single slow batch dominates the mean.
_FEW = 5
_BASE_SHAPE = FlorenceShape(
    image_size=768,
    grid=24,
    width=768,
    positions=1024,
    text=transformer_layers(6, 12, 3072),
    vocabulary=51_289,
)


@dataclass(frozen=True)
class EngineResult:
    """The speed of one batch size, without the decoding of images and without write-backs."""

    batch: int
    batches: int
    seconds: float
    #: Mean length of the longest answer of each batch.
    tokens: float

    @property
    def images_per_second(self) -> float:
        """The mean of all batches."""
        return self.batch * self.batches / self.seconds

    def figure(self) -> Figure:
        """The line of the report."""
        few = ", too few to go by: give more --seconds" if self.batches < _FEW else ""
        return Figure(
            f"batches of {self.batch}",
            f"**{shown(self.images_per_second)} images/s**; {shown(self.seconds / self.batches * 1000)} ms and "
            f"{shown(self.tokens)} tokens per batch; {self.batches} batches{few}",
        )


#: Batch size → result; None: the batch does not fit into the device's memory.
Results = dict[int, EngineResult | None]


def main(
    checkpoint: Annotated[
        str,
        typer.Option(help="As DROPLINE_ENGINE__CHECKPOINT; `random`: Florence-2-base's shape, random weights."),
    ] = "random",
    revision: Annotated[str, typer.Option(help="As DROPLINE_ENGINE__REVISION.")] = "",
    device: Annotated[str, typer.Option(help="As DROPLINE_ENGINE__DEVICE.")] = "auto",
    dtype: Annotated[str, typer.Option(help="As DROPLINE_ENGINE__DTYPE.")] = "auto",
    beams: Annotated[int, typer.Option(help="As DROPLINE_ENGINE__NUM_BEAMS.", min=1)] = 3,
    task: Annotated[str, typer.Option(help="Task prompt.")] = "<CAPTION>",
    tokens: Annotated[int, typer.Option(help="Length of an answer of random weights.", min=1)] = 12,
    batch: Annotated[list[int] | None, typer.Option(help="Images in a batch; may be repeated.", min=1)] = None,
    seconds: Annotated[float, typer.Option(help="For each batch size.", min=0)] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of Markdown.")] = False,
) -> None:
    """Measure the model alone: no queue, no decoding, no database."""
    provenance = Provenance.gather("benchmarks.engine", sys.argv[1:], _PACKAGES)
    values = {"revision": revision, "device": device, "dtype": dtype, "num_beams": beams}
    try:
        settings = EngineSettings.model_validate(values | {"checkpoint": checkpoint})
        model = _load(settings, tokens)
        before = CpuReading.now()
        results = _measure(model, TaskRequest.parse(task), batch or _BATCHES, seconds)
        contention = contention_between(before, CpuReading.now())
    except (RunInvalidError, DroplineError, ValueError) as error:
        typer.echo(f"The run is not valid: {error}", err=True)
        raise typer.Exit(1) from None
    show = _document if as_json else _report
    typer.echo(show(provenance, model, results, contention))


def _load(settings: EngineSettings, tokens: int) -> FlorenceModel:
    if settings.checkpoint == "random":
        return random_florence(settings, tokens)
    return load_florence(settings, find_checkpoint(settings))


def random_florence(settings: EngineSettings, tokens: int) -> FlorenceModel:
    """Random weights in the shape of Florence-2-base, which generate about `tokens` tokens for every image.

    The work is that of the real checkpoint, without a download from the hub.

    Raises:
        SettingsError: the device or dtype cannot be used.
    """
    device = choose_device(settings)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    model: Any = build_model(_BASE_SHAPE, tokenizer, num_beams=3, early_stopping=True, no_repeat_ngram_size=3)
    model = model.to(device, choose_dtype(settings, device)).eval()
    processor = build_processor(_BASE_SHAPE, tokenizer, {})
    checkpoint = Checkpoint("random weights in the shape of Florence-2-base", Path(), "none")
    return FlorenceModel(model, processor, checkpoint, settings.model_copy(update={"max_new_tokens": tokens}))


def _measure(model: FlorenceModel, task: TaskRequest, batches: list[int], seconds: float) -> Results:
    results: Results = {}
    for batch in sorted(set(batches)):
        typer.echo(f"measuring: batches of {batch}", err=True)
        results[batch] = measure_batches(model, task, batch, seconds)
    return results


def measure_batches(model: FlorenceModel, task: TaskRequest, batch: int, seconds: float) -> EngineResult | None:
    """Run batches for at least `seconds`, after one warm-up batch; None if a batch does not fit into memory."""
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
    """Tokens of the longest answer, without the first token. The rows are on the CPU, so the GPU has finished."""
    try:
        answers = model.generate(model.preprocess(images), [image.task.prompt for image in images])
    except torch.OutOfMemoryError as error:
        raise BatchTooLarge(str(error)) from error
    return max(len(answer.tokens) for answer in answers) - 1


def _noise(model: FlorenceModel, task: TaskRequest, seed: int) -> CaptionRequest:
    pixels = model.allocate()
    pixels[:] = np.random.default_rng(seed).integers(0, 256, pixels.shape, dtype=np.uint8)
    return CaptionRequest(pixels, task, Dimensions(model.input_size, model.input_size))


def _report(provenance: Provenance, model: FlorenceModel, results: Results, contention: Contention) -> str:
    lines = section(provenance.title, [*provenance.figures(), *_of_model(model)])
    lines += section("The model alone", [*_lines(results), *contention.figures()])
    return "\n".join(lines)


def _lines(results: Results) -> Iterator[Figure]:
    for batch, result in results.items():
        yield result.figure() if result else Figure(f"batches of {batch}", "more than the device's memory holds")


def _of_model(model: FlorenceModel) -> list[Figure]:
    return [
        Figure("model", f"{model.name}, revision {model.revision}"),
        Figure("device", f"{_device_name(model.device)}, {model.dtype}"),
        Figure("input", f"noise, {model.input_size}×{model.input_size} pixels, decoded already"),
    ]


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device}, {torch.get_num_threads()} threads"


def _document(provenance: Provenance, model: FlorenceModel, results: Results, contention: Contention) -> str:
    rates: dict[int, Any] = {
        batch: result and asdict(result) | {"images_per_second": result.images_per_second}
        for batch, result in results.items()
    }
    about = {"name": model.name, "revision": model.revision, "device": model.device, "dtype": model.dtype}
    document = {
        "provenance": asdict(provenance), "model": about, "batches": rates, "contention": asdict(contention),
    }  # fmt: skip
    return json.dumps(document, indent=2, ensure_ascii=False)


if __name__ == "__main__":
    typer.run(main)

"""Images per second of the model alone on this machine, with the provenance of the figures.

    python -m benchmarks.engine [--checkpoint demo] [--device cuda] [--batch 32] [--compare generate] [--json]

`python -m tools.cloud_costs --images-per-second` takes the result.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.checks import RunInvalidError
from benchmarks.cpu import Contention, CpuReading, contention_between
from benchmarks.engine_parts import PartTimes, measure_parts
from benchmarks.engine_references import Reference, ReferenceName, reference
from benchmarks.figures import Figure, section, shown
from benchmarks.plots import plot_rates, require_plots
from benchmarks.provenance import Provenance
from benchmarks.roofline import ProductRate, product_rate
from dropline.contract import Dimensions, TaskRequest
from dropline.errors import DroplineError
from dropline.settings import EngineSettings
from tools.demo_model.tokenizer import build_tokenizer
from tools.florence_shapes import BASE_SHAPE, LARGE_SHAPE, build_model, build_processor
from worker.engine.runtime.checkpoint import Checkpoint, find_checkpoint
from worker.engine.runtime.florence import FlorenceModel
from worker.engine.runtime.host_memory import keep_freed_memory
from worker.engine.runtime.loading import LoadedCheckpoint, choose_device, choose_dtype, load_weights
from worker.engine.runtime.model import BatchTooLarge
from worker.engine.wire import CaptionRequest

_BATCHES = [1, 8, 32]
#: By the name of a checkpoint with random weights.
_SHAPES = {"random": ("Florence-2-base", BASE_SHAPE), "random-large": ("Florence-2-large", LARGE_SHAPE)}
_PACKAGES = ("torch", "transformers", "numpy")
#: With fewer batches, a single slow batch dominates the mean.
_FEW = 5


@dataclass(frozen=True)
class EngineResult:
    """The speed of one batch size, without the decoding of images and without write-backs."""

    batch: int
    batches: int
    seconds: float
    #: Mean length of the longest answer of each batch.
    tokens: float
    #: Work as a share of the machine's rate of matrix products, from 0 to 1; None for a checkpoint.
    share: float | None = None

    @property
    def images_per_second(self) -> float:
        """The mean of all batches."""
        return self.batch * self.batches / self.seconds

    def figure(self) -> Figure:
        """The line of the report."""
        few = ", too few to go by: give more --seconds" if self.batches < _FEW else ""
        share = "" if self.share is None else f"; {self.share:.0%} of the matrix products' rate"
        return Figure(
            f"batches of {self.batch}",
            f"**{shown(self.images_per_second)} images/s**; {shown(self.seconds / self.batches * 1000)} ms and "
            f"{shown(self.tokens)} tokens per batch; {self.batches} batches{share}{few}",
        )


#: Batch size → result; None: the batch does not fit into the device's memory.
Results = dict[int, EngineResult | None]
#: Captions the images of one batch; returns the tokens of the longest answer.
Run = Callable[[list[CaptionRequest]], int]


@dataclass(frozen=True)
class Outcome:
    """The results of one invocation."""

    engine: Results
    #: By name of the way; a text in place of results says why there are none.
    references: dict[str, Results | str]
    products: ProductRate
    contention: Contention
    parts: list[PartTimes]


def main(
    checkpoint: Annotated[
        str,
        typer.Option(
            help="As DROPLINE_ENGINE__CHECKPOINT; `random` and `random-large`: random weights in the shapes of "
            "Florence-2-base and -large."
        ),
    ] = "random",
    revision: Annotated[str, typer.Option(help="As DROPLINE_ENGINE__REVISION.")] = "",
    device: Annotated[str, typer.Option(help="As DROPLINE_ENGINE__DEVICE.")] = "auto",
    dtype: Annotated[str, typer.Option(help="As DROPLINE_ENGINE__DTYPE.")] = "auto",
    beams: Annotated[int, typer.Option(help="As DROPLINE_ENGINE__NUM_BEAMS.", min=1)] = 1,
    task: Annotated[str, typer.Option(help="Task prompt.")] = "<CAPTION>",
    tokens: Annotated[int, typer.Option(help="Length of an answer of random weights.", min=1)] = 12,
    batch: Annotated[list[int] | None, typer.Option(help="Images in a batch; may be repeated.", min=1)] = None,
    seconds: Annotated[float, typer.Option(help="For each batch size.", min=0)] = 20.0,
    compare: Annotated[
        list[ReferenceName] | None, typer.Option(help="Other ways to caption, in the same run; may be repeated.")
    ] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="Also the times of vision tower, encoder, decoder and host.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Write images per second over the batch to a PNG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of Markdown.")] = False,
) -> None:
    """Measure the model alone: no queue, no decoding, no database."""
    provenance = Provenance.gather("benchmarks.engine", sys.argv[1:], _PACKAGES)
    batches = sorted(set(batch or _BATCHES))
    if plot:
        require_plots(plot)
    values = {"revision": revision, "device": device, "dtype": dtype, "num_beams": beams, "max_batch": batches[-1]}
    try:
        settings = EngineSettings.model_validate(values | {"checkpoint": checkpoint})
        weights = _load(settings)
        request = TaskRequest.parse(task)
        if checkpoint in _SHAPES:
            settings = settings.model_copy(update={"max_new_tokens": tokens})
        model = FlorenceModel(weights.model, weights.processor, weights.checkpoint, settings)
        outcome = _measure(weights, model, settings, request, batches, seconds, compare or [], parts)
    except (RunInvalidError, DroplineError, ValueError) as error:
        typer.echo(f"The run is not valid: {error}", err=True)
        raise typer.Exit(1) from None
    show = _document if as_json else _report
    typer.echo(show(provenance, model, outcome))
    if plot:
        _plot(plot, provenance, model, outcome)


def _load(settings: EngineSettings) -> LoadedCheckpoint:
    if settings.checkpoint in _SHAPES:
        return random_weights(settings)
    return load_weights(settings, find_checkpoint(settings))


def random_weights(settings: EngineSettings) -> LoadedCheckpoint:
    """Random weights in a real checkpoint's shape, by default Florence-2-base's: its work without a download.

    Raises:
        SettingsError: the device or dtype cannot be used.
    """
    device = choose_device(settings)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    tokenizer = build_tokenizer()
    name, shape = _SHAPES.get(settings.checkpoint, _SHAPES["random"])
    torch.manual_seed(0)
    model: Any = build_model(shape, tokenizer, num_beams=3, early_stopping=True, no_repeat_ngram_size=3)
    checkpoint = Checkpoint(f"random weights in the shape of {name}", Path(), "none")
    model = model.to(device, choose_dtype(settings, device)).eval()
    if device.type == "cpu":
        keep_freed_memory()
    return LoadedCheckpoint(model, build_processor(shape, tokenizer), checkpoint)


def _measure(
    weights: LoadedCheckpoint,
    model: FlorenceModel,
    settings: EngineSettings,
    task: TaskRequest,
    batches: list[int],
    seconds: float,
    compare: list[ReferenceName],
    with_parts: bool,
) -> Outcome:
    device, dtype = weights.model.device, weights.model.dtype
    before, products = CpuReading.now(), product_rate(device, dtype)
    images = [_noise(model, task, seed) for seed in range(batches[-1])]
    engine = _measure_batches("the engine", lambda batch: _run(model, batch), images, batches, seconds)
    fitting = [batch for batch, result in engine.items() if result]
    parts = measure_parts(weights, settings, _run, images, fitting, seconds) if with_parts else []
    references: dict[str, Results | str] = {}
    for name in compare:
        try:
            way = reference(
                name, _load(settings).model, weights.processor, task,
                beams=settings.num_beams, tokens=settings.max_new_tokens,
            )  # fmt: skip
            sizes = [1] if name is ReferenceName.PREDECESSOR else batches
            references[name] = _measure_batches(name, _run_reference(way), images, sizes, seconds)
        except RuntimeError as error:
            references[name] = f"not measured: {type(error).__name__}: {str(error).splitlines()[0]}"
    rate = ProductRate(products, product_rate(device, dtype))
    if settings.checkpoint == "random":
        engine = _with_shares(engine, rate)
        references = {
            name: found if isinstance(found, str) else _with_shares(found, rate)
            for name, found in references.items()
        }
        parts = [each.with_share(rate) for each in parts]
    return Outcome(engine, references, rate, contention_between(before, CpuReading.now()), parts)


def _run_reference(way: Reference) -> Run:
    return lambda batch: way([image.pixels for image in batch])


def _with_shares(results: Results, rate: ProductRate) -> Results:
    return {
        batch: result and replace(result, share=rate.share(result.images_per_second, result.tokens))
        for batch, result in results.items()
    }


def _measure_batches(
    name: str, run: Run, images: list[CaptionRequest], batches: list[int], seconds: float
) -> Results:
    results: Results = {}
    for batch in batches:
        typer.echo(f"measuring: {name}, batches of {batch}", err=True)
        results[batch] = measure_batches(run, images[:batch], seconds)
    return results


def measure_batches(run: Run, images: list[CaptionRequest], seconds: float) -> EngineResult | None:
    """Run one batch for at least `seconds`, after one warm-up; None if the batch does not fit into memory."""
    try:
        run(images)
        lengths: list[int] = []
        began = time.perf_counter()
        while time.perf_counter() - began < seconds or not lengths:
            lengths.append(run(images))
        return EngineResult(len(images), len(lengths), time.perf_counter() - began, sum(lengths) / len(lengths))
    except BatchTooLarge:
        return None


def _run(model: FlorenceModel, images: list[CaptionRequest]) -> int:
    """Tokens of the longest answer, without the first token. The rows are on the CPU, so the GPU has finished.

    Raises:
        BatchTooLarge: the device's memory does not hold the batch.
    """
    if len(images) > model.largest_batch:
        raise BatchTooLarge(f"memory is reserved for {model.largest_batch} images")
    try:
        answers = model.generate(images)
    except torch.OutOfMemoryError as error:
        raise BatchTooLarge(str(error)) from error
    return max(len(answer.tokens) for answer in answers) - 1


def _noise(model: FlorenceModel, task: TaskRequest, seed: int) -> CaptionRequest:
    pixels = model.allocate()
    pixels[:] = np.random.default_rng(seed).integers(0, 256, pixels.shape, dtype=np.uint8)
    return CaptionRequest(pixels, task, Dimensions(model.input_size, model.input_size))


def _report(provenance: Provenance, model: FlorenceModel, outcome: Outcome) -> str:
    lines = section(provenance.title, [*provenance.figures(), *_of_model(model), _of_products(outcome.products)])
    split = [each.figure() for each in outcome.parts]
    lines += section("The model alone", [*_lines(outcome.engine), *split, *outcome.contention.figures()])
    for name, found in outcome.references.items():
        figures = [Figure(name, found)] if isinstance(found, str) else [*_lines(found)]
        lines += section(f"Another way, for comparison: {name}", figures)
    return "\n".join(lines)


def _of_products(products: ProductRate) -> Figure:
    values = f"{shown(products.before)} GFLOP/s before the run, {shown(products.after)} after it"
    return Figure("matrix product 2304×768×3072", values)


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


def _document(provenance: Provenance, model: FlorenceModel, outcome: Outcome) -> str:
    about = {"name": model.name, "revision": model.revision, "device": model.device, "dtype": model.dtype}
    document = {
        "provenance": asdict(provenance), "model": about, "batches": _rates(outcome.engine),
        "references": {name: _rates(found) for name, found in outcome.references.items()},
        "matrix_product_gflops": asdict(outcome.products), "contention": asdict(outcome.contention),
        "parts": [asdict(each) for each in outcome.parts],
    }  # fmt: skip
    return json.dumps(document, indent=2, ensure_ascii=False)


def _plot(path: Path, provenance: Provenance, model: FlorenceModel, outcome: Outcome) -> None:
    """The engine and the other ways that were measured."""
    found = {"the engine": outcome.engine, **outcome.references}
    rates = {
        name: points
        for name, results in found.items()
        if not isinstance(results, str)
        and (points := [(batch, result.images_per_second) for batch, result in results.items() if result])
    }
    where = f"{_device_name(model.device)}, {model.dtype}; {provenance.date}; {provenance.command}"
    plot_rates(path, f"{model.name}: images per second", where, rates)


def _rates(results: Results | str) -> Any:
    if isinstance(results, str):
        return results
    return {
        batch: result and asdict(result) | {"images_per_second": result.images_per_second}
        for batch, result in results.items()
    }


if __name__ == "__main__":
    typer.run(main)

"""Measures how many images a second the model captions on this machine, and prints where the figures come from.

    python -m benchmarks.engine [--checkpoint demo] [--device cuda] [--batch 32] [--json]

It is the figure that `python -m tools.cloud_costs --images-per-second` asks for.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer

from benchmarks.contention import Contention, Moment, contention_between
from benchmarks.engine_part import EngineResult, measure_batches
from benchmarks.errors import RunInvalidError
from benchmarks.figures import Figure, section
from benchmarks.provenance import Provenance
from dropline.contract import TaskRequest
from dropline.errors import DroplineError
from dropline.settings import EngineSettings
from worker.engine.runtime.florence import FlorenceModel

_BATCHES = [1, 8, 32]
_PACKAGES = ("torch", "transformers", "numpy")


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
        before = Moment.now()
        results = _measured(model, TaskRequest.parse(task), batch or _BATCHES, seconds)
        contention = contention_between(before, Moment.now())
    except (RunInvalidError, DroplineError, ValueError) as error:
        typer.echo(f"The run is not valid: {error}", err=True)
        raise typer.Exit(1) from None
    show = _document if as_json else _report
    typer.echo(show(provenance, model, results, contention))


def _load(settings: EngineSettings, tokens: int) -> FlorenceModel:
    if settings.checkpoint == "random":
        from benchmarks.random_florence import random_florence

        return random_florence(settings, tokens)
    from worker.engine.runtime.checkpoint import find_checkpoint
    from worker.engine.runtime.loading import load_florence

    return load_florence(settings, find_checkpoint(settings))


def _measured(
    model: FlorenceModel, task: TaskRequest, batches: list[int], seconds: float
) -> dict[int, EngineResult | None]:
    results: dict[int, EngineResult | None] = {}
    for batch in sorted(set(batches)):
        typer.echo(f"measuring: batches of {batch}", err=True)
        results[batch] = measure_batches(model, task, batch, seconds)
    return results


def _report(
    provenance: Provenance, model: FlorenceModel, results: dict[int, EngineResult | None], contention: Contention
) -> str:
    lines = section(provenance.title, [*provenance.figures(), *_of_model(model)])
    lines += section("The model alone", [*_lines(results), *contention.figures()])
    return "\n".join(lines)


def _lines(results: dict[int, EngineResult | None]) -> Iterator[Figure]:
    for batch, result in results.items():
        yield result.figure() if result else Figure(f"batches of {batch}", "more than the device's memory holds")


def _of_model(model: FlorenceModel) -> list[Figure]:
    return [
        Figure("model", f"{model.name}, revision {model.revision}"),
        Figure("device", f"{_device_name(model.device)}, {model.dtype}"),
        Figure("input", f"noise, {model.input_size}×{model.input_size} pixels, decoded already"),
    ]


def _device_name(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device}, {torch.get_num_threads()} threads"


def _document(
    provenance: Provenance, model: FlorenceModel, results: dict[int, EngineResult | None], contention: Contention
) -> str:
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

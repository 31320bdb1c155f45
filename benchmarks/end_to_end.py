"""A whole worker with a model, from a backlog: its rate beside that of the engine alone, and its start in parts.

    python -m benchmarks.end_to_end [--model demo] [--images 200] [--children 8] [--json]

`--model random` has seeded weights in the shape of Florence-2-base, which do the work of the real checkpoint.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks.checks import RunInvalidError, require_captioned_once
from benchmarks.cpu import Contention, CpuReading, contention_between
from benchmarks.engine import random_weights
from benchmarks.figures import Figure, section, shown
from benchmarks.provenance import EVENT_PATH_PACKAGES, Provenance
from benchmarks.stack import benchmark_stack
from benchmarks.start_times import StartTimes, start_times
from benchmarks.uploads import ImageFile, photographs, row_times, upload_all, wait_until_written
from benchmarks.worker_rate import as_from_cloud_storage, require_all_queued, seconds_at_work
from dropline.contract import TaskPrompt, TaskRequest
from dropline.errors import DroplineError
from dropline.images.decoding import decode
from dropline.settings import EngineSettings, ImageSettings
from worker.engine.runtime.checkpoint import find_checkpoint
from worker.engine.runtime.florence import FlorenceModel
from worker.engine.runtime.loading import load_florence
from worker.engine.wire import CaptionRequest

_PACKAGES = (*EVENT_PATH_PACKAGES, "torch", "transformers")


@dataclass(frozen=True)
class EndToEnd:
    """The rates of a worker and of its engine alone, with the same images in the same run."""

    model: str
    images: int
    children: int
    #: From the first claim to the last write-back.
    images_per_s: float
    #: Of the engine alone: before and after the worker.
    engine_per_s: tuple[float, float]
    start: StartTimes
    contention: Contention

    @property
    def share(self) -> float:
        """The rate of the worker as a share of the engine's."""
        return self.images_per_s / mean(self.engine_per_s)

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        before, after = map(shown, self.engine_per_s)
        return [
            Figure("model", self.model),
            Figure("images", f"{self.images:,} JPEGs of 1600×1200; every one captioned exactly once"),
            Figure("children", str(self.children)),
            Figure("**images per second**, first claim to last metadata", f"**{shown(self.images_per_s)}**"),
            Figure("the engine alone, images per second", f"{before} before the worker, {after} after it"),
            Figure("**share of the engine's own rate**", f"**{self.share:.0%}**"),
            *self.start.figures(),
            *self.contention.figures(),
        ]


def main(
    model: Annotated[str, typer.Option(help="`demo`, `random`, a directory, or a name on the hub.")] = "demo",
    images: Annotated[int, typer.Option(help="1600×1200 JPEGs.", min=2)] = 200,
    children: Annotated[int, typer.Option(help="Images in the worker at the same time.", min=1)] = 4,
    tokens: Annotated[int, typer.Option(help="Length of an answer of random weights.", min=2)] = 12,
    device: Annotated[str, typer.Option(help="As DROPLINE_ENGINE__DEVICE.")] = "auto",
    max_batch: Annotated[int, typer.Option(help="As DROPLINE_ENGINE__MAX_BATCH.", min=1)] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of Markdown.")] = False,
) -> None:
    """Measure a worker from a full queue to the last write-back, and the engine alone before and after."""
    provenance = Provenance.gather("benchmarks.end_to_end", sys.argv[1:], _PACKAGES)
    values = {"device": device, "max_batch": max_batch}
    try:
        with checkpoint_of(model) as checkpoint:
            limit = {"max_new_tokens": tokens} if model == "random" else {}
            settings = EngineSettings.model_validate(values | limit | {"checkpoint": checkpoint})
            result = measure_end_to_end(model, settings, list(photographs(images)), children)
    except (RunInvalidError, DroplineError) as error:
        typer.echo(f"The run is not valid: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(as_document(provenance, result) if as_json else "\n".join(as_report(provenance, result)))


@contextmanager
def checkpoint_of(model: str) -> Iterator[str]:
    """The name of a checkpoint; random weights are saved to a temporary directory, as on the hub."""
    if model != "random":
        yield model
        return
    with TemporaryDirectory(prefix="dropline-random-") as name:
        # Any user may read it: the stack's services have users of their own.
        Path(name).chmod(0o755)
        save_random_weights(Path(name))
        yield name


def save_random_weights(directory: Path) -> None:
    """Write seeded weights in the shape of Florence-2-base, under the file names of the published checkpoint."""
    loaded = random_weights(EngineSettings(device="cpu", dtype="float32"))
    loaded.model.save_pretrained(directory)
    loaded.processor.save_pretrained(directory)


def measure_end_to_end(
    model: str, settings: EngineSettings, images: Sequence[ImageFile], children: int
) -> EndToEnd:
    """Measure the engine, the worker, and the engine again.

    Args:
        model: for the report.
        settings: of the engine, in the worker too.
        images: to caption.
        children: images in the worker at the same time.

    Raises:
        RunInvalidError: a row is missing, or was not captioned exactly once.
        LocalStackError: the stack does not start.
    """
    reading = CpuReading.now()
    engine = EngineAlone(settings, images)
    before = engine.images_per_s()
    images_per_s, start = _work(settings, images, children)
    after = engine.images_per_s()
    contention = contention_between(reading, CpuReading.now())
    return EndToEnd(model, len(images), children, images_per_s, (before, after), start, contention)


class EngineAlone:
    """The model in this process, with images that are decoded already."""

    def __init__(self, settings: EngineSettings, images: Sequence[ImageFile]) -> None:
        """Load the model, and decode the images."""
        self._model: FlorenceModel = load_florence(settings, find_checkpoint(settings))
        self._model.warmup()
        self._batch = min(settings.max_batch, self._model.largest_batch)
        self._requests = [self._request(image) for image in images]
        # The first batch of a size takes memory from the system.
        self._model.caption(self._requests[: self._batch])

    def images_per_s(self) -> float:
        """Caption all images once, in the largest batches."""
        began = time.perf_counter()
        for start in range(0, len(self._requests), self._batch):
            self._model.caption(self._requests[start : start + self._batch])
        return len(self._requests) / (time.perf_counter() - began)

    def _request(self, image: ImageFile) -> CaptionRequest:
        decoded = decode(image.data, self._model.input_size, ImageSettings())
        pixels = self._model.allocate()
        pixels[:] = decoded.pixels
        return CaptionRequest(pixels, TaskRequest(TaskPrompt.CAPTION), decoded.dimensions)


def _work(settings: EngineSettings, images: Sequence[ImageFile], children: int) -> tuple[float, StartTimes]:
    with benchmark_stack(settings.checkpoint, children, environment=_variables(settings)) as stack:
        stack.worker.stop()
        count = upload_all(stack, images)
        require_all_queued(stack, count)
        as_from_cloud_storage(stack)
        with stack.listening() as listener:
            began = datetime.now(UTC)
            stack.worker.start()
            wait_until_written(listener, count)
        rows = row_times(stack)
        require_captioned_once(rows, count)
        lines = stack.worker.log_path.read_text(errors="replace").splitlines()
        return count / seconds_at_work(rows), start_times(began, lines, rows)


def _variables(settings: EngineSettings) -> Mapping[str, str]:
    names = ("device", "max_batch", "max_new_tokens")
    return {f"DROPLINE_ENGINE__{name.upper()}": str(getattr(settings, name)) for name in names}


def as_report(provenance: Provenance, result: EndToEnd) -> Iterator[str]:
    """The lines of a report in Markdown."""
    yield from section(provenance.title, provenance.figures())
    yield from section("A worker from a backlog, and its start", result.figures())


def as_document(provenance: Provenance, result: EndToEnd) -> str:
    """All numbers as JSON."""
    document = {"provenance": asdict(provenance), "result": asdict(result) | {"share": result.share}}
    return json.dumps(document, indent=2, ensure_ascii=False)


if __name__ == "__main__":
    typer.run(main)

"""The costs of the path of an event without a model, with the provenance of the figures.

    python -m benchmarks.event_path [--only function] [--json]

Each part starts a new stack and fails if an event was lost or processed twice.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated

import typer

from benchmarks.checks import RunInvalidError
from benchmarks.cpu import Contention, CpuReading, contention_between
from benchmarks.drop_at_once import measure_drop
from benchmarks.drop_latency import measure_latency
from benchmarks.figures import Result, section
from benchmarks.function_import import measure_import
from benchmarks.function_rate import measure_function
from benchmarks.provenance import EVENT_PATH_PACKAGES, Provenance
from benchmarks.uploads import photographs, small_images
from benchmarks.worker_rate import measure_worker
from dropline.errors import DroplineError


class Part(StrEnum):
    """The parts of the benchmark."""

    FUNCTION = "function"
    WORKER = "worker"
    PHOTOGRAPHS = "photographs"
    DROP = "drop"
    LATENCY = "latency"
    IMPORT = "import"


def main(
    events: Annotated[int, typer.Option(help="Push requests to the function.", min=1)] = 2000,
    images: Annotated[int, typer.Option(help="Small images through the worker.", min=2)] = 1000,
    photos: Annotated[int, typer.Option(help="1600×1200 JPEGs through the worker.", min=2)] = 300,
    drop: Annotated[int, typer.Option(help="Small images dropped at once.", min=2)] = 1500,
    latency: Annotated[int, typer.Option(help="Drops one at a time.", min=1)] = 50,
    children: Annotated[int, typer.Option(help="Images in the worker at the same time.", min=1)] = 4,
    only: Annotated[list[Part] | None, typer.Option(help="This part alone; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of Markdown.")] = False,
) -> None:
    """Measure the event path's own cost with a stub engine, on a local stack."""
    provenance = Provenance.gather("benchmarks.event_path", sys.argv[1:], EVENT_PATH_PACKAGES)
    measures: dict[Part, Callable[[], Result]] = {
        Part.FUNCTION: lambda: measure_function(events),
        Part.WORKER: lambda: measure_worker(small_images(images), "PNGs of 64×48", children),
        Part.PHOTOGRAPHS: lambda: measure_worker(photographs(photos), "JPEGs of 1600×1200", children),
        Part.DROP: lambda: measure_drop(drop, children),
        Part.LATENCY: lambda: measure_latency(latency),
        Part.IMPORT: measure_import,
    }
    try:
        results = {part: measured(part, measures[part]) for part in Part if not only or part in only}
    except (RunInvalidError, DroplineError) as error:
        typer.echo(f"The run is not valid: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(as_document(provenance, results) if as_json else "\n".join(as_report(provenance, results)))


@dataclass(frozen=True)
class PartRun:
    """The result of a part, and the other load of the machine during the part."""

    result: Result
    contention: Contention


def measured(part: Part, measure: Callable[[], Result]) -> PartRun:
    """Measure a part, and print the name to standard error.

    Raises:
        RunInvalidError, DroplineError: the part has no result.
    """
    typer.echo(f"measuring: {part.value}", err=True)
    before = CpuReading.now()
    result = measure()
    return PartRun(result, contention_between(before, CpuReading.now()))


def as_report(provenance: Provenance, results: dict[Part, PartRun]) -> Iterator[str]:
    """The lines of a report in Markdown."""
    yield from section(provenance.title, provenance.figures())
    for each in results.values():
        yield from section(each.result.title, [*each.result.figures(), *each.contention.figures()])


def as_document(provenance: Provenance, results: dict[Part, PartRun]) -> str:
    """All numbers as JSON: `{"provenance": {…}, "parts": {part: {"result": {…}, "contention": {…}}}}`."""
    document = {
        "provenance": asdict(provenance),
        "parts": {part.value: asdict(each) for part, each in results.items()},
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


if __name__ == "__main__":
    typer.run(main)

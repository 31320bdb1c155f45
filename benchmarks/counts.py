"""Redis commands, Postgres transactions, write-ahead log and bytes of log per image.

    python -m benchmarks.counts [--images 1000]

Counts do not depend on the speed or the other load of the machine. They include the starts of function and worker;
the share of the starts shrinks with more images.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from benchmarks.checks import RunInvalidError, require_captioned_once
from benchmarks.figures import Figure, section, shown
from benchmarks.stack import BenchmarkStack, benchmark_stack
from benchmarks.uploads import DEADLINE_S, row_times, small_images, upload_all
from dropline.errors import DroplineError

_WRITERS = ("function", "worker")
_SHOWN_COMMANDS = 8
#: Between two queries; each query is one transaction.
_PAUSE_S = 1.0

# A backend reports transactions no later than at the end, so function and worker stop before the second reading.
_TRANSACTIONS = "SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database WHERE datname = 'dropline'"
_WRITTEN = "SELECT count(*) FROM captions WHERE metadata_written_at IS NOT NULL"
_WAL = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"


@dataclass(frozen=True)
class Counters:
    """All counters at one time."""

    commands: dict[str, int]
    transactions: int
    wal_bytes: int
    log_bytes: dict[str, int]


@dataclass(frozen=True)
class CountsResult:
    """Counts per image, from the upload to the metadata."""

    title = "Counts per image"
    images: int
    #: Redis command → number per image, including the commands of scripts.
    commands: dict[str, float]
    transactions: float
    wal_bytes: float
    #: Service → bytes of log.
    log_bytes: dict[str, float]

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        busiest = sorted(self.commands.items(), key=lambda item: -item[1])[:_SHOWN_COMMANDS]
        return [
            Figure("images", f"{self.images:,}, uploaded, captioned and written back"),
            Figure("**Redis commands**", f"**{shown(sum(self.commands.values()))}**"),
            *(Figure(f"of which {name}", shown(count)) for name, count in busiest),
            Figure("**Postgres transactions**", f"**{shown(self.transactions)}**"),
            Figure("write-ahead log", f"{shown(self.wal_bytes)} bytes"),
            *(Figure(f"log of the {name}", f"{shown(size)} bytes") for name, size in self.log_bytes.items()),
        ]


def main(images: Annotated[int, typer.Option(help="Small images to drop.", min=10)] = 1000) -> None:
    """Count on a local stack with a stub engine."""
    try:
        result = measure_counts(images)
    except (RunInvalidError, DroplineError) as error:
        typer.echo(f"The run is not valid: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo("\n".join(section(result.title, result.figures())))


def measure_counts(images: int) -> CountsResult:
    """Drop `images` images and compare the counters before and after.

    Raises:
        RunInvalidError: an image was not captioned exactly once.
        LocalStackError: the stack does not start.
    """
    with benchmark_stack() as stack:
        before = _counters(stack)
        upload_all(stack, small_images(images))
        _wait_until_written(stack, images)
        require_captioned_once(row_times(stack), images)
        for name in _WRITERS:
            stack.stop(name)
        return counts_between(before, _counters(stack), images)


def _wait_until_written(stack: BenchmarkStack, images: int) -> None:
    # Without a listener: Postgres runs a transaction for every notification to a listener.
    deadline = time.monotonic() + DEADLINE_S
    with stack.database() as database:
        while (found := _number(database, _WRITTEN)) < images:
            if time.monotonic() > deadline:
                raise RunInvalidError(f"{found} of {images} rows were done after {DEADLINE_S:g} s")
            time.sleep(_PAUSE_S)


def counts_between(before: Counters, after: Counters, images: int) -> CountsResult:
    """The growth of each counter, per image."""
    return CountsResult(
        images,
        _growth(before.commands, after.commands, images),
        (after.transactions - before.transactions) / images,
        (after.wal_bytes - before.wal_bytes) / images,
        _growth(before.log_bytes, after.log_bytes, images),
    )


def _growth(before: Mapping[str, int], after: Mapping[str, int], images: int) -> dict[str, float]:
    grown = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: growth / images for name, growth in grown.items() if growth > 0}


def _counters(stack: BenchmarkStack) -> Counters:
    with stack.broker() as broker, stack.database() as database:
        stats: Any = broker.info("commandstats")
        commands = {name.removeprefix("cmdstat_"): int(entry["calls"]) for name, entry in stats.items()}
        return Counters(
            commands,
            _number(database, _TRANSACTIONS),
            _number(database, _WAL),
            {name: stack.log_bytes(name) for name in _WRITERS},
        )


def _number(database: Any, query: str) -> int:
    return int(database.execute(query).fetchone()[0])


if __name__ == "__main__":
    typer.run(main)

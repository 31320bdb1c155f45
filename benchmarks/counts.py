"""Counts what an image asks of the servers: Redis commands, Postgres transactions, write-ahead log, lines of log.

    python -m benchmarks.counts [--images 1000]

Counts do not depend on how fast the machine is or what else it does. They hold the starts of function and worker
too, which more images make smaller.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from benchmarks.checks import require_captioned_once
from benchmarks.drops import DEADLINE_S, row_times, upload_all
from benchmarks.errors import RunInvalidError
from benchmarks.figures import Figure, section, shown
from benchmarks.pictures import small_pictures
from benchmarks.stage import Stage, open_stage
from dropline.errors import DroplineError

_WRITERS = ("function", "worker")
_SHOWN_COMMANDS = 8
#: Between two looks; each is one transaction.
_PAUSE_S = 1.0

# A backend reports what it did at the latest when it ends: function and worker are stopped before the second look.
_TRANSACTIONS = "SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database WHERE datname = 'dropline'"
_WRITTEN = "SELECT count(*) FROM captions WHERE metadata_written_at IS NOT NULL"
_WAL = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"


@dataclass(frozen=True)
class Counters:
    """All counters at one moment."""

    commands: dict[str, int]
    transactions: int
    wal_bytes: int
    log_bytes: dict[str, int]


@dataclass(frozen=True)
class CountsResult:
    """What so many images asked for, from the upload to the metadata."""

    title = "Counts per image"
    images: int
    #: Redis command → how often per image, scripts' own included.
    commands: dict[str, float]
    transactions: float
    wal_bytes: float
    #: Service → bytes of log.
    log_bytes: dict[str, float]

    def figures(self) -> list[Figure]:
        """For people."""
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
    with open_stage() as stage:
        before = _counters(stage)
        upload_all(stage, small_pictures(images))
        _wait_until_written(stage, images)
        require_captioned_once(row_times(stage), images)
        for name in _WRITERS:
            stage.stop(name)
        return counts_between(before, _counters(stage), images)


def _wait_until_written(stage: Stage, images: int) -> None:
    # Not with a listener: Postgres runs a transaction for every notification that it hears.
    deadline = time.monotonic() + DEADLINE_S
    with stage.database() as database:
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


def _counters(stage: Stage) -> Counters:
    with stage.broker() as broker, stage.database() as database:
        stats: Any = broker.info("commandstats")
        commands = {name.removeprefix("cmdstat_"): int(entry["calls"]) for name, entry in stats.items()}
        return Counters(
            commands,
            _number(database, _TRANSACTIONS),
            _number(database, _WAL),
            {name: stage.log_bytes(name) for name in _WRITERS},
        )


def _number(database: Any, query: str) -> int:
    return int(database.execute(query).fetchone()[0])


if __name__ == "__main__":
    typer.run(main)

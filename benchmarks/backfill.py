"""Backfills of a large bucket in the emulator, and fresh drops beside a backfill.

    python -m benchmarks.backfill [--objects 100000] [--bulk 5000] [--drops 200] [--image-ms 0]
        [--children 4] [--at-once 32]

First, against Postgres and Cloud Storage alone: the memory of the command for a tenth of the objects and for all,
its rate under a cap, and three kills with SIGKILL. Then, on a stack with a stub engine: the time of single
drops on the idle stack, while the rows of a backfill are captioned, and beside a backfill with half of that rate.
Fails if an object has no row or two. With `--image-ms` each image takes so long in the stub, without CPU, and
`--at-once` are at work at a time: as in an engine that takes new images into a running batch. The processors then
have idle time.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import psycopg
import typer

from benchmarks.checks import RunInvalidError
from benchmarks.drop_latency import timed_drop, warm_up
from benchmarks.figures import Figure, percentile, section, shown
from benchmarks.full_bucket import BUCKET, TENTH, FullBucket, full_bucket
from benchmarks.provenance import EVENT_PATH_PACKAGES, Provenance
from benchmarks.stack import BenchmarkStack, benchmark_stack
from benchmarks.uploads import small_images, upload_all
from db.listen import listening
from dropline.errors import DroplineError
from dropline.settings import DatabaseSettings
from local_emulators.process import process_environment, python_path

_KILLS = 3
_RATE = 1000
_RATE_S = 10
_COMMAND_S = 1800.0
#: Of the bulk objects, which the function filters: the backfill makes the rows.
_BULK = "bulk"
_BATCHES = """
    SELECT max(within), sum(rows), EXTRACT(EPOCH FROM max(at) - min(at))::float8
    FROM (SELECT queued_at AS at, count(*) AS rows, sum(count(*)) OVER last_second AS within
          FROM captions GROUP BY queued_at
          WINDOW last_second AS (ORDER BY queued_at RANGE BETWEEN interval '999 ms' PRECEDING AND CURRENT ROW)
    ) AS batches
"""


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    document: dict[str, Any]
    seconds: float
    #: Largest resident memory.
    megabytes: float


def run_backfill(environment: dict[str, str], *arguments: str) -> Ran:
    """Run the command to its end.

    Raises:
        RunInvalidError: the command failed.
    """
    started = time.perf_counter()
    process = _start(environment, *arguments)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RunInvalidError(f"dropline backfill {' '.join(arguments)} ended with {process.returncode}")
    return Ran(json.loads(output), time.perf_counter() - started, usage.ru_maxrss / 1000)


def _start(environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "backfill", *arguments, "--json"],
        env=process_environment(PYTHONPATH=python_path(), **environment),
        stdout=subprocess.PIPE,
        text=True,
    )


def _kill_after(environment: dict[str, str], url: str, rows: int) -> None:
    settings = DatabaseSettings.model_validate({"url": url})
    with listening(settings, "dropline-benchmark") as listener:
        process = _start(environment, f"gs://{BUCKET}")
        for number, _ in enumerate(listener.notices(_COMMAND_S), 1):
            if number >= rows:
                break
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise RunInvalidError(f"the backfill ended with {process.returncode} before it was killed")


def _counts(url: str) -> tuple[int, int]:
    """Rows, and different object names."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT object_name) FROM captions").fetchone()
    assert row is not None
    return row[0], row[1]


def _require_each_once(url: str, objects: int) -> None:
    if _counts(url) != (objects, objects):
        raise RunInvalidError(f"{objects} objects have {_counts(url)} rows and names")


def measure_rows(full: FullBucket, objects: int) -> list[Figure]:
    """Memory, rate and resumption.

    Raises:
        RunInvalidError: an object has no row or two, or a second run changed something.
    """
    figures = [Figure("objects in the bucket", f"{objects:,}, one range of names per tenth")]
    source = f"gs://{BUCKET}"
    url = full.database("memory")
    environment = full.environment(url)
    dry = run_backfill(environment, source, "--dry-run")
    figures.append(Figure("dry run of all", _shown(dry, objects)))
    tenth = run_backfill(environment, f"{source}/{TENTH}")
    figures.append(Figure("a tenth of them inserted", _shown(tenth, objects // 10)))
    whole = run_backfill(environment, source)
    figures.append(Figure("the others inserted", _shown(whole, objects)))
    again = run_backfill(environment, source)
    if again.document["queued"] or again.document["existing"] != objects:
        raise RunInvalidError(f"the second run changed something: {again.document}")
    figures.append(Figure("a second run: 0 changes", _shown(again, objects)))
    _require_each_once(url, objects)
    figures.append(_measure_rate(full))
    url = full.database("kills")
    environment = full.environment(url)
    seen = []
    for _ in range(_KILLS):
        _kill_after(environment, url, objects // 5)
        seen.append(_counts(url)[0])
    last = run_backfill(environment, source)
    _require_each_once(url, objects)
    if last.document["listed"] != objects or last.document["existing"]:
        raise RunInvalidError(f"the killed backfill has other counts: {last.document}")
    shown_counts = ", ".join(f"{count:,}" for count in seen)
    figures.append(
        Figure(
            "killed three times", f"with {shown_counts} rows; in the end {objects:,} objects read, each one row"
        )
    )
    return figures


def _measure_rate(full: FullBucket) -> Figure:
    url = full.database("rate")
    wanted = _RATE * _RATE_S
    run_backfill(full.environment(url), f"gs://{BUCKET}", "--rate", str(_RATE), "--max", str(wanted))
    with psycopg.connect(url) as connection:
        row = connection.execute(_BATCHES).fetchone()
    assert row is not None
    most, rows, seconds = int(row[0]), int(row[1]), float(row[2])
    return Figure(
        f"with --rate {_RATE:,}",
        f"{rows:,} rows in {seconds:.1f} s between the first batch and the last; most in one second {most:,}",
    )


def _shown(ran: Ran, objects: int) -> str:
    each = f"{objects / ran.seconds:,.0f} objects/s"
    return f"{ran.seconds:.1f} s with the start ({each}), {ran.megabytes:.0f} MB at most"


def measure_drops(bulk: int, drops: int, image_ms: float, children: int, at_once: int) -> list[Figure]:
    """Single drops on the idle stack, while a backfill is captioned, and beside a backfill with a cap on the rate.

    Raises:
        RunInvalidError: a drop was not captioned, or the backfill was done before the drops.
    """
    settings = {
        "DROPLINE_EVENTS__EXCLUDE": json.dumps([f"{_BULK}/**"]),
        "DROPLINE_ENGINE__STUB_IMAGE_MS": f"{image_ms:g}",
        "DROPLINE_ENGINE__MAX_BATCH": str(at_once),
    }
    with benchmark_stack(concurrency=children, environment=settings) as stack:
        environment = stack.command_environment()
        del environment["DROPLINE_EVENTS__EXCLUDE"]
        warm_up(stack)
        upload_all(stack, small_images(bulk, f"{_BULK}/a"))
        upload_all(stack, small_images(bulk // 5, f"{_BULK}/b"))
        idle = _drop_times(stack, drops, "idle")
        run_backfill(environment, f"gs://{stack.bucket}/{_BULK}/a/")
        busy = _drop_times(stack, drops, "busy")
        done, _ = _bulk_rows(stack)
        if done >= bulk:
            raise RunInvalidError("the backfill was captioned before the drops; give a larger --bulk")
        per_second = _wait_for_bulk(stack, bulk - done)
        cap = max(1, round(per_second / 2))
        capped_run = _start(environment, f"gs://{stack.bucket}/{_BULK}/b/", "--rate", str(cap))
        try:
            capped = _drop_times(stack, drops, "capped")
            beside = _bulk_rows(stack)[0] - bulk
        finally:
            capped_run.kill()
            capped_run.communicate()
    return [
        Figure("rows of the backfill", f"{bulk:,}; {done:,} were captioned beside the drops"),
        Figure("captions of the backfill without drops", f"{shown(per_second)}/s"),
        *_figures("on the idle stack", idle),
        *_figures("beside the backfill", busy),
        Figure("p95 beside the backfill / p95 idle", f"{busy.p95 / idle.p95:.2f}"),
        *_figures(f"beside a backfill with --rate {cap}, {beside:,} of its rows captioned", capped),
        Figure("p95 beside the backfill with --rate / p95 idle", f"{capped.p95 / idle.p95:.2f}"),
    ]


@dataclass(frozen=True)
class DropSeries:
    """Milliseconds of single drops, each series in ascending order."""

    #: From the begin of the upload.
    captioned: list[float]
    #: From the row to its claim.
    claimed: list[float]
    #: From the claim to the caption.
    worked: list[float]

    @property
    def p95(self) -> float:
        """Of `captioned`."""
        return percentile(self.captioned, 95)


def _figures(words: str, series: DropSeries) -> Iterator[Figure]:
    yield Figure(
        f"{len(series.captioned)} drops one after the other, {words}: upload begun → captioned",
        _shown_times(series.captioned),
    )
    yield Figure("of which row made → claimed", _shown_times(series.claimed))
    yield Figure("of which claimed → captioned", _shown_times(series.worked))


def _bulk_rows(stack: BenchmarkStack) -> tuple[int, int]:
    """Captioned rows of backfills, and unfinished ones."""
    with stack.database() as connection:
        row = connection.execute(
            "SELECT count(*) FILTER (WHERE status = 'captioned'), "
            "count(*) FILTER (WHERE status IN ('queued', 'running')) FROM captions WHERE priority = 2"
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def _wait_for_bulk(stack: BenchmarkStack, rows: int) -> float:
    """Wait until all rows are captioned; captions per second."""
    started = time.perf_counter()
    with stack.listening() as listener:
        while left := _bulk_rows(stack)[1]:
            for number, _ in enumerate(listener.notices(_COMMAND_S), 1):
                if number >= left:
                    break
    return rows / (time.perf_counter() - started)


def _drop_times(stack: BenchmarkStack, drops: int, prefix: str) -> DropSeries:
    times = []
    with stack.listening() as listener, stack.storage() as client, ThreadPoolExecutor(1) as uploader:
        bucket = client.bucket(stack.bucket)
        for image in small_images(drops, prefix):
            found = timed_drop(listener, uploader, bucket, image)
            times.append((found.captioned - found.began) * 1000)
    with stack.database() as connection:
        parts = connection.execute(
            "SELECT EXTRACT(EPOCH FROM started_at - queued_at)::float8 * 1000, "
            "EXTRACT(EPOCH FROM captioned_at - started_at)::float8 * 1000 FROM captions "
            "WHERE starts_with(object_name, %s)",
            (f"{prefix}/",),
        ).fetchall()
    return DropSeries(sorted(times), sorted(each[0] for each in parts), sorted(each[1] for each in parts))


def _shown_times(ordered: list[float]) -> str:
    parts = (f"p{percent} {shown(percentile(ordered, percent))}" for percent in (50, 95))
    return f"{', '.join(parts)}, max {shown(ordered[-1])} ms"


def main(
    objects: Annotated[int, typer.Option(min=0, help="Objects of the first part; 0: leave it out.")] = 100_000,
    bulk: Annotated[
        int, typer.Option(min=0, help="Objects of each backfill of the second part; 0: leave it out.")
    ] = 5000,
    drops: Annotated[int, typer.Option(min=20, help="Drops, idle and beside the backfill.")] = 200,
    image_ms: Annotated[float, typer.Option(min=0, help="Time of each image in the stub, without CPU.")] = 0,
    children: Annotated[int, typer.Option(min=1, help="Images in the worker at the same time.")] = 4,
    at_once: Annotated[int, typer.Option(min=1, help="Images in the stub at the same time.")] = 32,
) -> None:
    """Measure, and print the figures in Markdown."""
    provenance = Provenance.gather("benchmarks.backfill", sys.argv[1:], EVENT_PATH_PACKAGES)
    try:
        lines = []
        if objects:
            with full_bucket(objects) as full:
                lines += section("Rows of a full bucket", measure_rows(full, objects))
        if bulk:
            beside = measure_drops(bulk, drops, image_ms, children, at_once)
            lines += section("Fresh drops beside a backfill", beside)
    except DroplineError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo("\n".join([*lines, *section(provenance.title, provenance.figures())]))


if __name__ == "__main__":
    typer.run(main)

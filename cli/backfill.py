"""`dropline backfill`: rows for the objects that are in a bucket already."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cli.console import print_json, print_line, print_note, print_table, stderr_console
from cli.exit_codes import ExitCode
from cli.interrupt import remark_after_ctrl_c
from cli.options import Json
from cli.redrive import parse_since
from db.backfills import BackfillRecord
from dropline.contract import Status, TaskRequest
from dropline.log import configure_logging
from dropline.settings import Settings, load_settings
from operations.backfill import BackfillPlan, open_backfiller, with_list
from operations.backfill_request import BackfillRequest, Source
from operations.waiting import wait_for_rows

#: Words for the reasons of objects that get no row.
_REASONS = {
    "other_name": "another name than the prefix or glob",
    "archived": "in a storage class with a retrieval fee; --archived takes them",
    "old": "created before --since",
    "missing": "named in the list, and not in the bucket",
}
_STOPPED = "the rows so far are inserted, and workers caption them; the same command again inserts the others"
_UNWAITED = "all rows are inserted; workers caption them without this command"


def backfill(
    source: Annotated[
        str,
        typer.Argument(
            metavar="gs://BUCKET[/PREFIX or GLOB]",
            help="The objects: all, those of a prefix, or those of a glob such as `gs://photos/2026/**.jpg`.",
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(
            help="Ask this of each object; by default its own task. Answers to other tasks are in Postgres alone."
        ),
    ] = None,
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Objects created since then: `90m`, `2h`, `7d` ago, or `2026-11-22T14:00Z`."
        ),
    ] = "",
    names: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help=(
                "Take the names, or gs:// URIs, in the first column of this CSV file, and do not list. Each one "
                "costs one request, except a URI with `#GENERATION` that has a row."
            ),
        ),
    ] = None,
    archived: Annotated[
        bool,
        typer.Option("--archived", help="Also objects in NEARLINE, COLDLINE and ARCHIVE, whose reads cost a fee."),
    ] = False,
    most: Annotated[int | None, typer.Option("--max", min=1, help="Insert at most this many rows.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Insert at most this many rows per second.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until each of the rows has ended.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="With --wait: longest wait, in seconds; by default none.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List and count; estimate time and price; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Caption the objects that are in a bucket already, behind fresh drops.

    Objects that have their row are skipped, so a second run changes nothing. The same command again continues
    after a kill. The command needs the function's login (DROPLINE_DATABASE__URL), Redis and Cloud Storage. Exit
    code 1 with --wait: a row has no caption.
    """
    request = with_list(_request(source, task, since, archived, most, rate), names)
    settings = load_settings()
    with open_backfiller(settings, print_note) as backfiller:
        configure_logging(settings.log.level, settings.log.format, "backfill")
        if dry_run:
            _print_plan(backfiller.plan(request, names), as_json=json)
            return
        with remark_after_ctrl_c(lambda: _STOPPED), _progress("listed") as advance:
            record = backfiller.run(request, names, on_progress=lambda _, part: advance(part))
    with remark_after_ctrl_c(lambda: _UNWAITED):
        ends = _wait(settings, record, request.source.bucket, timeout) if wait else None
    _print_record(record, ends, as_json=json)
    raise typer.Exit(_exit_code(ends))


def _request(
    source: str, task: str | None, since: str, archived: bool, most: int | None, rate: float | None
) -> BackfillRequest:
    return BackfillRequest(
        Source.parse(source),
        None if task is None else TaskRequest.parse(task),
        archived,
        since,
        parse_since(since, datetime.now(UTC)) if since else None,
        most,
        rate,
    )


@contextmanager
def _progress(words: str) -> Iterator[Any]:
    """A bar on a terminal, with the time left; the function to call takes a number from 0 to 1."""
    console = stderr_console()
    columns = (TextColumn(words), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(words, total=1.0)
        yield lambda part: bar.update(task, completed=part)


def _wait(settings: Settings, record: BackfillRecord, bucket: str, timeout: float | None) -> dict[Status, int]:
    total = max(1, record.queued)
    with _progress("captioned") as advance:
        return wait_for_rows(settings, record, bucket, timeout, lambda ended: advance(min(1.0, ended / total)))


def _exit_code(ends: dict[Status, int] | None) -> ExitCode:
    if ends is None:
        return ExitCode.OK
    if any(not status.is_terminal for status in ends):
        return ExitCode.TIMED_OUT
    return ExitCode.FAILED if ends.get(Status.FAILED) else ExitCode.OK


def _print_plan(plan: BackfillPlan, *, as_json: bool) -> None:
    if as_json:
        document = asdict(plan) | {"dry_run": True, "seconds": plan.seconds, "price": plan.price}
        print_json(document)
        return
    _print_counts(plan, 0)
    if not plan.queued:
        return
    print_line(f"{_size(plan.queued_bytes)} would be downloaded")
    if plan.rate is None or plan.seconds is None:
        print_note("no estimate of the time: too few rows are captioned to measure the rate")
        return
    workers = f"{plan.rate.workers} worker{'s' if plan.rate.workers > 1 else ''}"
    print_line(
        f"time {_duration(plan.seconds)}, at the {plan.rate.per_second:,.1f} captions/s of {workers} lately"
    )
    if plan.price is None:
        print_note("no estimate of the price: set DROPLINE_WORKER__HOURLY_PRICE to that of one worker")
    else:
        print_line(f"price {plan.price:,.2f}, at {plan.hourly_price:,.2f} per worker and hour")


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 10**9 else f"{size / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _print_record(record: BackfillRecord, ends: dict[Status, int] | None, *, as_json: bool) -> None:
    if as_json:
        document = record_document(record)
        print_json(document if ends is None else document | {"rows": {str(key): ends[key] for key in ends}})
        return
    _print_counts(record, record.ended, done=True)
    for status, rows in (ends or {}).items():
        print_line(f"{rows} rows are {status}")


def record_document(record: BackfillRecord) -> dict[str, Any]:
    """A backfill in JSON, without its cursor."""
    document = asdict(record)
    del document["cursor"]
    return document


def _print_counts(counts: BackfillPlan | BackfillRecord, ended: int, *, done: bool = False) -> None:
    inserted = "inserted" if done else "would be inserted"
    left_out = sorted(counts.left_out.items())
    rows: list[tuple[object, str]] = [
        (counts.listed, "objects read"),
        *((number, f"objects left out: {_REASONS.get(reason, reason)}") for reason, number in left_out),
        (counts.existing, "rows are there already"),
        (ended, "rows of versions that were deleted or overwritten meanwhile"),
        (counts.adopted, f"rows {inserted} with a person's caption, from the metadata"),
        (counts.failed, f"rows {inserted} as failed: empty, too large, or a wrong task"),
        (counts.queued, f"rows {'queued' if done else 'would be queued'}"),
    ]
    print_table(("number", "of"), [row for row in rows if row[0] or row in (rows[0], rows[-1])])

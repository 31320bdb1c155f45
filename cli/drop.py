"""`dropline drop`: files into the bucket, and with --wait their captions."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.exit_codes import ExitCode
from cli.options import Json, Timeout

if TYPE_CHECKING:
    from cli.dropping import Dropped, Target
    from dropline.settings import Settings
    from dropline.storage.uploads import Plan


def drop(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Files, or directories with all images below.")
    ],
    task: Annotated[
        str | None,
        typer.Option(
            help=(
                "Florence-2 task prompt, as `<OD>`, `od`, or `open_vocabulary_detection: a cat`; "
                "it travels as metadata `caption-task`."
            )
        ),
    ] = None,
    bucket: Annotated[str, typer.Option(help="Bucket of the objects; by default DROPLINE_BUCKET.")] = "",
    prefix: Annotated[str, typer.Option(help="Put before every object name, for example `summer/`.")] = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the captions of exactly the uploaded generations.")
    ] = False,
    timeout: Timeout = 300,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Uploads at a time.")] = 8,
    json: Json = False,
) -> None:
    """Upload images to the bucket.

    With --wait it listens to Postgres until each uploaded generation has its caption, or has failed. Exit code 1:
    a file could not be read, or an object ended without a caption.
    """
    from cli.console import note
    from cli.dropping import Target
    from dropline.contract import TaskRequest
    from dropline.errors import SettingsError
    from dropline.settings import load_settings
    from dropline.storage.bucket import Storage
    from dropline.storage.uploads import plan_uploads

    settings = load_settings()
    request = None if task is None else TaskRequest.parse(task)
    name = bucket or settings.bucket
    if not name:
        raise SettingsError(
            "DROPLINE_BUCKET is not set, and no --bucket was given; while `dropline up` runs, "
            "`source .local/env` sets it"
        )
    plan = plan_uploads(paths, prefix)
    if plan.skipped:
        note(f"not dropped, for their names say that they are no images: {', '.join(map(str, plan.skipped))}")
    target = Target(Storage.connect(settings), name, request, parallel)
    dropped = _drop(settings, plan, target, timeout if wait else None)
    _report_as_json(dropped) if json else _report(dropped, waited=wait)
    raise typer.Exit(_complain(dropped, timeout))


def _drop(settings: "Settings", plan: "Plan", target: "Target", timeout_s: float | None) -> "Dropped":
    from cli.dropping import drop_files
    from cli.progress import Bars
    from cli.waiting import Waiter
    from db.session import reader_settings

    with ExitStack() as stack:
        waiter = None if timeout_s is None else stack.enter_context(Waiter(reader_settings(settings)))
        bars = stack.enter_context(Bars(len(plan.uploads), waiting=waiter is not None))
        return drop_files(plan, target, bars, waiter=waiter, timeout_s=timeout_s or 0)


def _report(dropped: "Dropped", *, waited: bool) -> None:
    from cli import results
    from cli.console import print_line

    if waited:
        results.print_rows(dropped.rows)
        return
    for each in dropped.uploaded:
        print_line(each.version.uri)


def _report_as_json(dropped: "Dropped") -> None:
    from cli import results
    from cli.console import print_json

    rows = {row.version: row for row in dropped.rows}
    documents: list[dict[str, Any]] = []
    for each in dropped.uploaded:
        row = rows.get(each.version)
        found = results.document(row) if row else results.missing_document(each.version, dropped.missing)
        documents.append({"path": str(each.upload.path), **found})
    documents += ({"path": str(upload.path), "unreadable": why} for upload, why in dropped.unreadable)
    print_json(documents)


def _complain(dropped: "Dropped", timeout_s: float) -> ExitCode:
    from cli import results
    from cli.console import complain

    for upload, why in dropped.unreadable:
        complain(f"{upload.path} could not be read: {why}")
    results.complain_about_missing(dropped.missing, timeout_s)
    code = results.exit_code(dropped.rows, dropped.missing)
    return ExitCode.FAILED if dropped.unreadable and code is ExitCode.OK else code

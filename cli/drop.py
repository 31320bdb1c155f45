"""`dropline drop`: uploads, and with --wait the captions. `demo` drops its samples by the same `drop_files`."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Protocol, Self

import typer

from cli import results
from cli.console import make_progress, print_error, print_json, print_line, print_note
from cli.exit_codes import ExitCode
from cli.options import Json, Timeout
from cli.wait import CaptionWaiter
from db.reads import CaptionRecord
from db.session import reader_settings
from dropline.contract import FilteredNotice, ObjectVersion, TaskRequest
from dropline.errors import PermanentError, SettingsError
from dropline.images.formats import detect_format
from dropline.settings import Settings, load_settings
from dropline.storage.bucket import Storage
from dropline.storage.rules import LocalRules
from dropline.storage.uploads import Plan, Upload, Uploaded, plan_uploads, upload_all
from dropline.task_list import parse_tasks

_NO_IMAGES = ("empty_object", "not_an_image")
#: Most names in a note on entries left out.
_MOST_NAMES = 10


def drop(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Files, or directories with all images below.")
    ],
    task: Annotated[
        str | None,
        typer.Option(
            help=(
                "Florence-2 task prompt, as `<OD>`, `od`, or `open_vocabulary_detection: a cat`, or several, as "
                "`<CAPTION>, <OD>`; they travel as metadata `caption-task`."
            )
        ),
    ] = None,
    bucket: Annotated[str, typer.Option(help="Bucket of the objects; by default DROPLINE_BUCKET.")] = "",
    prefix: Annotated[str, typer.Option(help="Put before every object name, for example `summer/`.")] = "",
    wait: Annotated[
        bool,
        typer.Option("--wait/--no-wait", help="Wait for the captions of exactly the uploaded generations."),
    ] = False,
    timeout: Timeout = 300,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Uploads at a time.")] = 8,
    json: Json = False,
) -> None:
    """Upload images to the bucket.

    With --wait the command listens to Postgres until each uploaded generation has a caption, or has failed. Exit
    code 1: a file could not be read, or an object ended without a caption. Exit code 5: a rule of the function's
    settings filtered an object.
    """
    settings = load_settings()
    tasks = () if task is None else parse_tasks(task)
    bucket = bucket or settings.bucket
    if not bucket:
        raise SettingsError(
            "DROPLINE_BUCKET is not set, and no --bucket was given; while `dropline up` runs, "
            "`source .local/env` sets it"
        )
    if wait:
        reader_settings(settings)  # nothing is uploaded that cannot be waited for
    plan = plan_uploads(paths, prefix, _is_image)
    for reason, found in plan.summary().items():
        print_note(f"not dropped, {reason}: {len(found)} ({_some_of(found)})")
    target = DropTarget(Storage.connect(settings), bucket, tasks, parallel)
    result = _drop(settings, plan, target, timeout if wait else None)
    if json:
        _print_documents(result)
    elif wait:
        results.print_rows(result.rows)
        results.print_model_notice(result.rows)
    else:
        _print_uris(result)
    raise typer.Exit(_print_errors(result, timeout))


def _is_image(head: bytes) -> bool:
    """Whether a file with these first bytes may be an image; damaged and unsupported images are images."""
    try:
        detect_format(head)
    except PermanentError as refusal:
        return refusal.code not in _NO_IMAGES
    return True


def _some_of(paths: Sequence[Path]) -> str:
    rest = len(paths) - _MOST_NAMES
    return ", ".join(map(str, paths[:_MOST_NAMES])) + (f" and {rest} more" if rest > 0 else "")


def _drop(settings: Settings, plan: Plan, target: "DropTarget", timeout_s: float | None) -> "DropResult":
    with ExitStack() as stack:
        waiter = None
        if timeout_s is not None:
            expect = LocalRules(settings).expect_upload
            waiter = stack.enter_context(CaptionWaiter(reader_settings(settings), expect))
        bars = stack.enter_context(ProgressBars(len(plan.uploads), waiting=waiter is not None))
        return drop_files(plan, target, bars, waiter=waiter, timeout_s=timeout_s or 0)


def _print_uris(result: "DropResult") -> None:
    for uploaded in result.uploaded:
        print_line(uploaded.version.uri)


def _print_documents(result: "DropResult") -> None:
    """One document for each row; for an object without a result, one."""
    known = defaultdict(list, {each.version: [results.filtered_document(each)] for each in result.filtered})
    for row in result.rows:
        known[row.version].append(results.document(row))
    documents: list[dict[str, Any]] = []
    for uploaded in result.uploaded:
        version = uploaded.version
        found = known[version] or [results.unfinished_document(version, result.unfinished)]
        documents += ({"path": str(uploaded.upload.path), **document} for document in found)
    documents += ({"path": str(upload.path), "unreadable": reason} for upload, reason in result.unreadable)
    print_json(documents)


def _print_errors(result: "DropResult", timeout_s: float) -> ExitCode:
    for upload, reason in result.unreadable:
        print_error(f"{upload.path} could not be read: {reason}")
    results.print_filtered(result.filtered)
    results.print_unfinished(result.unfinished, timeout_s)
    code = results.exit_code(result.rows, result.unfinished, result.filtered)
    return ExitCode.FAILED if result.unreadable and code in (ExitCode.OK, ExitCode.FILTERED) else code


class DropObserver(Protocol):
    """Is called during a drop."""

    def uploaded(self, uploaded: Uploaded) -> None:
        """A file has been uploaded."""

    def ended(self, version: ObjectVersion, rows: list[CaptionRecord]) -> None:
        """All rows of an uploaded object have a terminal status; no rows: the function has filtered the object."""


@dataclass(frozen=True, slots=True)
class DropTarget:
    """The bucket of the uploads, and the requested tasks."""

    storage: Storage
    bucket: str
    #: Empty: those of the rules.
    tasks: tuple[TaskRequest, ...] = ()
    #: Uploads at a time.
    parallel: int = 8

    def upload(self, upload: Upload) -> Uploaded:
        """Upload one file; raises the errors of `Storage.upload`."""
        return self.storage.upload(self.bucket, upload, self.tasks)


@dataclass(slots=True)
class DropResult:
    """The uploads of a plan, and after a wait the rows."""

    uploaded: list[Uploaded]
    #: Unreadable files, each with the reason.
    unreadable: list[tuple[Upload, str]]
    #: Rows of objects that ended in time.
    rows: list[CaptionRecord] = field(default_factory=list)
    #: Objects that the function has filtered.
    filtered: list[FilteredNotice] = field(default_factory=list)
    #: Objects that did not end in time, each with the rows.
    unfinished: dict[ObjectVersion, list[CaptionRecord]] = field(default_factory=dict)


def drop_files(
    plan: Plan,
    target: DropTarget,
    observer: DropObserver,
    *,
    waiter: CaptionWaiter | None = None,
    timeout_s: float = 0,
) -> DropResult:
    """Upload the files and, with an entered waiter, wait for the captions of all uploads.

    Raises:
        ClientError, AccessDenied, StorageUnavailable, DatabaseUnavailable.
    """
    uploaded, unreadable = upload_all(plan, target.upload, target.parallel, observer.uploaded)
    result = DropResult(uploaded, unreadable)
    if waiter is None:
        return result

    def on_end(version: ObjectVersion, rows: list[CaptionRecord]) -> None:
        result.rows.extend(rows)
        observer.ended(version, rows)

    def on_filtered(filtered: FilteredNotice) -> None:
        result.filtered.append(filtered)
        observer.ended(filtered.version, [])

    versions = [each.version for each in uploaded]
    result.unfinished = waiter.wait(versions, timeout_s, on_end, on_filtered)
    return result


class ProgressBars:
    """Two bars on standard error, of the uploads and of the captions; no output without a terminal."""

    def __init__(self, total: int, *, waiting: bool) -> None:
        self._progress = make_progress()
        self._uploaded = self._progress.add_task("uploaded", total=total)
        self._ended = self._progress.add_task("captioned", total=total, visible=waiting)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def uploaded(self, _uploaded: Uploaded) -> None:
        """Advance the bar of the uploads."""
        self._progress.advance(self._uploaded)

    def ended(self, _version: ObjectVersion, _rows: list[CaptionRecord]) -> None:
        """Advance the bar of the captions."""
        self._progress.advance(self._ended)

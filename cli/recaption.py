"""`dropline recaption`: captioned rows are captioned again, or their objects get a further task."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.console import print_error, print_json, print_note, print_table
from cli.exit_codes import ExitCode
from cli.interrupt import remark_after_ctrl_c
from cli.options import Json
from cli.redrive import parse_since
from db.caption_filter import CaptionFilter, task_beginning
from db.reads import MOST_COUNTED
from db.recaptions import AddTask, Kind, Redo, Work
from dropline.contract import Status, TaskRequest, parse_uri
from dropline.errors import ClientError, DroplineError
from dropline.log import configure_logging
from dropline.settings import Settings, load_settings
from operations.recaption import Progress, Recaptioner, Request, open_recaptioner
from operations.recaption_wait import wait_for_captions

#: Ids between two notes of a pass that takes no row.
_IDS_PER_NOTE = 1_000_000
_WORDS = {
    Kind.CURRENT: "left: made by the target's model and revision",
    Kind.PENDING: "left: to be captioned or written back already",
    Kind.FAILED_BEFORE: "left: the last redo failed (--retry-failed takes them)",
    Kind.EDITED: "left: the caption is a person's",
    Kind.OVERWRITTEN: "left: the object has a newer generation",
    Kind.EXISTING: "left: the object has a row of the task",
}


def recaption(
    uris: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[gs://BUCKET/NAME[#GENERATION]]…",
            help="Objects. Without a generation: the newest version of each.",
            show_default=False,
        ),
    ] = None,
    bucket: Annotated[str, typer.Option(help="Rows of this bucket.")] = "",
    prefix: Annotated[str, typer.Option(help="Rows of objects whose names begin with this prefix.")] = "",
    task: Annotated[str, typer.Option(help="Rows of this task prompt, with or without its text.")] = "",
    model: Annotated[str, typer.Option(help="Rows whose caption this model made.")] = "",
    revision: Annotated[str, typer.Option(help="Rows whose caption this revision of the model made.")] = "",
    older_than: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help=(
                "Rows captioned before: `90m`, `2h`, `7d` ago, or a time as `2026-11-22T14:00Z` "
                "(UTC without a zone)."
            ),
        ),
    ] = "",
    status: Annotated[
        list[str] | None,
        typer.Option(
            help="Rows of this status; `captioned` without the option. With --to-task alone, another one is "
            "possible: failed rows are redriven by `dropline redrive`."
        ),
    ] = None,
    to_task: Annotated[
        str,
        typer.Option(
            metavar="TASK",
            help="Instead: the objects of the rows get a row of this task; its caption is in Postgres alone.",
        ),
    ] = "",
    target_model: Annotated[
        str,
        typer.Option(
            metavar="MODEL", help="Leave rows of this model; without the option, that of the worker started last."
        ),
    ] = "",
    target_revision: Annotated[
        str, typer.Option(metavar="REVISION", help="With --target-model: leave rows of this revision alone.")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Leave no row: take those of the target, and those of failed redos.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Take rows whose last redo failed, too.")
    ] = False,
    most: Annotated[int | None, typer.Option("--max", min=1, help="At most this many rows, oldest first.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="At most this many rows per second are made due.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rows; change nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the new captions.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="With --wait: longest wait after the last row, in seconds.")
    ] = None,
    json: Json = False,
) -> None:
    """Caption rows of another model or revision again; the old caption stays until the new one is there.

    A row has to pass every given filter. Fresh images go first. Repeated, the command takes the rows that are
    left. It needs the function's login (DROPLINE_DATABASE__URL) and Redis. Exit code 1: a redo failed (--wait).
    """
    given = _Given(tuple(uris or ()), bucket, prefix, task, model, revision, older_than, tuple(status or ()))
    request = Request(
        given.row_filter(),
        TaskRequest.parse(to_task) if to_task else None,
        target_model or None,
        target_revision or None,
        force=force,
        retry_failed=retry_failed,
    )
    settings = load_settings()
    with open_recaptioner(settings, _Notes(json).show, print_note) as recaptioner:
        configure_logging(settings.log.level, settings.log.format, "recaption")
        work = recaptioner.work_of(request)
        print_note(_plan_words(work, most, rate))
        if dry_run:
            _print_result(work, recaptioner.count(work, most), None, {}, as_json=json)
        else:
            _recaption(recaptioner, work, most, rate, settings if wait else None, timeout, as_json=json)


@dataclass(frozen=True, slots=True)
class _Given:
    """The filters as given."""

    uris: tuple[str, ...]
    bucket: str
    prefix: str
    task: str
    model: str
    revision: str
    older_than: str
    statuses: tuple[str, ...]

    def row_filter(self) -> CaptionFilter:
        """The filters as one value.

        Raises:
            ClientError: a filter cannot be read.
            InvalidTask: the task is none.
        """
        if self.bucket.startswith("gs://"):
            raise ClientError(f"--bucket {self.bucket!r}: give the bucket's name alone, without gs://")
        moment = parse_since(self.older_than, datetime.now(UTC), "--older-than") if self.older_than else None
        return CaptionFilter(
            tuple(map(_object, self.uris)),
            self.bucket,
            self.prefix,
            task_beginning(self.task),
            self.model,
            self.revision,
            moment,
            tuple(map(_status, self.statuses)),
        )


def _object(uri: str) -> tuple[str, str, int | None]:
    try:
        return parse_uri(uri)
    except ClientError as error:
        raise ClientError(f"{error}; for a whole bucket or a prefix: --bucket, --prefix") from None


def _status(name: str) -> Status:
    try:
        return Status(name)
    except ValueError:
        known = ", ".join(each.value for each in Status)
        raise ClientError(f"--status {name!r} is no status; the statuses are {known}") from None


def _plan_words(work: Work, most: int | None, rate: float | None) -> str:
    """The plan in one line."""
    match work:
        case AddTask(_, task):
            words = f"plan: objects of the rows get the task {task}"
        case Redo(_, None):
            words = "plan: rows that pass the filter are captioned again, those of the target too"
        case Redo(_, target):
            revision = f", revision {target.revision}" if target and target.revision else ""
            words = f"plan: captions are made again, except those of {target and target.model}{revision}"
        case _:
            words = "plan"
    limits = [f"{most} rows at most"] if most else []
    limits += [f"{rate:g} rows per second at most"] if rate else []
    return "; ".join([words, *limits, "fresh images go first"])


class _Notes:
    """Notes on the progress of a pass."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._taken = 0
        self._read_to = 0

    def show(self, progress: Progress) -> None:
        """Print a note after each batch, and after each million ids without one."""
        has_batch = progress.taken > self._taken
        is_far = progress.read_to >= self._read_to + _IDS_PER_NOTE
        if not self._silent and (has_batch or is_far):
            print_note(f"{progress.taken} rows due; {progress.read_to} of {progress.last_id} ids read")
        if has_batch or is_far:
            self._taken, self._read_to = progress.taken, progress.read_to


def _recaption(
    recaptioner: Recaptioner,
    work: Work,
    most: int | None,
    rate: float | None,
    waits: Settings | None,
    timeout: float | None,
    *,
    as_json: bool,
) -> None:
    failure: DroplineError | None = None
    try:
        with remark_after_ctrl_c(lambda: _stopped_words(work, len(recaptioner.taken))):
            recaptioner.recaption(work, most, rate)
    except DroplineError as error:
        failure = error
    ends: Mapping[str, int] = {}
    unfinished = 0
    if failure is None and waits is not None and recaptioner.taken:
        with remark_after_ctrl_c(lambda: f"{len(recaptioner.taken)} rows are due; workers caption them"):
            ends, unfinished = wait_for_captions(waits, recaptioner.taken, timeout)
    _print_result(work, recaptioner.seen, len(recaptioner.taken), ends, as_json=as_json)
    if failure is not None:
        raise failure
    if unfinished:
        print_error(
            f"{unfinished} rows have no new caption after {timeout:g} s; `dropline status` shows workers and queue"
        )
        raise typer.Exit(ExitCode.TIMED_OUT)
    if any(end not in ("captioned", "superseded", "deleted") for end in ends):
        raise typer.Exit(ExitCode.FAILED)


def _stopped_words(work: Work, taken: int) -> str:
    """The state that Ctrl-C leaves behind."""
    words = f"{taken} rows are due, and workers caption them; the same command again takes the others"
    if isinstance(work, Redo) and work.target is None:
        return f"{words}, and with --older-than and the time of this start no row twice"
    return words


def _print_result(
    work: Work, seen: Counter[Kind], taken: int | None, ends: Mapping[str, int], *, as_json: bool
) -> None:
    """Print the numbers of a pass; `taken` is None in a dry run."""
    number = seen[Kind.TAKEN] if taken is None else taken
    left = {kind: seen[kind] for kind in _WORDS if seen[kind]}
    if as_json:
        print_json(_document(work, number, left, ends, dry_run=taken is None))
    else:
        gets = "a row of the task" if isinstance(work, AddTask) else "a new caption"
        first = f"would get {gets}" if taken is None else f"due for {gets}"
        rows = [(first, number), *((_WORDS[kind], rows) for kind, rows in left.items())]
        print_table(["rows", "number"], [*rows, *((f"ended: {how}", count) for how, count in ends.items())])
    if not number and not left and not as_json:
        print_note("no row passes the filter; `dropline status` counts the rows of each status")
    if taken is None and number == MOST_COUNTED:
        print_note(f"{MOST_COUNTED} rows or more; no more than that are counted")


def _document(
    work: Work, number: int, left: Mapping[Kind, int], ends: Mapping[str, int], *, dry_run: bool
) -> dict[str, Any]:
    target = work.target if isinstance(work, Redo) else None
    return {
        "dry_run": dry_run,
        "would_be_taken" if dry_run else "taken": number,
        "left": {kind.value: rows for kind, rows in left.items()},
        "target": target and {"model": target.model, "model_revision": target.revision},
        "to_task": str(work.task) if isinstance(work, AddTask) else None,
        "ended": dict(ends),
    }

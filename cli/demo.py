"""`dropline demo`: the local stack, sample images, captions, and example queries."""

import contextlib
import json
import signal
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.text import Text

from cli.console import print_line, print_table, safe_text
from cli.download_progress import DownloadProgress
from cli.drop import DropResult, DropTarget, drop_files
from cli.exit_codes import ExitCode
from cli.options import Model, PortBase
from cli.results import caption_or_error, print_unfinished, status_text
from cli.up import drop_lines, earlier_rows_line, gallery_line, print_ready, sample_directory, shell_word
from cli.wait import CaptionWaiter
from db.read_only import run_read_only
from db.reads import CaptionRecord
from dropline.contract import ObjectVersion, Status, TaskPrompt, TaskRequest
from dropline.demo_model import DEMO_MODEL, DEMO_NOTICE
from dropline.errors import LocalStackError
from dropline.settings import DatabaseSettings
from dropline.storage.bucket import Storage
from dropline.storage.uploads import Uploaded, plan_uploads
from dropline.task_list import written
from local_emulators.options import StackOptions
from local_emulators.stack import Stack

_DEFAULT_DIRECTORY = Path(".local")
#: Longest wait for the sample images on a slow laptop, in seconds.
_TIMEOUT_S = 300.0
_SQL_TIMEOUT_MS = 10_000
#: Prefixes of the sample objects, by requested task.
_CAPTIONS, _OBJECTS = "samples/", "samples/objects/"

QUERIES = {
    "Full-text search: pictures with a triangle and something red": """
        SELECT object_name, caption FROM current_captions
        WHERE to_tsvector('english', caption) @@ websearch_to_tsquery('english', 'red triangle')
          AND task = '<CAPTION>' ORDER BY object_name""",
    "How it went: rows by task and status": """
        SELECT task, status, count(*) AS rows,
               round(avg(extract(epoch FROM captioned_at - queued_at)) * 1000) AS average_ms
        FROM captions GROUP BY task, status ORDER BY task, status""",
    "Boxes of <OD>, from jsonb: the largest things in all pictures": """
        SELECT object_name, label, box
        FROM current_captions, ROWS FROM (jsonb_array_elements_text(result -> 'labels'),
                                          jsonb_array_elements(result -> 'bboxes')) AS found (label, box)
        WHERE task = '<OD>'
        ORDER BY ((box ->> 2)::float - (box ->> 0)::float) * ((box ->> 3)::float - (box ->> 1)::float) DESC
        LIMIT 5""",
    "What the pictures show most": """
        SELECT label, count(*) AS times
        FROM current_captions, jsonb_array_elements_text(result -> 'labels') AS label
        WHERE task = '<OD>' GROUP BY label ORDER BY times DESC, label LIMIT 5""",
}


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", help="State, logs and the `env` file of the stack.")
    ] = _DEFAULT_DIRECTORY,
    port_base: PortBase = 18400,
    model: Model = DEMO_MODEL,
    end: Annotated[
        bool,
        typer.Option("--exit", help="End when all is shown: 0 if every sample got the right caption, else 1."),
    ] = False,
) -> None:
    """Start everything on this machine, caption sample images and query the rows; then keep running until Ctrl-C.

    The demo model recognizes only drawn shapes; for photographs: --model base.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if model == DEMO_MODEL:
        print_line(DEMO_NOTICE)
        print_line()
    options = StackOptions(directory=directory, port_base=port_base, model=model)
    with Stack(options, announce=print_ready, progress=DownloadProgress()) as stack:
        run = _DemoRun(stack)
        result = run.demonstrate(knows_samples=model == DEMO_MODEL)
        _print_result(result)
        if not end:
            run.wait_for_ctrl_c()
            print_line("stopping …")
    raise typer.Exit(ExitCode.OK if result.is_success else ExitCode.FAILED)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Counts of the sample images."""

    samples: int
    #: Samples with a caption.
    captioned: int
    #: Samples with the expected caption; None for any model but the demo model.
    correct: int | None

    @property
    def is_success(self) -> bool:
        """True if every sample has a caption, and every known caption is correct."""
        return self.samples == self.captioned and self.correct in (None, self.samples)


class _DemoRun:
    """A demonstration that ends early when a service of the stack dies.

    The demonstration and the watch over the services are threads, so that Ctrl-C interrupts the main thread's wait
    for either.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._outcomes: SimpleQueue[DemoResult | BaseException] = SimpleQueue()
        Thread(target=self._watch_services, daemon=True, name="deaths").start()

    def demonstrate(self, *, knows_samples: bool) -> DemoResult:
        """Run the demonstration.

        Raises:
            LocalStackError: a service died first.
            DroplineError: see `demonstrate`.
        """
        Thread(target=self._demonstrate, args=(knows_samples,), daemon=True, name="demonstration").start()
        outcome = self._outcomes.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def wait_for_ctrl_c(self) -> None:
        """Print the next commands and wait for Ctrl-C; raises LocalStackError when a service dies."""
        with contextlib.suppress(KeyboardInterrupt):
            _print_instructions(self._stack)
            outcome = self._outcomes.get()
            assert isinstance(outcome, BaseException)
            raise outcome

    def _demonstrate(self, knows_samples: bool) -> None:
        try:
            self._outcomes.put(demonstrate(self._stack.environment, knows_samples=knows_samples))
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._outcomes.put(error)

    def _watch_services(self) -> None:
        dead = self._stack.wait_for_death()
        if dead is not None:
            self._outcomes.put(LocalStackError(f"{dead.describe_death()}\nEverything else has been stopped."))


def demonstrate(environment: Mapping[str, str], *, knows_samples: bool) -> DemoResult:
    """Drop the samples twice, for captions and for boxes; print the results and the answers of example queries.

    Args:
        environment: variables of the stack's `env` file.
        knows_samples: True for the demo model, with known captions of the samples.

    Raises:
        ClientError, AccessDenied, StorageUnavailable, DatabaseUnavailable.
    """
    database = DatabaseSettings(url=SecretStr(environment["DATABASE_URL"]))
    storage = Storage.on_emulator(environment["STORAGE_EMULATOR_HOST"], environment["GOOGLE_CLOUD_PROJECT"])
    bucket = environment["DROPLINE_BUCKET"]
    captions = _drop_samples(database, DropTarget(storage, bucket), _CAPTIONS)
    boxes = _drop_samples(database, DropTarget(storage, bucket, (TaskRequest(TaskPrompt.OD),)), _OBJECTS)
    print_unfinished(captions.unfinished | boxes.unfinished, _TIMEOUT_S)
    result = _compare(captions, expected_captions() if knows_samples else None)
    _print_captions(captions)
    for title, statement in QUERIES.items():
        _print_query(database, title, statement)
    return result


def expected_captions() -> dict[str, str]:
    """The correct caption of each sample, by file name."""
    documents = json.loads((sample_directory() / "captions.json").read_text())
    return {each["file"]: each["caption"] for each in documents}


class _CaptionPrinter:
    """Prints each caption as it arrives."""

    def uploaded(self, _uploaded: Uploaded) -> None:
        """Print no line: the caption follows."""

    def ended(self, _version: ObjectVersion, rows: list[CaptionRecord]) -> None:
        """Print one line per row."""
        for row in rows:
            parts = [status_text(row.status), safe_text(row.object_name), safe_text(caption_or_error(row))]
            print_line(Text("  ").join(parts))


def _drop_samples(database: DatabaseSettings, target: DropTarget, prefix: str) -> DropResult:
    files = [sample_directory() / name for name in expected_captions()]
    task = written(target.tasks) or "no task named"
    print_line()
    print_line(f"dropping {len(files)} sample images into gs://{target.bucket}/{prefix} ({task})")
    with CaptionWaiter(database) as waiter:
        started = time.monotonic()
        plan = plan_uploads(files, prefix)
        result = drop_files(plan, target, _CaptionPrinter(), waiter=waiter, timeout_s=_TIMEOUT_S)
    print_line(f"{len(result.rows)} rows after {time.monotonic() - started:.1f} s")
    return result


def _compare(result: DropResult, expected: Mapping[str, str] | None) -> DemoResult:
    captions = {_file_name(row): row.caption for row in result.rows if row.status is Status.CAPTIONED}
    correct = None
    if expected is not None:
        correct = sum(captions.get(name) == caption for name, caption in expected.items())
    return DemoResult(len(result.uploaded) + len(result.unreadable), len(captions), correct)


def _file_name(row: CaptionRecord) -> str:
    return row.object_name.rpartition("/")[2]


def _print_captions(result: DropResult) -> None:
    uploaded_at = {each.version: each.at for each in result.uploaded}
    lines = []
    for row in sorted(result.rows, key=_file_name):
        duration = (row.captioned_at or row.updated_at) - uploaded_at[row.version]
        lines.append((row.object_name, caption_or_error(row), str(round(duration / timedelta(milliseconds=1)))))
    print_line()
    print_table(("object", "caption", "ms from upload to row"), lines)


def _print_query(database: DatabaseSettings, title: str, statement: str) -> None:
    print_line()
    print_line(title)
    for line in textwrap.dedent(statement).strip().splitlines():
        print_line(Text(f"    {line}", style="cyan"))
    result = run_read_only(database, statement, _SQL_TIMEOUT_MS)
    print_table(result.columns, result.rows)


def _print_result(result: DemoResult) -> None:
    correct = "" if result.correct is None else f", {result.correct} of {result.samples} captions are right"
    print_line()
    print_line(f"{result.captioned} of {result.samples} samples have a caption{correct}.")


def _print_instructions(stack: Stack) -> None:
    print_line()
    print_line("Drop an image, one of your own for example, from another terminal:")
    print_line()
    for line in (*drop_lines(stack.directory.environment_file), f"{shell_word('dropline')} watch"):
        print_line(f"    {line}")
    print_line()
    if line := earlier_rows_line(stack):
        print_line(line)
        print_line()
    print_line(gallery_line(stack))
    print_line()
    print_line("Ctrl-C stops everything.")

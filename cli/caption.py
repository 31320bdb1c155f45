"""`dropline caption`: images in, answers out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import results
from cli.annotating import require_drawable, write_annotated
from cli.asking import Answer, ask
from cli.console import print_error, print_json, print_line, print_note, print_table
from cli.exit_codes import ExitCode, code_of
from cli.inputs import Input, Kind, parse_inputs
from cli.options import Json, Timeout
from db.session import reader_settings
from dropline.contract import Status, TaskPrompt, TaskRequest
from dropline.errors import ClientError, InvalidTask
from dropline.settings import Settings, load_settings
from operations.workers import Availability, availability


def caption(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT…",
            help="Paths of images, http(s) addresses, gs://BUCKET/NAME of objects in the bucket, or - for "
            "standard input.",
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(
            help="Florence-2 task prompt, as `<OD>` or `od`; by default that of the object or of the rules."
        ),
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="WORDS", help="The text of a task that needs one, for example `a cat`.")
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the picture with the boxes, polygons or text regions of the answer: .png, .jpg or .webp.",
        ),
    ] = None,
    timeout: Timeout = 300,
    json: Json = False,
) -> None:
    """Caption images and print the answers: files, addresses, objects of the bucket, or standard input.

    A file, or the image behind an address, is uploaded below DROPLINE_SUBMIT__PREFIX. An object of the bucket is
    captioned where it is; the answer to another task than its own goes to Postgres alone. Listens to Postgres and
    never polls. Exit code 1: an image has no caption. Exit code 4: no worker can answer.
    """
    settings = load_settings()
    reader_settings(settings)  # without Postgres, nothing else matters
    request = _task_request(task, text)
    found = parse_inputs(inputs)
    if annotate is not None:
        require_drawable(annotate, found, request, settings)
    usable = [each for each in found if each.error is None]
    waits = not usable or _may_wait(availability(settings), settings, usable)
    answers = ask(settings, found, request, timeout if waits else 0)
    if json:
        print_json([answer.document() for answer in answers])
    else:
        _print_answers(answers)
    if any(answer.is_missing for answer in answers):
        # A worker may have died meanwhile.
        _print_missing(answers, f"after {timeout:g} s" if waits else "", availability(settings))
    _print_errors(answers)
    if annotate is not None and (row := answers[0].row) is not None and row.status is Status.CAPTIONED:
        write_annotated(settings, row, annotate)
        print_note(f"wrote {annotate}")
    raise typer.Exit(_exit_code(answers, ExitCode.TIMED_OUT if waits else ExitCode.UNAVAILABLE))


def _task_request(task: str | None, text: str | None) -> TaskRequest | None:
    if task is None and text is not None:
        raise ClientError("--text needs --task, for example --task open_vocabulary_detection --text 'a cat'")
    prompt = TaskPrompt.named(task or "")
    if text is None and prompt is not None and (prompt.takes_text or prompt.takes_region):
        example = "<loc_100><loc_200><loc_500><loc_600>" if prompt.takes_region else "a cat"
        needed = "a region, as four places" if prompt.takes_region else "words"
        raise InvalidTask(f"--task {task} needs {needed}: add --text '{example}'")
    return None if task is None else TaskRequest.from_parts(task, text)


def _may_wait(workers: Availability, settings: Settings, inputs: Sequence[Input]) -> bool:
    """False if no worker will answer. The event of an upload, or the request, wakes a sleeping worker pool.

    Raises:
        typer.Exit: no worker will answer, and an image would have to be uploaded.
    """
    if workers.may_answer:
        if not workers.alive:
            print_note(workers.words())
        return True
    if settings.pool.name:
        print_note("waking: no worker is alive yet, and the image wakes the worker pool")
        return True
    if any(each.kind is not Kind.OBJECT for each in inputs):
        print_error(f"{workers.words()}; nothing was uploaded")
        raise typer.Exit(ExitCode.UNAVAILABLE)
    return False


def _print_answers(answers: Sequence[Answer]) -> None:
    """The caption alone of a single input; else a table."""
    if len(answers) > 1:
        lines = [(answer.input.text, _status(answer), answer.words()) for answer in answers]
        print_table(("input", "status", "caption, or why there is none"), lines)
    elif (row := answers[0].row) is not None and row.status is Status.CAPTIONED:
        print_line(str(row.caption))
    rows = [answer.row for answer in answers if answer.row is not None]
    results.print_model_notice(rows)
    results.print_copies_notice(rows)


def _status(answer: Answer) -> Any:
    if answer.row is not None:
        return results.status_text(answer.row.status)
    if answer.filtered is not None:
        return results.FILTERED_STATUS
    return "" if answer.error is None else "refused"


def _print_missing(answers: Sequence[Answer], after: str, workers: Availability) -> None:
    """One line per input without an answer, with the state of the workers as a hint to the cause."""
    for answer in answers:
        if answer.is_missing and answer.submitted is not None:
            uri = answer.submitted.version.uri
            print_error(
                f"no answer for {answer.input.text} {after}".rstrip()
                + f" ({workers.words()}); `dropline wait '{uri}'` waits for it"
            )


def _print_errors(answers: Sequence[Answer]) -> None:
    """One line per refused or filtered input; a single failed row has its reason here, and no table."""
    for answer in answers:
        if (told := answer.refusal()) and (answer.row is None or len(answers) == 1):
            print_error(told)


def _exit_code(answers: Sequence[Answer], missing: ExitCode) -> ExitCode:
    if any(answer.is_missing for answer in answers):
        return missing
    if any(answer.row is not None and answer.row.status is not Status.CAPTIONED for answer in answers):
        return ExitCode.FAILED
    if error := next((answer.error for answer in answers if answer.error is not None), None):
        return code_of(error)
    return ExitCode.FILTERED if any(answer.filtered for answer in answers) else ExitCode.OK

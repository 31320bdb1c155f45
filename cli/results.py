"""Rows and errors of objects, as text for people and as documents for programs."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

from cli.console import print_error, print_note, print_table, safe_text
from cli.exit_codes import ExitCode
from db.reads import CaptionRecord
from dropline.contract import FilteredNotice, FilterReason, ObjectVersion, Status
from dropline.demo_model import demo_notice

_STYLES = {
    Status.QUEUED: "yellow",
    Status.RUNNING: "cyan",
    Status.CAPTIONED: "green",
    Status.FAILED: "red",
    Status.SUPERSEDED: "dim",
    Status.DELETED: "dim",
}
_FILTER_WORDS = {
    FilterReason.NOT_INCLUDED: "the name matches no glob of",
    FilterReason.EXCLUDED: "the name matches a glob of",
    FilterReason.AUXILIARY: "the name matches a glob of",
    FilterReason.FOLDER_PLACEHOLDER: "an empty object that stands for a folder, by a",
    FilterReason.CONTENT_TYPE: "the content type matches no glob of",
}
#: The status of a filtered object in tables and documents; a filtered object has no row.
FILTERED_STATUS = "filtered"


def status_text(status: Status) -> Text:
    """A status in its colour."""
    return safe_text(str(status), _STYLES[status])


def caption_or_error(row: CaptionRecord) -> str:
    """The caption of a captioned row, else the error code and the error message; empty without either."""
    if row.status is Status.CAPTIONED:
        return str(row.caption)
    if row.error_code is None:
        return ""
    return f"{row.error_code}: {row.error}"


def print_rows(rows: Sequence[CaptionRecord]) -> None:
    """Print a table of object, status, and caption or error, sorted by name; of several tasks, with the task."""
    by_name = sorted(rows, key=lambda row: (row.bucket, row.object_name, row.generation))
    several = len({row.version for row in rows}) < len(rows)
    lines = [
        (
            f"{row.bucket}/{row.object_name}",
            *((row.task,) if several else ()),
            status_text(row.status),
            caption_or_error(row),
        )
        for row in by_name
    ]
    task = ("task",) if several else ()
    print_table(("object", *task, "status", "caption, or why there is none"), lines)


def print_model_notice(rows: Iterable[CaptionRecord]) -> None:
    """Print a remark on captions of the demo model, if there are any."""
    if notice := demo_notice(row.model for row in rows):
        print_note(notice)


def print_copies_notice(rows: Iterable[CaptionRecord]) -> None:
    """Print a remark on captions that were taken from rows with identical bytes, if there are any."""
    originals = [row.copied_from for row in rows if row.copied_from is not None]
    if len(originals) == 1:
        print_note(f"identical bytes were captioned before: the caption is that of the row {originals[0]}")
    elif originals:
        print_note(f"identical bytes were captioned before: {len(originals)} captions are those of other rows")


def document(row: CaptionRecord) -> dict[str, Any]:
    """The URI of the object and all columns of the row, for programs."""
    return {"uri": row.version.uri, **row.document()}


def unfinished_document(
    version: ObjectVersion, unfinished: Mapping[ObjectVersion, Sequence[CaptionRecord]]
) -> dict[str, Any]:
    """An object version without a result, for programs; `status` is None if the version has no row."""
    rows = unfinished.get(version)
    return {
        "uri": version.uri,
        "bucket": version.bucket,
        "object_name": version.name,
        "generation": version.generation,
        "status": rows[0].status if rows else None,
    }


def filter_words(reason: str, setting: str) -> str:
    """The rule that filtered an object, with the setting that decides."""
    words = {str(known): words for known, words in _FILTER_WORDS.items()}.get(reason, "by")
    return f"{reason}: {words} {setting}"


def filtered_document(filtered: FilteredNotice) -> dict[str, Any]:
    """A filtered object version, for programs."""
    version = filtered.version
    return {
        "uri": version.uri,
        "bucket": version.bucket,
        "object_name": version.name,
        "generation": version.generation,
        "status": FILTERED_STATUS,
        "reason": filtered.reason,
        "setting": filtered.setting,
    }


def print_filtered(filtered: Collection[FilteredNotice]) -> None:
    """Print an error per filtered object version, with the rule."""
    for each in filtered:
        rule = filter_words(each.reason, each.setting)
        print_error(f"{each.version.uri} is filtered and gets no caption ({rule})")


def print_unfinished(unfinished: Mapping[ObjectVersion, Sequence[CaptionRecord]], timeout_s: float) -> None:
    """Print an error per object version that did not end in time, with a hint to the cause."""
    for version, rows in unfinished.items():
        if rows:
            status = next(row.status for row in rows if not row.is_terminal)
            hint = f"is still {status}; is a worker running? `dropline status` shows the queue"
        else:
            hint = (
                "has no row: is the function running, is the bucket in DROPLINE_EVENTS__BUCKETS, and do the "
                "events' settings allow the name and the content type? `dropline status` counts filtered events"
            )
        print_error(f"after {timeout_s:g} s {version.uri} {hint}")


def exit_code(
    rows: Sequence[CaptionRecord],
    unfinished: Mapping[ObjectVersion, Sequence[CaptionRecord]],
    filtered: Collection[FilteredNotice] = (),
) -> ExitCode:
    """TIMED_OUT with unfinished objects, else FAILED if a row ended without a caption, else FILTERED."""
    if unfinished:
        return ExitCode.TIMED_OUT
    if any(row.status is not Status.CAPTIONED for row in rows):
        return ExitCode.FAILED
    return ExitCode.FILTERED if filtered else ExitCode.OK

"""What became of objects, for people and for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from cli.console import cell, complain, print_table
from cli.exit_codes import ExitCode
from db.reads import CaptionRecord
from dropline.contract import ObjectVersion, Status

_STYLES = {
    Status.QUEUED: "yellow",
    Status.RUNNING: "cyan",
    Status.CAPTIONED: "green",
    Status.FAILED: "red",
    Status.SUPERSEDED: "dim",
    Status.DELETED: "dim",
}


def status_cell(status: Status) -> Text:
    """A status in its colour."""
    return cell(str(status), _STYLES[status])


def words_of(row: CaptionRecord) -> str:
    """The caption, or why there is none."""
    if row.status is Status.CAPTIONED:
        return str(row.caption)
    if row.error_code is None:
        return ""
    return f"{row.error_code}: {row.error}"


def print_rows(rows: Sequence[CaptionRecord]) -> None:
    """A table: object, status, caption or error; sorted by name."""
    lines = [
        (f"{row.bucket}/{row.object_name}", status_cell(row.status), words_of(row))
        for row in sorted(rows, key=lambda row: (row.bucket, row.object_name, row.generation))
    ]
    print_table(("object", "status", "caption, or why there is none"), lines)


def document(row: CaptionRecord) -> dict[str, Any]:
    """A row for programs: all its columns, and the object's URI."""
    return {"uri": row.version.uri, **row.document()}


def missing_document(
    version: ObjectVersion, missing: Mapping[ObjectVersion, Sequence[CaptionRecord]]
) -> dict[str, Any]:
    """An object nobody waited for, or in vain, for programs; `status` is null where it has no row."""
    rows = missing.get(version)
    return {
        "uri": version.uri,
        "bucket": version.bucket,
        "object_name": version.name,
        "generation": version.generation,
        "status": rows[0].status if rows else None,
    }


def complain_about_missing(missing: Mapping[ObjectVersion, Sequence[CaptionRecord]], timeout_s: float) -> None:
    """Say what was waited for in vain, and where to look."""
    for version, rows in missing.items():
        if rows:
            state = next(row.status for row in rows if not row.is_terminal)
            hint = f"is still {state}; is a worker running? `dropline status` shows the queue"
        else:
            hint = (
                "has no row: is the function running, is the bucket in DROPLINE_EVENTS__BUCKETS, and do the "
                "events' settings allow the name and the content type?"
            )
        complain(f"after {timeout_s:g} s {version.uri} {hint}")


def exit_code(rows: Sequence[CaptionRecord], missing: Mapping[ObjectVersion, Sequence[CaptionRecord]]) -> ExitCode:
    """Timed out, else failed where any object ended without a caption."""
    if missing:
        return ExitCode.TIMED_OUT
    captioned = all(row.status is Status.CAPTIONED for row in rows)
    return ExitCode.OK if captioned else ExitCode.FAILED

"""Rows as lines of JSON and as CSV. Pure."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from db.reads import CaptionRecord

#: Columns of an export, in order; each line of JSON has the `uri` first.
COLUMNS = (
    *("bucket", "object_name", "generation", "task", "status", "caption", "result", "model", "model_revision"),
    *("content_type", "size_bytes", "md5_hash", "crc32c", "width", "height", "error_code", "error"),
    *("event_time", "queued_at", "captioned_at", "metadata_written_at", "updated_at", "edited_by", "edited_at"),
    "copied_from",
)
#: Beside the line feed, some readers take such characters for the end of a line; JSON escapes the ASCII ones.
_LINE_BREAKS = {ord(each): f"\\u{ord(each):04x}" for each in "\x85\u2028\u2029"}
#: A cell with such a beginning is a formula for a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def document(row: CaptionRecord) -> dict[str, Any]:
    """The values of a row by column; times are `datetime`."""
    return {"uri": row.version.uri, **{name: getattr(row, name) for name in COLUMNS}}


def as_json_lines(rows: Iterable[CaptionRecord]) -> bytes:
    """One JSON object and a line feed for each row, in UTF-8."""
    lines = (json.dumps(document(row), ensure_ascii=False, separators=(",", ":"), default=_text) for row in rows)
    return "".join(f"{line.translate(_LINE_BREAKS)}\n" for line in lines).encode()


def csv_head() -> bytes:
    """The line of the columns' names."""
    return _csv([["uri", *COLUMNS]])


def as_csv(rows: Iterable[CaptionRecord]) -> bytes:
    """The rows by RFC 4180, in UTF-8: lines end with CR LF; NULL is empty; `result` is JSON.

    An apostrophe stands before a text which a spreadsheet would take for a formula.
    """
    return _csv([_cell(value) for value in document(row).values()] for row in rows)


def _csv(lines: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(lines)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


#: The line before the rows, and the rows, by the name of the format.
FORMATS: Mapping[str, tuple[Callable[[], bytes], Callable[[Iterable[CaptionRecord]], bytes]]] = {
    "jsonl": (lambda: b"", as_json_lines),
    "csv": (csv_head, as_csv),
}

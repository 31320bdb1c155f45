"""Rows as the documents of the API."""

from typing import Any

from db.reads import CaptionRecord
from dropline import caption_id
from dropline.contract import ChangeNotice, TaskRequest
from dropline.errors import InvalidCaptionId, InvalidTask
from operations.submit import Submitted

#: Columns of the table that an API's client sees, in the order of the documents.
COLUMNS = (
    *("bucket", "object_name", "generation", "task", "status", "caption", "result", "model", "model_revision"),
    *("edited_by", "edited_at"),
    *("content_type", "size_bytes", "md5_hash", "crc32c", "width", "height", "attempts", "error_code", "error"),
    *("event_time", "queued_at", "started_at", "captioned_at", "metadata_written_at", "updated_at"),
    *("redo", "redo_failed_at", "copied_from"),
)
_TIMES = frozenset(name for name in COLUMNS if name.endswith(("_at", "_time")))


def row_document(row: CaptionRecord) -> dict[str, Any]:
    """The row, with its public id."""
    document: dict[str, Any] = {"id": public_id(row), "uri": f"gs://{row.bucket}/{row.object_name}"}
    for name in COLUMNS:
        value = getattr(row, name)
        document[name] = value.isoformat() if name in _TIMES and value is not None else value
    return document


def change_document(row: CaptionRecord, notice: ChangeNotice) -> dict[str, Any]:
    """The row with the status after a change; later changes may be in the row already."""
    document = row_document(row) | {"status": notice.status.value}
    return document if notice.metadata_written else document | {"metadata_written_at": None}


def submitted_document(submitted: Submitted) -> dict[str, Any]:
    """A row to wait for."""
    version = submitted.version
    return {
        "id": caption_id.encode(version, submitted.task),
        "uri": f"gs://{version.bucket}/{version.name}",
        "task": str(submitted.task),
        "status": submitted.status.value,
    }


def public_id(row: CaptionRecord) -> str | None:
    """The public id of a row; None for a task unknown to the release."""
    try:
        return caption_id.encode(row.version, TaskRequest.parse(row.task))
    except (InvalidTask, InvalidCaptionId):
        return None

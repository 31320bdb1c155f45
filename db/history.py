"""The history of a row: replaced captions. Each function is in a transaction of the caller."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import text

from db.session import Connection

#: Most replaced captions of one row in a read.
MOST = 100


@dataclass(frozen=True, slots=True)
class ReplacedCaption:
    """A row of `caption_history`; `db.models.CaptionHistoryRow` describes each column."""

    caption: str
    result: dict[str, Any] | None
    model: str | None
    model_revision: str | None
    captioned_at: datetime | None
    edited_by: str | None
    edited_at: datetime | None
    replaced_at: datetime

    def document(self) -> dict[str, Any]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_COLUMNS = ", ".join(field.name for field in fields(ReplacedCaption))
_OF_ROW = text(f"SELECT {_COLUMNS} FROM caption_history WHERE caption_id = :id ORDER BY id DESC LIMIT {MOST}")  # noqa: S608 - the names of fields


def of_row(connection: Connection, row_id: int) -> list[ReplacedCaption]:
    """The replaced captions of a row, the newest first; `MOST` at most."""
    return [ReplacedCaption(**row) for row in connection.execute(_OF_ROW, {"id": row_id}).mappings()]

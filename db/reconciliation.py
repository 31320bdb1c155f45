"""The rows of a bucket in the order of its listing, and the repairs of a reconciliation.

Each function takes a connection in a transaction of the caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import text

from db.session import Connection
from dropline.contract import ObjectVersion, Status

#: `edited_by` of a caption that was in the object's metadata when its row was made (`adopt_caption`).
ADOPTED = "object metadata"


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """The columns of a row that a comparison needs."""

    id: int
    object_name: str
    generation: int
    task: str
    status: Status
    caption: str | None
    model: str | None
    write_back: bool
    metadata_written_at: datetime | None
    lease_until: datetime | None
    redo: bool
    edited_by: str | None
    reverted_at: datetime | None

    @property
    def is_written(self) -> bool:
        """Whether the object's metadata should have the caption: it was written, and no write-back is pending."""
        return (
            self.status is Status.CAPTIONED
            and self.write_back
            and self.metadata_written_at is not None
            and self.lease_until is None
            and not self.redo
            # A person wrote the caption into the metadata, and may have written another one since.
            and self.edited_by != ADOPTED
        )

    @property
    def has_ended(self) -> bool:
        """Whether the row's object version is known to be gone, or no longer live."""
        return self.status in (Status.SUPERSEDED, Status.DELETED)


_COLUMNS = ", ".join(field.name for field in fields(ComparedRow))
# The operators of text_pattern_ops compare the bytes of names, as a listing does, by the unique index of versions.
_PAGE = text(f"""
    SELECT {_COLUMNS} FROM captions
    WHERE bucket = :bucket
          AND object_name ~>=~ :start AND (CAST(:until AS text) IS NULL OR object_name ~<~ :until)
          AND (object_name ~>~ :name OR (object_name = :name AND (generation, id) > (:generation, :id)))
    ORDER BY object_name USING ~<~, generation, id LIMIT :most
""")  # noqa: S608 - the names of fields
_OF_OBJECT = text(f"""
    SELECT {_COLUMNS} FROM captions WHERE bucket = :bucket AND object_name = :name ORDER BY generation, id
""")  # noqa: S608


def rows_in_order(
    connection: Connection, bucket: str, start: str, end: str | None, after: ComparedRow | None, most: int
) -> list[ComparedRow]:
    """At most `most` rows behind `after`, by the bytes of their object names; None: from the beginning.

    Args:
        bucket: of the rows.
        start: the first name.
        end: the name behind the last one; None: to the end.
        after: the last row of the page before.
        most: rows of a page.
    """
    values = {
        "bucket": bucket,
        "start": start if after is None else after.object_name,
        "until": end,
        "name": "" if after is None else after.object_name,
        "generation": 0 if after is None else after.generation,
        "id": 0 if after is None else after.id,
        "most": most,
    }
    return [_row(row) for row in connection.execute(_PAGE, values)]


def rows_of_object(connection: Connection, bucket: str, name: str) -> list[ComparedRow]:
    """All rows of an object, the oldest generation first."""
    return [_row(row) for row in connection.execute(_OF_OBJECT, {"bucket": bucket, "name": name})]


def _row(columns: Sequence[object]) -> ComparedRow:
    values = dict(zip((field.name for field in fields(ComparedRow)), columns, strict=True))
    return ComparedRow(**{**values, "status": Status(values["status"])})  # type: ignore[arg-type]


# A worker repeats the write-back of a captioned row with an expired lease, and reads the metadata first.
_REWRITE = text("""
    UPDATE captions SET lease_until = now(), failing_since = NULL, priority = 2, updated_at = now()
    WHERE id = :id AND generation = :generation AND status = 'captioned' AND write_back AND NOT redo
          AND lease_until IS NULL AND caption = :caption AND model IS NOT DISTINCT FROM :model
""")


def repeat_write_back(connection: Connection, row: ComparedRow) -> bool:
    """Make the write-back of a row due; False if the row has changed since it was read."""
    values = {"id": row.id, "generation": row.generation, "caption": row.caption, "model": row.model}
    return connection.execute(_REWRITE, values).rowcount == 1


def version_of(bucket: str, row: ComparedRow) -> ObjectVersion:
    """The object version of a row."""
    return ObjectVersion(bucket, row.object_name, row.generation)

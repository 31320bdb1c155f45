"""Reads of the captions table: rows and counts.

Each function takes a connection in a transaction of the caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import text

from db.session import Connection
from dropline.contract import ObjectVersion, Status


@dataclass(frozen=True, slots=True)
class CaptionRecord:
    """All columns of one row of `captions`, in the order of the table; `db.models.CaptionRow` describes each."""

    id: int
    bucket: str
    object_name: str
    generation: int
    task: str
    status: Status
    caption: str | None
    result: dict[str, Any] | None
    model: str | None
    model_revision: str | None
    content_type: str | None
    size_bytes: int | None
    md5_hash: str | None
    crc32c: str | None
    width: int | None
    height: int | None
    attempts: int
    lost_attempts: int
    lease_until: datetime | None
    error_code: str | None
    error: str | None
    event_time: datetime | None
    queued_at: datetime
    started_at: datetime | None
    captioned_at: datetime | None
    metadata_written_at: datetime | None
    updated_at: datetime
    attempts_before_redrive: int
    write_back: bool
    changed_in: int | None
    priority: int
    not_before: datetime | None
    failing_since: datetime | None
    redo: bool
    claimed_by: str | None
    #: None for a caption of the model.
    edited_by: str | None
    edited_at: datetime | None
    reverted_by: str | None
    reverted_at: datetime | None
    redo_failed_at: datetime | None
    copied_from: int | None = None

    @classmethod
    def from_columns(cls, columns: Mapping[Any, Any]) -> "CaptionRecord":
        """The record of a result row with all columns of the table."""
        return cls(**{**columns, "status": Status(columns["status"])})

    @property
    def version(self) -> ObjectVersion:
        """The object version of the row."""
        return ObjectVersion(self.bucket, self.object_name, self.generation)

    @property
    def is_terminal(self) -> bool:
        """True if the row's status only changes by an event or a redrive."""
        return self.status.is_terminal

    def document(self) -> dict[str, Any]:
        """The columns by name, in the order of the table."""
        return _fields_of(self)


@dataclass(frozen=True, slots=True)
class FailureCount:
    """The number of `failed` rows with one error code."""

    error_code: str
    rows: int
    #: The error message of one of the rows.
    example: str

    def document(self) -> dict[str, Any]:
        """The fields by name."""
        return _fields_of(self)


@dataclass(frozen=True, slots=True)
class Throughput:
    """The rate of captions, and the wait of the queue."""

    #: Age of the oldest queued row, in seconds; None if no row is queued.
    oldest_queued_s: float | None
    captions_per_minute: float


def _fields_of(value: CaptionRecord | FailureCount) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


# Named columns, so that a later migration may add one while this version runs.
_COLUMNS = ", ".join(field.name for field in fields(CaptionRecord))
_SELECT = f"SELECT {_COLUMNS} FROM captions"  # noqa: S608 - the names of fields

#: Rows of one status, or of one error code, that are counted: a table has many millions.
MOST_COUNTED = 10_000


def counted(condition: str, order: str = "") -> str:
    """The number of rows with a condition, `:most` at most: the entries of an index are read, and few rows."""
    return f"(SELECT count(*) FROM (SELECT FROM captions WHERE {condition} {order} LIMIT :most) AS counted)"  # noqa: S608


_STATUS_COUNTS = text(f"""
    SELECT {counted("status = 'queued'", "ORDER BY queued_at")} AS queued,
           {counted("status = 'running' AND lease_until IS NOT NULL")} AS running,
           {counted("status = 'captioned' AND captioned_at IS NOT NULL", "ORDER BY captioned_at DESC")}
           AS captioned,
           {counted("status = 'failed'", "ORDER BY error_code")} AS failed,
           {counted("status = 'superseded'", "ORDER BY status, id")} AS superseded,
           {counted("status = 'deleted'", "ORDER BY status, id")} AS deleted
""")
_REDO_COUNT = text(f"""SELECT {counted("redo AND status = 'captioned'", "ORDER BY id")} AS rows""")
# Each code is found by a probe of the index behind the code before.
_FAILURES = text(f"""
    WITH RECURSIVE codes AS (
        (SELECT error_code FROM captions WHERE status = 'failed' ORDER BY error_code LIMIT 1)
        UNION ALL
        SELECT (SELECT next.error_code FROM captions AS next
                WHERE next.status = 'failed' AND next.error_code > codes.error_code
                ORDER BY next.error_code LIMIT 1)
        FROM codes WHERE codes.error_code IS NOT NULL)
    SELECT error_code, {counted("status = 'failed' AND error_code = codes.error_code")} AS rows,
           (SELECT error FROM captions WHERE status = 'failed' AND error_code = codes.error_code
            ORDER BY error_code LIMIT 1)
           AS example
    FROM codes WHERE error_code IS NOT NULL ORDER BY rows DESC, error_code
""")  # noqa: S608
_OBJECT_ROWS = text(f"""{_SELECT}
    WHERE bucket = :bucket AND object_name = :name
    AND (CAST(:generation AS bigint) IS NULL OR generation = :generation) ORDER BY generation DESC, id
""")
_ROW_OF_TASK = text(
    f"{_SELECT} WHERE bucket = :bucket AND object_name = :name AND generation = :generation AND task = :task"
)
_ONE_ROW = text(f"{_SELECT} WHERE id = :row_id")
# The condition is that of the index ix_captions_edited_at.
_LATEST_EDITS = text(
    f"{_SELECT} WHERE edited_by <> 'object metadata' AND reverted_at IS NULL ORDER BY edited_at DESC LIMIT :most"
)
_THROUGHPUT = text("""
    SELECT (SELECT EXTRACT(EPOCH FROM now() - min(queued_at))::float8 FROM captions WHERE status = 'queued')
           AS oldest_queued_s,
           (SELECT count(*) FROM captions WHERE captioned_at > now() - make_interval(mins => :minutes))
           AS captioned
""")
# Numbers from xmax on are those of another server, from which the table was restored.
_CHANGED_SINCE = text(f"""{_SELECT}
    WHERE changed_in > :since AND changed_in < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    ORDER BY changed_in LIMIT :most
""")

_SINCE_LAST_CAPTION = text("""
    SELECT EXTRACT(EPOCH FROM clock_timestamp() - max(captioned_at))::float8 FROM captions
    WHERE captioned_at IS NOT NULL
""")


def status_counts(connection: Connection) -> dict[Status, int]:
    """The number of rows by status, `MOST_COUNTED` at most; 0 for a status without rows."""
    found = connection.execute(_STATUS_COUNTS, {"most": MOST_COUNTED}).mappings().one()
    return {status: int(found[status.value]) for status in Status}


def redo_count(connection: Connection) -> int:
    """The number of captioned rows to be captioned again, `MOST_COUNTED` at most."""
    return int(connection.execute(_REDO_COUNT, {"most": MOST_COUNTED}).scalar_one())


def failures(connection: Connection) -> list[FailureCount]:
    """Failed rows by error code, the most frequent first; `MOST_COUNTED` rows of a code are counted at most."""
    return [FailureCount(**row) for row in connection.execute(_FAILURES, {"most": MOST_COUNTED}).mappings()]


def rows_of_object(
    connection: Connection, bucket: str, name: str, generation: int | None = None
) -> list[CaptionRecord]:
    """All rows of an object, or of one generation; the newest generation first."""
    values = {"bucket": bucket, "name": name, "generation": generation}
    return [CaptionRecord.from_columns(row) for row in connection.execute(_OBJECT_ROWS, values).mappings()]


def row(connection: Connection, row_id: int) -> CaptionRecord | None:
    """One row; None if the table has no such id."""
    found = connection.execute(_ONE_ROW, {"row_id": row_id}).mappings().one_or_none()
    return None if found is None else CaptionRecord.from_columns(found)


def row_of(connection: Connection, version: ObjectVersion, task: str) -> CaptionRecord | None:
    """The row of one task of an object version; None without one."""
    values = {"bucket": version.bucket, "name": version.name, "generation": version.generation, "task": task}
    found = connection.execute(_ROW_OF_TASK, values).mappings().one_or_none()
    return None if found is None else CaptionRecord.from_columns(found)


def latest_edits(connection: Connection, most: int) -> list[CaptionRecord]:
    """At most `most` rows with the caption of a person, the latest edit first.

    Captions that arrived in the metadata of their objects are left out.
    """
    found = connection.execute(_LATEST_EDITS, {"most": most}).mappings()
    return [CaptionRecord.from_columns(row) for row in found]


def throughput(connection: Connection, minutes: int) -> Throughput:
    """Captions per minute over the last `minutes`, and the age of the oldest queued row."""
    found = connection.execute(_THROUGHPUT, {"minutes": minutes}).one()
    return Throughput(found.oldest_queued_s, found.captioned / minutes)


def rows_changed_since(connection: Connection, since: int, most: int) -> list[CaptionRecord]:
    """At most `most` rows whose last notified change has a larger number than `since`, in this order."""
    values = {"since": since, "most": most}
    return [CaptionRecord.from_columns(row) for row in connection.execute(_CHANGED_SINCE, values).mappings()]


def seconds_since_last_caption(connection: Connection) -> float | None:
    """Seconds since the latest caption of any worker; None if no row has a caption."""
    found: float | None = connection.execute(_SINCE_LAST_CAPTION).scalar_one()
    return found

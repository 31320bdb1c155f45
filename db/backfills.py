"""Backfills: the cursor, the counts and the inserted rows of each.

A batch of rows and the cursor behind the batch are committed together. So a backfill killed at any step continues
behind the last batch. Each function takes a connection in a transaction of the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db import bulk_rows
from db.bulk_rows import BulkRow, Registered
from db.session import Connection
from dropline.contract import Status
from dropline.errors import BackfillTakenOver


@dataclass(frozen=True, slots=True)
class BackfillRecord:
    """One row of `backfills`; `db.models.BackfillRow` describes each column."""

    id: int
    source: str
    options: dict[str, Any]
    since: datetime | None
    cursor: dict[str, Any]
    listed: int
    existing: int
    queued: int
    adopted: int
    failed: int
    ended: int
    queued_bytes: int
    left_out: dict[str, int]
    first_id: int | None
    last_id: int | None
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None


_COLUMNS = ", ".join(field.name for field in fields(BackfillRecord))
# The unfinished backfill of the same source and options continues; the earlier runner stops at the next batch.
_START = text(f"""
    INSERT INTO backfills (source, options, since, cursor, runner)
    VALUES (:source, :options, :since, '{{}}', :runner)
    ON CONFLICT (source, options) WHERE finished_at IS NULL
    DO UPDATE SET runner = EXCLUDED.runner, updated_at = now()
    RETURNING {_COLUMNS}
""").bindparams(bindparam("options", type_=JSONB))  # noqa: S608 - the names of fields
_LOCK = text("SELECT id FROM backfills WHERE id = :id AND runner = :runner AND finished_at IS NULL FOR UPDATE")
_ADVANCE = text(f"""
    UPDATE backfills SET cursor = :cursor, listed = listed + :listed, existing = existing + :existing,
           queued = queued + :queued, adopted = adopted + :adopted, failed = failed + :failed,
           ended = ended + :ended, queued_bytes = queued_bytes + :queued_bytes, updated_at = now(),
           first_id = least(first_id, :first_id), last_id = greatest(last_id, :last_id),
           left_out = (SELECT coalesce(jsonb_object_agg(key, total), '{{}}') FROM (
               SELECT key, sum(value::bigint) AS total
               FROM (SELECT * FROM jsonb_each_text(left_out) UNION ALL SELECT * FROM jsonb_each_text(:left_out))
                    AS both_counts (key, value) GROUP BY key) AS totals)
    WHERE id = :id RETURNING {_COLUMNS}
""").bindparams(bindparam("cursor", type_=JSONB), bindparam("left_out", type_=JSONB))  # noqa: S608 - the names of fields
_FINISH = text(f"""
    UPDATE backfills SET finished_at = now(), updated_at = now()
    WHERE id = :id AND runner = :runner AND finished_at IS NULL RETURNING {_COLUMNS}
""")  # noqa: S608 - the names of fields
_ONE = text(f"SELECT {_COLUMNS} FROM backfills WHERE id = :id")  # noqa: S608 - the names of fields


def start(
    connection: Connection, source: str, options: Mapping[str, Any], since: datetime | None, runner: str
) -> BackfillRecord:
    """Begin a backfill, or take over the unfinished backfill of the same source and options.

    Args:
        source: `gs://bucket/…`, as given.
        options: all options for the choice of objects and rows.
        since: of a new backfill.
        runner: a name unique to the process.
    """
    values = {"source": source, "options": dict(options), "since": since, "runner": runner}
    return _record(connection.execute(_START, values).mappings().one())


def advance(
    connection: Connection,
    backfill_id: int,
    runner: str,
    bucket: str,
    rows: Sequence[BulkRow],
    cursor: Mapping[str, Any],
    left_out: Mapping[str, int],
    *,
    listed: int,
) -> tuple[BackfillRecord, Registered]:
    """Insert and count the missing rows of a batch, and set the cursor behind the batch.

    Args:
        left_out: numbers of the other objects of the batch, by reason.
        listed: objects of the batch.

    Raises:
        BackfillTakenOver: another process continues the backfill, or the backfill has finished.
    """
    if connection.execute(_LOCK, {"id": backfill_id, "runner": runner}).one_or_none() is None:
        raise BackfillTakenOver(f"another process has taken over backfill {backfill_id}, and goes on with it")
    registered = bulk_rows.register(connection, bucket, rows) if rows else Registered()
    values = {
        "id": backfill_id,
        "cursor": dict(cursor),
        "listed": listed,
        "existing": len(rows) - registered.total,
        "left_out": dict(left_out),
        **{name: getattr(registered, name) for name in ("queued", "adopted", "failed", "ended", "queued_bytes")},
        "first_id": registered.first_id,
        "last_id": registered.last_id,
    }
    return _record(connection.execute(_ADVANCE, values).mappings().one()), registered


def finish(connection: Connection, backfill_id: int, runner: str) -> BackfillRecord:
    """Set the backfill to finished.

    Raises:
        BackfillTakenOver: another process continues the backfill, or has finished.
    """
    found = connection.execute(_FINISH, {"id": backfill_id, "runner": runner}).mappings().one_or_none()
    if found is None:
        raise BackfillTakenOver(f"another process has taken over backfill {backfill_id}, and goes on with it")
    return _record(found)


def find(connection: Connection, backfill_id: int) -> BackfillRecord | None:
    """The backfill with the id, or None."""
    found = connection.execute(_ONE, {"id": backfill_id}).mappings().one_or_none()
    return None if found is None else _record(found)


def _record(columns: Mapping[Any, Any]) -> BackfillRecord:
    return BackfillRecord(**columns)


_UNFINISHED = text("""
    SELECT count(*) FROM (
        SELECT FROM captions
        WHERE (status = 'queued' OR lease_until IS NOT NULL OR (redo AND status = 'captioned'))
              AND status IN ('queued', 'running') AND priority = 2 AND bucket = :bucket
              AND id BETWEEN :first_id AND :last_id LIMIT :most) AS unfinished
""")
_STATUSES = text("""
    SELECT status, count(*) AS rows FROM captions
    WHERE id BETWEEN :first_id AND :last_id AND bucket = :bucket AND priority = 2 GROUP BY status
""")
# A gap of more than `idle_s` between two captions is no work: the workers had no rows.
_RATE = text("""
    WITH latest AS (
        SELECT captioned_at, split_part(claimed_by, '/', 1) AS worker FROM captions
        WHERE captioned_at IS NOT NULL ORDER BY captioned_at DESC LIMIT :most),
    gaps AS (SELECT EXTRACT(EPOCH FROM captioned_at - lag(captioned_at) OVER (ORDER BY captioned_at)) AS gap_s,
                    worker FROM latest)
    SELECT count(*) FILTER (WHERE gap_s <= :idle_s) AS captions,
           sum(gap_s) FILTER (WHERE gap_s <= :idle_s)::float8 AS busy_s, count(DISTINCT worker) AS workers
    FROM gaps
""")


@dataclass(frozen=True, slots=True)
class MeasuredRate:
    """The rate of the latest captions, without the idle times."""

    per_second: float
    #: Workers behind the captions.
    workers: int


def unfinished_rows(connection: Connection, backfill: BackfillRecord, bucket: str, most: int) -> int:
    """Unfinished rows of the backfill, `most` at most."""
    if backfill.first_id is None:
        return 0
    return int(connection.execute(_UNFINISHED, {**_ids(backfill, bucket), "most": most}).scalar_one())


def statuses(connection: Connection, backfill: BackfillRecord, bucket: str) -> dict[Status, int]:
    """The rows of the backfill by status; reads each row."""
    if backfill.first_id is None:
        return {}
    found = connection.execute(_STATUSES, _ids(backfill, bucket))
    return {Status(row.status): int(row.rows) for row in found}


def measured_rate(connection: Connection, *, most: int = 2000, idle_s: float = 10.0) -> MeasuredRate | None:
    """The rate at which the workers captioned the latest rows; None with fewer than ten captions."""
    row = connection.execute(_RATE, {"most": most, "idle_s": idle_s}).one()
    few = 10
    if row.captions < few or not row.busy_s:
        return None
    return MeasuredRate(row.captions / row.busy_s, max(1, int(row.workers)))


def _ids(backfill: BackfillRecord, bucket: str) -> dict[str, Any]:
    return {"first_id": backfill.first_id, "last_id": backfill.last_id, "bucket": bucket}

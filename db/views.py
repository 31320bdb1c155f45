"""What people and programs read: rows by name, counts, and what recovery must look at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from dropline.contract import Status

_STATUS_COUNTS = text("SELECT status, count(*) AS rows FROM captions GROUP BY status")
_FAILURES = text("""
    SELECT error_code, count(*) AS rows, max(error) AS example FROM captions
    WHERE status = 'failed' GROUP BY error_code ORDER BY rows DESC
""")
_OBJECT_ROWS = text("""
    SELECT * FROM captions WHERE bucket = :bucket AND object_name = :name
    AND (CAST(:generation AS bigint) IS NULL OR generation = :generation) ORDER BY generation DESC, id
""")
_ONE_ROW = text("SELECT * FROM captions WHERE id = :row_id")
_PACE = text("""
    SELECT (SELECT EXTRACT(EPOCH FROM now() - min(queued_at))::float8 FROM captions WHERE status = 'queued')
           AS oldest_queued_s,
           (SELECT count(*) FROM captions WHERE captioned_at > now() - make_interval(mins => :minutes))
           AS captioned
""")
_CHANGED_SINCE = text("""
    SELECT * FROM captions WHERE updated_at > :since ORDER BY updated_at, id LIMIT :most
""")
_FORGOTTEN = text("""
    SELECT id FROM captions
    WHERE status = 'queued' AND queued_at < now() AND id > :after AND NOT id = ANY(:known)
      AND (attempts = attempts_before_redrive OR updated_at < now() - make_interval(secs => :resting_s))
      AND (:whole_queue OR queued_at < (SELECT max(queued_at) FROM captions WHERE id = ANY(:known)))
    ORDER BY id LIMIT :batch
""")
_LEASED = text("""
    SELECT id, GREATEST(EXTRACT(EPOCH FROM lease_until - now()), 0)::float8 AS remaining_s FROM captions
    WHERE lease_until IS NOT NULL AND id > :after ORDER BY id LIMIT :batch
""")

_SINCE_CAPTION = text("""
    SELECT EXTRACT(EPOCH FROM clock_timestamp() - max(captioned_at))::float8 FROM captions
    WHERE captioned_at IS NOT NULL
""")
# Each half has a partial index.
_UNFINISHED = text("""
    SELECT EXISTS (SELECT FROM captions WHERE status = 'queued')
        OR EXISTS (SELECT FROM captions WHERE lease_until IS NOT NULL)
""")


@dataclass(frozen=True, slots=True)
class Leased:
    """A row somebody took and has not finished."""

    row_id: int
    #: Seconds until its lease runs out; 0 when it has.
    remaining_s: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How work flows."""

    #: Age of the oldest queued row, in seconds; None where nothing waits.
    oldest_queued_s: float | None
    captions_per_minute: float


def status_counts(connection: Connection) -> dict[Status, int]:
    """Rows per status; a status without rows is there with 0."""
    found = {Status(row.status): int(row.rows) for row in connection.execute(_STATUS_COUNTS)}
    return {status: found.get(status, 0) for status in Status}


def failures(connection: Connection) -> list[dict[str, Any]]:
    """Dead letters by reason: `error_code`, `rows`, `example`."""
    return [dict(row) for row in connection.execute(_FAILURES).mappings()]


def rows_of_object(
    connection: Connection, bucket: str, name: str, generation: int | None = None
) -> list[dict[str, Any]]:
    """All rows of an object, newest generation first."""
    values = {"bucket": bucket, "name": name, "generation": generation}
    return [dict(row) for row in connection.execute(_OBJECT_ROWS, values).mappings()]


def row(connection: Connection, row_id: int) -> dict[str, Any] | None:
    """One row, all columns."""
    found = connection.execute(_ONE_ROW, {"row_id": row_id}).mappings().one_or_none()
    return None if found is None else dict(found)


def pace(connection: Connection, minutes: int) -> Pace:
    """How work flows: captions per minute over the last `minutes`, and how long the oldest row has waited."""
    found = connection.execute(_PACE, {"minutes": minutes}).one()
    return Pace(found.oldest_queued_s, found.captioned / minutes)


def rows_changed_since(connection: Connection, since: datetime, most: int) -> list[dict[str, Any]]:
    """Rows changed after a moment, oldest change first. Reads the whole table: not to be called often."""
    values = {"since": since, "most": most}
    return [dict(row) for row in connection.execute(_CHANGED_SINCE, values).mappings()]


def forgotten_rows(
    connection: Connection, oldest: Sequence[int], *, whole_queue: bool, batch: int, resting_s: float = 0.0
) -> Iterator[list[int]]:
    """Ids of queued rows that are not on the broker, in batches of at most `batch`.

    Rows that came after the transaction began are left out: their messages are on the way.

    Args:
        oldest: rows of the oldest messages on the queue. A row that was queued before the youngest of them and is
            not among them cannot be behind them.
        whole_queue: whether `oldest` is all there is, so that every other queued row is missing.
        batch: rows per statement.
        resting_s: rows that were tried and put back within so many seconds are left out: their message waits, in a
            worker's hands, for its time to come.
    """
    after = 0
    known = {"known": list(oldest), "whole_queue": whole_queue, "batch": batch, "resting_s": resting_s}
    while True:
        values = known | {"after": after}
        ids = list(connection.execute(_FORGOTTEN, values).scalars())
        if not ids:
            return
        yield ids
        after = ids[-1]


def leased_rows(connection: Connection, batch: int) -> Iterator[list[Leased]]:
    """Rows somebody took and has not finished, with the time their lease still has, in batches."""
    after = 0
    while True:
        found = connection.execute(_LEASED, {"after": after, "batch": batch})
        rows = [Leased(row.id, float(row.remaining_s)) for row in found]
        if not rows:
            return
        yield rows
        after = rows[-1].row_id


def unfinished(connection: Connection) -> bool:
    """Whether any row waits for a worker, or is in the hands of one."""
    return bool(connection.execute(_UNFINISHED).scalar_one())


def seconds_since_caption(connection: Connection) -> float | None:
    """Seconds since any worker recorded a caption; None where none ever did."""
    found: float | None = connection.execute(_SINCE_CAPTION).scalar_one()
    return found

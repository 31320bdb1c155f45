"""Reads of changed rows, each with the snapshot of the read; each in a transaction of the caller.

`captions.changed_in` has the number of the transaction of a row's last notified change. A row has changed after a
snapshot if the snapshot does not see this transaction. The time of a change would not do: a transaction that began
earlier may be committed later.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from sqlalchemy import RowMapping, text

from db.models import EVERY_TASK
from db.reads import CaptionRecord
from db.session import Connection
from db.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows, and the snapshot of their read."""

    snapshot: Snapshot
    rows: list[CaptionRecord]


_NAMES = tuple(field.name for field in fields(CaptionRecord))
_COLUMNS = ", ".join(_NAMES)
_SNAPSHOT = text("SELECT pg_current_snapshot()::text")
# Numbers from xmax on are those of another server, from which the table was restored.
_BY_ID = text(f"""
    SELECT pg_current_snapshot()::text AS snapshot, found.* FROM (VALUES (1)) AS one
    LEFT JOIN (SELECT {_COLUMNS} FROM captions WHERE id = ANY(:ids)) AS found ON true
""")  # noqa: S608 - the names of fields
_AFTER = text(f"""
    SELECT pg_current_snapshot()::text AS snapshot, found.* FROM (VALUES (1)) AS one
    LEFT JOIN (
        SELECT * FROM (
            (SELECT {_COLUMNS} FROM captions
             WHERE changed_in >= :xmax AND changed_in < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
               AND task <> :every_task ORDER BY changed_in LIMIT :most)
            UNION ALL
            (SELECT {_COLUMNS} FROM captions
             WHERE changed_in = ANY(:running) AND task <> :every_task ORDER BY changed_in LIMIT :most)
        ) AS both_parts ORDER BY changed_in, id LIMIT :most
    ) AS found ON true ORDER BY found.changed_in, found.id
""")  # noqa: S608


def current_snapshot(connection: Connection) -> Snapshot:
    """The transactions visible at the moment."""
    return Snapshot.parse(connection.execute(_SNAPSHOT).scalar_one())


def rows_by_id(connection: Connection, ids: Iterable[int]) -> Changes:
    """The present state of rows, in any order; a number without a row is left out."""
    return _changes(connection.execute(_BY_ID, {"ids": list(ids)}).mappings().all())


def rows_changed_after(connection: Connection, since: Snapshot, most: int) -> Changes:
    """The present state of at most `most` rows with a change after a snapshot, the first change first.

    Tombstones are left out. Two ranges of an index are read.
    """
    values = {
        "xmax": since.xmax,
        "running": sorted(since.running),
        "every_task": EVERY_TASK,
        "most": most,
    }
    return _changes(connection.execute(_AFTER, values).mappings().all())


def _changes(rows: Sequence[RowMapping]) -> Changes:
    """Every row has the snapshot; a single row without an id means: no row was found."""
    records = [
        CaptionRecord.from_columns({name: row[name] for name in _NAMES}) for row in rows if row["id"] is not None
    ]
    return Changes(Snapshot.parse(rows[0]["snapshot"]), records)

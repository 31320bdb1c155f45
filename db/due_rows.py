"""The due rows, and the time of the next row, as each statement of the queue reads them.

A row is unfinished while it is queued, leased or to be captioned again. An unfinished row is due from the end of
the lease, else from the not-before time, else from the time in the queue. Due rows are claimed in the order
of the priority numbers, then of the times. So a dead worker's row is due without any message.

All times are from the clock of Postgres, so the clocks of the workers may differ.
"""

import functools
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, TextClause, text

from db.session import Connection


@dataclass(frozen=True, slots=True)
class Due:
    """The other unfinished rows, at the time of a statement."""

    #: A due row, the most urgent first; a hint for the next message.
    row_ids: tuple[int, ...] = ()
    #: Seconds until the next row is due; None if no row waits for a time.
    next_in_s: float | None = None


# Both are of the index ix_captions_due.
UNFINISHED = "(status = 'queued' OR lease_until IS NOT NULL OR (redo AND status = 'captioned'))"
DUE_AT = "COALESCE(lease_until, not_before, queued_at)"
_PRIORITIES = (0, 1, 2)
#: True for a row without a caption; false for a row without its write-back.
NEEDS_ATTEMPT = "(status <> 'captioned' OR redo)"


def _due(priority: int) -> str:
    """Condition on the due rows of a priority: a single probe of the index."""
    return f"{UNFINISHED} AND priority = {priority} AND {DUE_AT} <= now()"


def first_due(priority: int, rest: str, columns: str = "id") -> str:
    """The longest waiting due row of a priority."""
    return f"(SELECT {columns} FROM captions WHERE {_due(priority)} {rest})"


def _first_at(priority: int) -> str:
    """The earliest time at which a row of a priority is due."""
    return (
        f"(SELECT {DUE_AT} FROM captions WHERE {UNFINISHED} AND priority = {priority} ORDER BY {DUE_AT} LIMIT 1)"
    )


def others(other: str, most: int = 1) -> str:
    """CTEs: the due rows, and the next time at which a row is due, without the own rows.

    The limit is a part of the text: with a parameter, Postgres plans the statement anew for each call, since the
    plan for any limit looks costly in a large table.

    Args:
        other: the condition on the rows of others.
        most: due rows.
    """
    due = " UNION ALL ".join(
        first_due(each, f"AND {other} ORDER BY {DUE_AT} LIMIT {most}") for each in _PRIORITIES
    )
    later = " UNION ALL ".join(
        f"(SELECT {DUE_AT} AS at FROM captions WHERE {UNFINISHED} AND priority = {each} AND {DUE_AT} > now() "
        f"AND {other} ORDER BY {DUE_AT} LIMIT 1)"
        for each in _PRIORITIES
    )
    return f"other_due AS ({due} LIMIT {most}), later AS ({later})"


OTHERS = """ARRAY(SELECT id FROM other_due) AS other_ids,
       (SELECT EXTRACT(EPOCH FROM min(at) - now())::float8 FROM later) AS next_in_s"""


@functools.cache
def _look(most: int) -> TextClause:
    return text(f"WITH {others('true', most)} SELECT {OTHERS}")


def look(connection: Connection, most: int) -> Due:
    """The due rows, `most` at most and the most urgent first, and the time of the next row."""
    return due_of(connection.execute(_look(most)).one())


_OLDEST = text(f"""
    SELECT EXTRACT(EPOCH FROM now() - min(at))::float8
    FROM ({" UNION ALL ".join(f"SELECT {_first_at(each)} AS at" for each in _PRIORITIES)}) AS first
    WHERE at <= now()
""")


def oldest_s(connection: Connection) -> float:
    """Seconds for which the row that is due for longest has been due; 0 if no row is due."""
    found: float | None = connection.execute(_OLDEST).scalar_one()
    return found or 0.0


_REST = text(f"""
    SELECT CASE WHEN min(at) <= now() THEN 0
                WHEN EXISTS (SELECT FROM captions WHERE lease_until > now() AND claimed_by IS NOT NULL) THEN 0
                ELSE EXTRACT(EPOCH FROM min(at) - now())::float8 END AS due_in_s
    FROM ({" UNION ALL ".join(f"SELECT {_first_at(each)} AS at" for each in _PRIORITIES)}) AS first
""")


def rest(connection: Connection) -> float | None:
    """Seconds until the first unfinished row is due: 0 if a row is due or at work, None if none is unfinished."""
    found: float | None = connection.execute(_REST).scalar_one()
    return found


def due_of(row: Row[Any]) -> Due:
    return Due(tuple(row.other_ids), row.next_in_s)


def with_time(others: Due, delay_s: float | None) -> Due:
    """The rows, and the time of another row."""
    times = [each for each in (others.next_in_s, delay_s) if each is not None]
    return Due(others.row_ids, min(times, default=None))

"""Rows that were given up: counted by reason, sent again when a person says so, put back where that did not work.

`db.dead_letters` and `db.unwritten` say which rows these are. As in `db.queries`, each statement is guarded in SQL
and runs in a transaction of the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    DateTime,
    Select,
    Text,
    Values,
    and_,
    cast,
    column,
    exists,
    func,
    or_,
    select,
    text,
    update,
    values,
)
from sqlalchemy.orm import aliased

from db.models import CaptionRow
from dropline.contract import Status

_MOMENT = DateTime(timezone=True)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of the rows are meant: those that pass every filter; an empty filter lets all pass."""

    #: Bucket and name, and a generation or None for all of them.
    objects: tuple[tuple[str, str, int | None], ...] = ()
    error_codes: tuple[str, ...] = ()
    bucket: str = ""
    prefix: str = ""
    #: Given up at this moment or later.
    since: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As SQL, on `captions`."""
        found: list[ColumnElement[bool]] = []
        if self.objects:
            found.append(or_(*(_is_object(*each) for each in self.objects)))
        if self.error_codes:
            found.append(CaptionRow.error_code.in_(self.error_codes))
        if self.bucket:
            found.append(CaptionRow.bucket == self.bucket)
        if self.prefix:
            found.append(func.starts_with(CaptionRow.object_name, self.prefix))
        if self.since is not None:
            # Nothing changes a row that was given up but its redrive or its end.
            found.append(CaptionRow.updated_at >= self.since)
        return found


@dataclass(frozen=True, slots=True)
class Redriven:
    """A row that waits for a worker again, and why it had been given up."""

    row_id: int
    #: Claims so far: once there are more, a worker has taken the row.
    attempts: int
    #: The lease that a row waits with, if any: once it is another, a worker has taken the row.
    lease_until: datetime | None
    error_code: str
    error: str


@dataclass(frozen=True, slots=True, eq=False)
class Redrivable:
    """One kind of rows, and what a redrive does to them."""

    status: Status
    #: What a row of this status is, too, to be one of them.
    condition: ColumnElement[bool]
    #: Error codes of rows that are not sent again.
    never: tuple[str, ...]
    #: The status with which they wait for a worker.
    waiting: Status
    #: What makes a row wait, by column.
    changes: Mapping[str, Any]

    def count(self, connection: Connection, wanted: Wanted) -> dict[str, int]:
        """Rows of this kind by error code."""
        return _counts(connection, select(CaptionRow.error_code).where(*self._are(wanted)))

    def count_redrivable(self, connection: Connection, wanted: Wanted, limit: int | None) -> dict[str, int]:
        """What a redrive would take, by error code."""
        return _counts(connection, self._redrivable(wanted, 0, limit).with_only_columns(CaptionRow.error_code))

    def redrive(self, connection: Connection, wanted: Wanted, after: int, limit: int) -> list[Redriven]:
        """Let the next rows with an id above `after`, at most `limit`, wait for a worker; none is left: [].

        In the order of their ids. Rows that somebody else is changing this moment are left out. The number of
        attempts stays, for it is the fencing token: what an attempt of the row's earlier life may still have to
        say is refused.
        """
        picked = self._redrivable(wanted, after, limit).with_for_update(skip_locked=True).cte("picked")
        statement = (
            update(CaptionRow)
            .where(CaptionRow.id == picked.c.id)
            .values(**self.changes, status=self.waiting, updated_at=func.now())
            .returning(
                CaptionRow.id,
                CaptionRow.attempts,
                CaptionRow.lease_until,
                picked.c.error_code,
                picked.c.error,
            )
        )
        rows = [Redriven(*row) for row in connection.execute(statement)]
        return sorted(rows, key=lambda row: row.row_id)

    def put_back(self, connection: Connection, rows: Sequence[Redriven]) -> set[int]:
        """Give up again those that no worker has taken; returns their ids.

        A message about such a row finds nothing to do.
        """
        if not rows:
            return set()
        sent = _as_values(rows)
        statement = (
            update(CaptionRow)
            .where(
                CaptionRow.id == sent.c.id,
                CaptionRow.attempts == sent.c.attempts,
                # Where no row has a lease, the column is nothing but NULL, and Postgres takes it for text.
                CaptionRow.lease_until.is_not_distinct_from(cast(sent.c.lease_until, _MOMENT)),
                CaptionRow.status == self.waiting,
            )
            .values(
                status=self.status,
                lease_until=None,
                error_code=sent.c.error_code,
                error=sent.c.error,
                updated_at=func.now(),
            )
            .returning(CaptionRow.id)
        )
        return set(connection.execute(statement).scalars())

    def _are(self, wanted: Wanted) -> list[ColumnElement[bool]]:
        return [CaptionRow.status == self.status, self.condition, *wanted.conditions()]

    def _redrivable(self, wanted: Wanted, after: int, limit: int | None) -> Select[int, str | None, str | None]:
        return (
            select(CaptionRow.id, CaptionRow.error_code, CaptionRow.error)
            .where(
                *self._are(wanted),
                CaptionRow.error_code.not_in(self.never),
                CaptionRow.id > after,
                ~_has_a_newer_generation(),
            )
            .order_by(CaptionRow.id)
            .limit(limit)
        )


def _as_values(rows: Sequence[Redriven]) -> Values:
    return values(
        column("id", BigInteger),
        column("attempts", BigInteger),
        column("lease_until", _MOMENT),
        column("error_code", Text),
        column("error", Text),
        name="sent",
    ).data([(row.row_id, row.attempts, row.lease_until, row.error_code, row.error) for row in rows])


def _has_a_newer_generation() -> ColumnElement[bool]:
    """In a bucket with versions the old one is still there, and nobody would see its caption."""
    newer = aliased(CaptionRow)
    return exists().where(
        newer.bucket == CaptionRow.bucket,
        newer.object_name == CaptionRow.object_name,
        newer.generation > CaptionRow.generation,
        newer.status != Status.DELETED,
    )


def _counts(connection: Connection, codes: Select[Any]) -> dict[str, int]:
    found = codes.subquery()
    statement = (
        select(found.c.error_code, func.count().label("rows"))
        .group_by(found.c.error_code)
        .order_by(text("rows DESC"), found.c.error_code)
    )
    return {row.error_code: int(row.rows) for row in connection.execute(statement)}


def _is_object(bucket: str, name: str, generation: int | None) -> ColumnElement[bool]:
    same = and_(CaptionRow.bucket == bucket, CaptionRow.object_name == name)
    return same if generation is None else and_(same, CaptionRow.generation == generation)

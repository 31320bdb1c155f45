"""Dead letters: rows that are `failed`, counted by reason, sent again, and put back where that did not work.

As in `db.queries`, each statement is guarded in SQL and runs in a transaction of the caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
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
from sqlalchemy.sql.selectable import CTE

from db.models import CaptionRow
from dropline.contract import Status

#: The object asks for a task that cannot be met, so its row holds another one: sent again, the row would get a
#: caption that nobody asked for.
NEVER_REDRIVEN = ("invalid_task",)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters are meant: those that pass every filter; an empty filter lets all pass."""

    #: Bucket and name, and a generation or None for all of them.
    objects: tuple[tuple[str, str, int | None], ...] = ()
    error_codes: tuple[str, ...] = ()
    bucket: str = ""
    prefix: str = ""
    #: Failed at this moment or later.
    since: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As SQL, on `captions`."""
        found: list[ColumnElement[bool]] = [CaptionRow.status == Status.FAILED]
        if self.objects:
            found.append(or_(*(_is_object(*each) for each in self.objects)))
        if self.error_codes:
            found.append(CaptionRow.error_code.in_(self.error_codes))
        if self.bucket:
            found.append(CaptionRow.bucket == self.bucket)
        if self.prefix:
            found.append(func.starts_with(CaptionRow.object_name, self.prefix))
        if self.since is not None:
            # Nothing changes a failed row but its redrive or its end.
            found.append(CaptionRow.updated_at >= self.since)
        return found


@dataclass(frozen=True, slots=True)
class Redriven:
    """A row that waits for a worker again, and why it had failed."""

    row_id: int
    #: Claims so far: once there are more, a worker has taken the row.
    attempts: int
    error_code: str
    error: str


def count(connection: Connection, wanted: Wanted) -> dict[str, int]:
    """Dead letters by error code."""
    return _counts(connection, select(CaptionRow.error_code).where(*wanted.conditions()))


def count_redrivable(connection: Connection, wanted: Wanted, limit: int | None) -> dict[str, int]:
    """What a redrive would take, by error code."""
    return _counts(connection, _redrivable(wanted, 0, limit).with_only_columns(CaptionRow.error_code))


def redrive(connection: Connection, wanted: Wanted, after: int, limit: int) -> list[Redriven]:
    """Queue the next rows with an id above `after`, at most `limit`, in the order of their ids; none is left: [].

    Rows that somebody else is changing this moment are left out. The number of attempts stays, for it is the
    fencing token: what an attempt of the row's earlier life may still have to say is refused.
    """
    picked = _redrivable(wanted, after, limit).with_for_update(skip_locked=True).cte("picked")
    return sorted(_redriven(connection, picked), key=lambda row: row.row_id)


def _redriven(connection: Connection, picked: CTE) -> list[Redriven]:
    statement = (
        update(CaptionRow)
        .where(CaptionRow.id == picked.c.id)
        .values(
            status=Status.QUEUED,
            error_code=None,
            error=None,
            lost_attempts=0,
            attempts_before_redrive=CaptionRow.attempts,
            queued_at=func.now(),
            updated_at=func.now(),
        )
        .returning(CaptionRow.id, CaptionRow.attempts, picked.c.error_code, picked.c.error)
    )
    return [Redriven(*row) for row in connection.execute(statement)]


def put_back(connection: Connection, rows: Sequence[Redriven]) -> set[int]:
    """Make dead letters again of those that no worker has taken; returns their ids.

    A message about such a row finds nothing to do.
    """
    if not rows:
        return set()
    before = (
        values(
            column("id", BigInteger), column("attempts", BigInteger), column("code", Text), column("error", Text)
        )
        .data([(row.row_id, row.attempts, row.error_code, row.error) for row in rows])
        .alias("before")
    )
    statement = (
        update(CaptionRow)
        .where(
            CaptionRow.id == before.c.id,
            CaptionRow.attempts == before.c.attempts,
            CaptionRow.status == Status.QUEUED,
        )
        .values(status=Status.FAILED, error_code=before.c.code, error=before.c.error, updated_at=func.now())
        .returning(CaptionRow.id)
    )
    return set(connection.execute(statement).scalars())


def _redrivable(wanted: Wanted, after: int, limit: int | None) -> Select[int, str | None, str | None]:
    return (
        select(CaptionRow.id, CaptionRow.error_code, CaptionRow.error)
        .where(
            *wanted.conditions(),
            CaptionRow.error_code.not_in(NEVER_REDRIVEN),
            CaptionRow.id > after,
            ~_has_a_newer_generation(),
        )
        .order_by(CaptionRow.id)
        .limit(limit)
    )


def _has_a_newer_generation() -> ColumnElement[bool]:
    """In a bucket with versions the old one is still there, and would be captioned for nobody."""
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

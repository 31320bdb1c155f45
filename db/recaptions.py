"""Rows captioned again, and rows of a further task: many in one statement, before the bulk rows.

A pass reads the table in windows of ids, so that no statement is long in a large table or with a rare
filter. Each function takes a connection in a transaction of the caller.
"""

import enum
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    and_,
    case,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased

from db.caption_filter import CaptionFilter, has_newer_generation
from db.models import CaptionRow
from db.session import Connection
from dropline.contract import Status, TaskRequest

#: Priority of redone rows and of rows of a further task: behind fresh drops, before bulk rows.
PRIORITY = 1


class Kind(enum.StrEnum):
    """The treatment of a row that passes the filter."""

    #: The row is to be captioned again, or gets a row of the further task.
    TAKEN = "taken"
    #: Made by the target's model and revision.
    CURRENT = "current"
    #: Is to be redone already, or its write-back is not finished.
    PENDING = "pending"
    #: The latest redo was given up.
    FAILED_BEFORE = "failed_before"
    #: The caption is a person's; no option takes it.
    EDITED = "edited"
    #: The object has a newer generation.
    OVERWRITTEN = "overwritten"
    #: The object version has a row of the further task.
    EXISTING = "existing"


@dataclass(frozen=True, slots=True)
class Target:
    """The model of captions left as they are."""

    model: str
    #: None: any revision.
    revision: str | None

    def condition(self) -> ColumnElement[bool]:
        """Whether the caption is of the target, as SQL on `captions`."""
        is_of_model = CaptionRow.model == self.model
        if self.revision is None:
            return is_of_model
        return and_(is_of_model, CaptionRow.model_revision.is_not_distinct_from(self.revision))


class Work(Protocol):
    """The work of a pass, for one window of ids: above `after`, up to `last`."""

    def count(self, connection: Connection, after: int, last: int) -> Counter[Kind]:
        """The numbers of rows that pass the filter."""

    def take(self, connection: Connection, after: int, last: int, limit: int) -> "Taken":
        """Take at most `limit` rows that pass the filter, in the order of ids.

        Rows locked by another transaction are left out.
        """


@dataclass(frozen=True, slots=True)
class Taken:
    """One batch."""

    #: Rows that are due now.
    row_ids: tuple[int, ...]
    #: The last id picked; None: no row is left in the window.
    last_id: int | None


@dataclass(frozen=True, slots=True)
class Redo:
    """Captioned rows are captioned again; status and caption stay until the new caption is recorded."""

    row_filter: CaptionFilter
    #: None: captions of every model are redone.
    target: Target | None
    #: Rows whose latest redo was given up are taken, too.
    retry_failed: bool = False

    def count(self, connection: Connection, after: int, last: int) -> Counter[Kind]:
        """See `Work`."""
        return _counts(connection, self._kind(), self._conditions(after, last))

    def take(self, connection: Connection, after: int, last: int, limit: int) -> Taken:
        """See `Work`. The number of attempts is kept: by this fencing token, late results are refused."""
        picked = (
            select(CaptionRow.id)
            .where(*self._conditions(after, last), self._kind() == Kind.TAKEN)
            .order_by(CaptionRow.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("picked")
        )
        statement = (
            update(CaptionRow).where(CaptionRow.id == picked.c.id).values(**_REDONE).returning(CaptionRow.id)
        )
        row_ids = connection.execute(statement).scalars().all()
        return _taken(row_ids, row_ids)

    def _conditions(self, after: int, last: int) -> list[ColumnElement[bool]]:
        row_filter = replace(self.row_filter, statuses=(Status.CAPTIONED,))
        return [*row_filter.conditions(), *_window(after, last)]

    def _kind(self) -> ColumnElement[str]:
        return _first_of(
            (CaptionRow.edited_by.is_not(None), Kind.EDITED),
            (or_(CaptionRow.redo, CaptionRow.lease_until.is_not(None)), Kind.PENDING),
            *([] if self.target is None else [(self.target.condition(), Kind.CURRENT)]),
            *([] if self.retry_failed else [(CaptionRow.redo_failed_at.is_not(None), Kind.FAILED_BEFORE)]),
            (has_newer_generation(live_only=True), Kind.OVERWRITTEN),
        )


_REDONE: dict[str, Any] = {
    "redo": True,
    "priority": PRIORITY,
    "queued_at": func.now(),
    "not_before": None,
    "failing_since": None,
    "lease_until": None,
    "lost_attempts": 0,
    "slow_attempts": 0,
    "attempts_before_redrive": CaptionRow.attempts,
    "redo_failed_at": None,
    "updated_at": func.now(),
}


@dataclass(frozen=True, slots=True)
class AddTask:
    """The object versions of the rows get a row of a further task, whose caption is in Postgres alone."""

    row_filter: CaptionFilter
    task: TaskRequest
    #: `count` counts an object version at its first row alone, as a whole pass takes it.
    counts_objects: bool = False

    def count(self, connection: Connection, after: int, last: int) -> Counter[Kind]:
        """See `Work`."""
        conditions = self._conditions(after, last)
        if self.counts_objects:
            conditions.append(self._is_first_of_object())
        return _counts(connection, self._kind(), conditions)

    def take(self, connection: Connection, after: int, last: int, limit: int) -> Taken:
        """See `Work`. The rules for a new row are those of a request for a further task."""
        connection.execute(select(func.set_config("dropline.priority", str(PRIORITY), true())))
        picked = (
            select(CaptionRow)
            .where(*self._conditions(after, last), self._kind() == Kind.TAKEN)
            .order_by(CaptionRow.id)
            .limit(limit)
            .subquery()
        )
        # The order of names, as of bulk rows: of two such statements, one waits for the other.
        row = select(picked).order_by(picked.c.object_name.collate("C")).offset(0).subquery().c
        registered = func.register_caption(
            *(row.bucket, row.object_name, row.generation, str(self.task), Status.QUEUED.value),
            *(null(), null(), false(), row.content_type, row.size_bytes, row.md5_hash, row.crc32c),
            *(row.event_time, row.metageneration, row.metadata_bytes),
        )
        found = connection.execute(select(row.id, func.to_jsonb(registered, type_=JSONB).label("new"))).all()
        new = [each.new for each in found if each.new["is_created"] and each.new["row_status"] == Status.QUEUED]
        return _taken((each["row_id"] for each in new), (each.id for each in found))

    def _conditions(self, after: int, last: int) -> list[ColumnElement[bool]]:
        return [*self._live_rows().conditions(), *_window(after, last)]

    def _live_rows(self) -> CaptionFilter:
        return replace(self.row_filter, statuses=self.row_filter.statuses or (Status.CAPTIONED,))

    def _is_first_of_object(self) -> ColumnElement[bool]:
        """Whether no row of the object version with a smaller id passes the filter."""
        earlier = aliased(CaptionRow)
        same_object = select(earlier.id).where(
            earlier.bucket == CaptionRow.bucket,
            earlier.object_name == CaptionRow.object_name,
            earlier.generation == CaptionRow.generation,
            earlier.id < CaptionRow.id,
            *self._live_rows().conditions(earlier),
        )
        return not_(same_object.correlate(CaptionRow).offset(0).exists())

    def _kind(self) -> ColumnElement[str]:
        other = aliased(CaptionRow)
        existing = select(other.id).where(
            other.bucket == CaptionRow.bucket,
            other.object_name == CaptionRow.object_name,
            other.generation == CaptionRow.generation,
            other.task == str(self.task),
        )
        return _first_of(
            # OFFSET: a probe of an index for each row, and no hash of the whole table.
            (existing.correlate(CaptionRow).offset(0).exists(), Kind.EXISTING),
            (has_newer_generation(live_only=True), Kind.OVERWRITTEN),
        )


def last_id(connection: Connection) -> int:
    """The largest id of the table; 0 without rows."""
    return int(connection.execute(select(func.coalesce(func.max(CaptionRow.id), 0))).scalar_one())


def plan_each(connection: Connection) -> None:
    """Have Postgres plan each statement of the transaction for its own window and filter."""
    connection.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))


_UNFINISHED = text("""
    SELECT id FROM captions WHERE id = ANY(:ids)
    AND (status IN ('queued', 'running') OR (status = 'captioned' AND redo))
""")
_ENDS = text("""
    SELECT CASE WHEN status = 'captioned' AND redo_failed_at IS NULL THEN 'captioned'
                WHEN status IN ('captioned', 'failed') THEN COALESCE(error_code, 'failed') ELSE status END AS how,
           count(*) AS rows
    FROM captions WHERE id = ANY(:ids) GROUP BY 1 ORDER BY 2 DESC, 1
""")


def unfinished(connection: Connection, row_ids: Collection[int]) -> set[int]:
    """The rows among `row_ids` that wait for a caption, or for a new one."""
    return set(connection.execute(_UNFINISHED, {"ids": list(row_ids)}).scalars())


def ends(connection: Connection, row_ids: Collection[int]) -> dict[str, int]:
    """How taken rows have ended: the numbers of rows `captioned`, by error code, `superseded` and `deleted`."""
    return {row.how: int(row.rows) for row in connection.execute(_ENDS, {"ids": list(row_ids)})}


def _window(after: int, last: int) -> list[ColumnElement[bool]]:
    return [CaptionRow.id > after, CaptionRow.id <= last]


def _first_of(*kinds: tuple[ColumnElement[bool], Kind]) -> ColumnElement[str]:
    """The kind of the first condition a row meets, else `Kind.TAKEN`."""
    return case(*((condition, literal(kind.value)) for condition, kind in kinds), else_=literal(Kind.TAKEN.value))


def _counts(
    connection: Connection, kind: ColumnElement[str], conditions: list[ColumnElement[bool]]
) -> Counter[Kind]:
    kinds = select(kind.label("kind")).where(*conditions).subquery()
    statement = select(kinds.c.kind, func.count().label("rows")).group_by(kinds.c.kind)
    return Counter({Kind(row.kind): int(row.rows) for row in connection.execute(statement)})


def _taken(row_ids: Iterable[int], picked: Iterable[int]) -> Taken:
    return Taken(tuple(sorted(row_ids)), max(picked, default=None))

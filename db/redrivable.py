"""Redrive: rows that the workers gave up are counted by error code, and sent to the workers again.

The two kinds of such rows are `FAILED_ROWS` and `UNWRITTEN_ROWS`. As in `db.object_rows`, each statement is
guarded in SQL and runs in a transaction of the caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    func,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import aliased

from db.caption_filter import CaptionFilter, has_newer_generation
from db.models import CaptionRow
from db.reads import MOST_COUNTED
from db.session import Connection
from dropline.contract import Status


@dataclass(frozen=True, slots=True)
class RowFilter:
    """A row passes if every condition is met; an empty condition lets all rows pass."""

    #: Bucket, object name, and generation; None: all generations.
    objects: tuple[tuple[str, str, int | None], ...] = ()
    error_codes: tuple[str, ...] = ()
    bucket: str = ""
    prefix: str = ""
    #: Given up at this time or later.
    since: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions as SQL on `captions`."""
        found = CaptionFilter(self.objects, self.bucket, self.prefix).conditions()
        if self.error_codes:
            found.append(CaptionRow.error_code.in_(self.error_codes))
        if self.since is not None:
            # Only a redrive, an overwrite or a deletion changes such a row.
            found.append(CaptionRow.updated_at >= self.since)
        return found


@dataclass(frozen=True, slots=True)
class RedrivenRow:
    """A redriven row."""

    row_id: int
    #: From before the redrive.
    error_code: str


@dataclass(frozen=True, slots=True, eq=False)
class Redrivable:
    """One kind of rows, and the effect of a redrive on them."""

    status: Status
    #: A further condition on rows of this status.
    condition: ColumnElement[bool]
    #: Error codes of rows that are not redriven.
    excluded_codes: tuple[str, ...]
    #: The status after the redrive.
    redriven_status: Status
    #: Other values set by the redrive, by column.
    changes: Mapping[str, Any]

    def count(self, connection: Connection, row_filter: RowFilter) -> dict[str, int]:
        """The number of rows of this kind by error code; `MOST_COUNTED` rows are counted at most."""
        found = select(CaptionRow.error_code).where(*self._conditions(row_filter))
        return _counts(connection, found.limit(MOST_COUNTED))

    def count_redrivable(self, connection: Connection, row_filter: RowFilter, limit: int | None) -> dict[str, int]:
        """The number of rows that a redrive of `limit` rows would change, by error code, as `count` does."""
        most = MOST_COUNTED if limit is None else min(limit, MOST_COUNTED)
        return _counts(connection, self._redrivable(row_filter, 0, most).with_only_columns(CaptionRow.error_code))

    def redrive(self, connection: Connection, row_filter: RowFilter, after: int, limit: int) -> list[RedrivenRow]:
        """Redrive at most `limit` rows with an id above `after`, in the order of their ids; [] if no row is left.

        Rows locked by another transaction are left out. The number of attempts is kept: by this fencing token,
        late results of attempts from before the redrive are refused.
        """
        picked = self._redrivable(row_filter, after, limit).with_for_update(skip_locked=True).cte("picked")
        statement = (
            update(CaptionRow)
            .where(CaptionRow.id == picked.c.id)
            .values(**self.changes, status=self.redriven_status, updated_at=func.now())
            .returning(CaptionRow.id, picked.c.error_code)
        )
        rows = [RedrivenRow(*row) for row in connection.execute(statement)]
        return sorted(rows, key=lambda row: row.row_id)

    def _conditions(self, row_filter: RowFilter) -> list[ColumnElement[bool]]:
        return [CaptionRow.status == self.status, self.condition, *row_filter.conditions()]

    def _redrivable(
        self, row_filter: RowFilter, after: int, limit: int | None
    ) -> Select[int, str | None, str | None]:
        return (
            select(CaptionRow.id, CaptionRow.error_code, CaptionRow.error)
            .where(
                *self._conditions(row_filter),
                CaptionRow.error_code.not_in(self.excluded_codes),
                CaptionRow.id > after,
                # Object versioning keeps an overwritten generation, but no reader needs its caption.
                ~has_newer_generation(live_only=True),
            )
            .order_by(CaptionRow.id)
            .limit(limit)
        )


def _counts(connection: Connection, codes: Select[Any]) -> dict[str, int]:
    found = codes.subquery()
    statement = (
        select(found.c.error_code, func.count().label("rows"))
        .group_by(found.c.error_code)
        .order_by(text("rows DESC"), found.c.error_code)
    )
    return {row.error_code: int(row.rows) for row in connection.execute(statement)}


#: Rows with status `failed`. A redriven row is `queued` and has all its retries again.
FAILED_ROWS = Redrivable(
    status=Status.FAILED,
    condition=true(),
    # The requested task is invalid, so the row has the default task: a redrive would record the caption of a task
    # that was never requested.
    excluded_codes=("invalid_task",),
    redriven_status=Status.QUEUED,
    changes={
        "error_code": None,
        "error": None,
        "lost_attempts": 0,
        "slow_attempts": 0,
        "attempts_before_redrive": CaptionRow.attempts,
        "queued_at": func.now(),
        "not_before": None,
        "failing_since": None,
    },
)


def _has_a_later_caption() -> ColumnElement[bool]:
    """True if another row written back was captioned later: the metadata must keep the later caption.

    Only rows from before revision 0004: since then, one row of a generation is written back.
    """
    other = aliased(CaptionRow)
    later = select(other.id).where(
        other.bucket == CaptionRow.bucket,
        other.object_name == CaptionRow.object_name,
        other.generation == CaptionRow.generation,
        other.status == Status.CAPTIONED,
        other.captioned_at > CaptionRow.captioned_at,
        other.write_back,
    )
    # OFFSET: a probe of an index for each row, and no join with the whole table.
    return later.offset(0).exists()


#: Rows with status `captioned` whose write-back failed for good, with the reason in `error_code`. A redriven row
#: has an expired lease, so a worker repeats the write-back alone. The row keeps its error until that succeeds.
UNWRITTEN_ROWS = Redrivable(
    status=Status.CAPTIONED,
    # No error code: no write-back was requested (`DROPLINE_METADATA__WRITE`). A lease: the write-back is pending.
    # To be redone: the write-back follows the new caption. A failed redo: the error is not that of a write-back.
    condition=and_(
        CaptionRow.error_code.is_not(None),
        CaptionRow.metadata_written_at.is_(None),
        CaptionRow.lease_until.is_(None),
        ~CaptionRow.redo,
        CaptionRow.redo_failed_at.is_(None),
        ~_has_a_later_caption(),
    ),
    # A deleted generation does not come back.
    excluded_codes=("object_gone",),
    redriven_status=Status.CAPTIONED,
    changes={"lease_until": func.now(), "failing_since": None},
)

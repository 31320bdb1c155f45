"""Rows for exports: in the order of the ids, in parts, in constant memory and without a long transaction.

Each part is a short separate transaction, so a slow reader holds no row in Postgres. An export has the rows
of the start, each as of the read of the part: no snapshot of a single moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, text

from db.caption_filter import CaptionFilter, has_newer_generation
from db.models import CaptionRow
from db.reads import CaptionRecord
from db.session import Connection, Database

#: Most rows of a part.
PART = 1_000
#: Ids of a statement: some tens of milliseconds, however few of the rows pass the filter.
SPAN = 50_000
#: Rows with ids read first, by the index of a filter.
_FEW = 10_000
_COLUMNS = [getattr(CaptionRow, name) for name in CaptionRecord.__dataclass_fields__]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of an export."""

    row_filter: CaptionFilter
    #: Also rows of overwritten generations.
    every_generation: bool = False

    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions as SQL on `captions`."""
        found = self.row_filter.conditions()
        return found if self.every_generation else [*found, ~has_newer_generation()]

    @property
    def has_index(self) -> bool:
        """Whether the filter names few rows, perhaps, and has an index."""
        return bool(self.row_filter.prefix or self.row_filter.objects)


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows, in the order of the ids."""

    rows: list[CaptionRecord]
    #: All rows up to the id are read.
    done: int


def last_id(database: Database) -> int:
    """The largest id of the table; 0 for an empty table."""
    with database.transaction() as connection:
        return connection.execute(select(func.max(CaptionRow.id))).scalar_one() or 0


def parts(database: Database, chosen: Chosen, after: int, last: int) -> Iterator[Part]:
    """The rows with ids above `after`, up to `last`; each part in a separate transaction.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    few = None
    if chosen.has_index:
        with database.transaction() as connection:
            few = few_ids(connection, chosen, after, last)
    if few is not None:
        for start in range(0, len(few), PART):
            with database.transaction() as connection:
                part = read_few(connection, chosen, few[start : start + PART])
            yield part
        return
    while after < last:
        with database.transaction() as connection:
            part = read_part(connection, chosen, after, min(after + SPAN, last))
        after = part.done
        yield part


def few_ids(connection: Connection, chosen: Chosen, after: int, last: int) -> list[int] | None:
    """The ids of all rows found by the index of the filter; None for more than some thousands.

    The other conditions are left to `read_few`: before a limit, all rows of a broad prefix would be read.
    """
    connection.execute(text("SELECT set_config('enable_seqscan', 'off', true)"))
    indexed = CaptionFilter(objects=chosen.row_filter.objects, prefix=chosen.row_filter.prefix)
    wanted = select(CaptionRow.id).where(*indexed.conditions()).limit(_FEW + 1)
    found = connection.execute(wanted).scalars().all()
    return sorted(each for each in found if after < each <= last) if len(found) <= _FEW else None


def read_few(connection: Connection, chosen: Chosen, ids: list[int]) -> Part:
    """The rows of some ids, if still a match."""
    wanted = select(*_COLUMNS).where(CaptionRow.id.in_(ids), *chosen.conditions()).order_by(CaptionRow.id)
    return Part([CaptionRecord.from_columns(row) for row in connection.execute(wanted).mappings()], ids[-1])


def read_part(connection: Connection, chosen: Chosen, after: int, last: int) -> Part:
    """At most `PART` rows with ids above `after`, up to `last`."""
    wanted = select(*_COLUMNS).where(CaptionRow.id > after, CaptionRow.id <= last, *chosen.conditions())
    found = connection.execute(wanted.order_by(CaptionRow.id).limit(PART)).mappings().all()
    rows = [CaptionRecord.from_columns(row) for row in found]
    return Part(rows, rows[-1].id if len(rows) == PART else last)

"""Searches of the captions table for the gallery, newest rows first; each in a transaction of the caller."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, select, text, tuple_

from db.caption_filter import CaptionFilter, has_newer_generation
from db.models import CaptionRow
from db.reads import MOST_COUNTED, CaptionRecord, counted
from db.session import Connection
from db.word_search import WordSearch, matches
from dropline.contract import ObjectVersion, Status

#: Rows of which the models are listed.
_ROWS_OF_MODELS = 5_000
_COLUMNS = [getattr(CaptionRow, name) for name in CaptionRecord.__dataclass_fields__]


@dataclass(frozen=True, slots=True)
class Search:
    """A row matches if every condition is met; an empty condition matches all rows. Tombstones never match."""

    #: Words of the caption, as people type them into a search engine; the last word may be unfinished.
    words: str = ""
    statuses: tuple[Status, ...] = ()
    #: A task prompt, with any text.
    task: str = ""
    #: Of the object name.
    prefix: str = ""
    bucket: str = ""
    model: str = ""
    error_code: str = ""
    #: Without captions of overwritten generations: such rows stay `captioned`.
    is_current: bool = False

    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions as SQL on `captions`; no index serves the one of words."""
        words = self.stripped_words()
        return [*self._filters(), *([matches(words)] if words else [])]

    def stripped_words(self) -> str:
        """The words without blanks around them, and without the characters that Postgres refuses."""
        return _storable(self.words).strip()

    def by_words(self) -> WordSearch:
        """The search by words that are not empty."""
        others = (self.task, self.prefix, self.bucket, self.model, self.error_code)
        has_captions = not self.statuses or Status.CAPTIONED in self.statuses
        return WordSearch(self.stripped_words(), self._filters(), is_narrow=any(others) or not has_captions)

    def _filters(self) -> list[ColumnElement[bool]]:
        shared = CaptionFilter(
            bucket=_storable(self.bucket),
            prefix=_storable(self.prefix),
            task=_storable(self.task),
            model=_storable(self.model),
            statuses=self.statuses,
        )
        found = shared.conditions()
        if self.statuses == (Status.RUNNING,):
            found.append(CaptionRow.lease_until.is_not(None))  # true, and the condition of an index
        if self.error_code:
            found.append(CaptionRow.error_code == _storable(self.error_code))
        if self.is_current:
            found.append(~has_newer_generation())
        return found


@dataclass(frozen=True, slots=True)
class Traffic:
    """The state of the queue, for people."""

    #: Captions of the last 60 seconds.
    captioned: int
    #: Rows that are queued or running.
    waiting: int
    #: When the oldest of the queued rows was queued; None if no row is queued.
    oldest_queued_at: datetime | None
    failed: int


def newest(connection: Connection, search: Search, before: int | None, most: int) -> list[CaptionRecord]:
    """At most `most` rows with an id below `before` (None: all), the newest first; see `WordSearch.rows`."""
    if search.stripped_words():
        return _of_columns(search.by_words().rows(connection, _COLUMNS, before, most))
    conditions = [] if before is None else [CaptionRow.id < before]
    statement = select(*_COLUMNS).where(*search.conditions(), *conditions)
    return _records(connection, statement.order_by(CaptionRow.id.desc()).limit(most))


def best(connection: Connection, search: Search, most: int) -> list[CaptionRecord]:
    """At most `most` of the newest `CANDIDATES` rows that match, the best first; without words, none."""
    if not search.stripped_words():
        return []
    return _of_columns(search.by_words().best(connection, _COLUMNS, most))


def _records(connection: Connection, statement: Select[Any]) -> list[CaptionRecord]:
    return _of_columns(connection.execute(statement).mappings().all())


def _of_columns(rows: Sequence[RowMapping]) -> list[CaptionRecord]:
    return [CaptionRecord.from_columns(row) for row in rows]


def neighbours(
    connection: Connection, search: Search, row_id: int
) -> tuple[CaptionRecord | None, CaptionRecord | None]:
    """The next newer and the next older row."""
    newer = _next_newer(connection, search, row_id)
    older = newest(connection, search, row_id, 1)
    return newer, next(iter(older), None)


def _next_newer(connection: Connection, search: Search, row_id: int) -> CaptionRecord | None:
    if search.stripped_words():
        rows = search.by_words().rows(connection, _COLUMNS, row_id, 1, newer=True)
        return next(iter(_of_columns(rows)), None)
    following = select(*_COLUMNS).where(CaptionRow.id > row_id, *search.conditions())
    return next(iter(_records(connection, following.order_by(CaptionRow.id).limit(1))), None)


def matching(
    connection: Connection, search: Search, keys: Sequence[tuple[ObjectVersion, str]]
) -> list[CaptionRecord]:
    """The rows among `keys` (object version and task) that match, the newest first."""
    identity = tuple_(CaptionRow.bucket, CaptionRow.object_name, CaptionRow.generation, CaptionRow.task)
    wanted = [(version.bucket, version.name, version.generation, task) for version, task in keys]
    statement = select(*_COLUMNS).where(identity.in_(wanted), *search.conditions())
    return _records(connection, statement.order_by(CaptionRow.id.desc()))


def recent_models(connection: Connection) -> list[str]:
    """The models of the newest rows, in alphabetical order."""
    newest_rows = (
        select(CaptionRow.model)
        .where(CaptionRow.model.is_not(None))
        .order_by(CaptionRow.id.desc())
        .limit(_ROWS_OF_MODELS)
        .subquery()
    )
    return sorted(str(model) for model in connection.execute(select(newest_rows.c.model).distinct()).scalars())


_TRAFFIC = text(f"""
    SELECT (SELECT count(*) FROM captions WHERE captioned_at > now() - interval '1 minute') AS captioned,
           {counted("status = 'queued'", "ORDER BY queued_at")}
           + {counted("status = 'running' AND lease_until IS NOT NULL")} AS waiting,
           (SELECT min(queued_at) FROM captions WHERE status = 'queued') AS oldest_queued_at,
           {counted("status = 'failed'", "ORDER BY error_code")} AS failed
""")  # noqa: S608


def traffic(connection: Connection) -> Traffic:
    """The state of the queue; each part is read from an index, `MOST_COUNTED` queued and failed rows at most."""
    return Traffic(**connection.execute(_TRAFFIC, {"most": MOST_COUNTED}).mappings().one())


def _storable(value: str) -> str:
    """The text without the characters that no text in Postgres has: NUL and lone surrogates."""
    return value.replace("\0", "").encode("utf-8", "ignore").decode()

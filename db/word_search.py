"""Searches for words of captions, in the order of the rows' ids; each in a transaction of the caller.

A word may be in one caption of millions, or in each. The statistics of Postgres have no rare words, and a wrong
plan reads the whole table backwards for a rare word, or sorts the whole table for a frequent one. So the captions
next to the start are read first, without an index of words. The number of hits among these decides: a frequent
word fills the page from the next captions, and a rare one is read from the index and sorted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, func, lateral, literal, or_, select, text

from db.models import CaptionRow, CaptionSearchRow
from db.session import Connection

#: Captions that are read first, without an index of words: some milliseconds.
_WINDOW = 5_000
#: Captions that are read next, as a multiple of the expected number: the hits may be unevenly spread.
_MARGIN = 4
#: Characters of the shortest part of a word that the trigram index finds.
_TRIGRAM = 3
#: Signs of `websearch_to_tsquery`; a search without them matches the beginnings of words, too.
_OPERATORS = re.compile(r'["-]|\bor\b', re.IGNORECASE)
#: A dash between words, or a line of dashes.
_DASHES = re.compile(r"-[\s-]*-")

Columns = Sequence[Any]


@dataclass(frozen=True, slots=True)
class WordSearch:
    """Rows with words in their captions, and with further conditions."""

    #: Not empty, and without the characters that Postgres refuses.
    words: str
    #: On `captions`.
    filters: Sequence[ColumnElement[bool]]
    #: True if the filters may leave few of the rows with a caption: the planner chooses where to begin.
    is_narrow: bool

    def rows(
        self, connection: Connection, columns: Columns, start: int | None, most: int, *, newer: bool = False
    ) -> list[RowMapping]:
        """At most `most` rows, the next to `start` first.

        A part of a word that is shorter than three characters is found among the next 5,000 captions alone.

        Args:
            connection: in a transaction of the caller.
            columns: of `captions`.
            start: rows have a smaller id, or a larger one if `newer`; None: the largest id.
            most: the largest number of rows.
            newer: the rows are read in the order of ascending ids.
        """
        walk = _Walk(newer)
        largest = connection.execute(select(func.max(CaptionSearchRow.id))).scalar_one() or 0
        begin = largest + 1 if start is None else start
        found, end = self._near(connection, columns, walk, begin, most, _WINDOW)
        if end is None:
            return found
        captions = largest - begin if newer else begin
        if _is_frequent(len(found), most - len(found), captions):
            window = _MARGIN * _WINDOW * (most - len(found)) // len(found)
            next_rows, end = self._near(connection, columns, walk, end, most - len(found), window)
            found += next_rows
        if end is not None:
            found += self._far(connection, columns, walk, end, most - len(found))
        return found

    def _near(
        self, connection: Connection, columns: Columns, walk: "_Walk", start: int, most: int, window: int
    ) -> tuple[list[RowMapping], int | None]:
        """The rows among the next `window` captions; and the last caption's id, None if no more are needed."""
        copies = walk.ordered(select(CaptionSearchRow).where(walk.is_after(start))).limit(window).subquery()
        match = _matches(copies.c.caption, copies.c.words, self.words)
        hits = walk.ordered(select(copies.c.id).where(match), copies.c.id).offset(0).subquery()
        found = _rows(connection, self._joined(columns, hits.c.id, walk).limit(most))
        if len(found) == most:
            return found, None
        last = walk.ordered(select(CaptionSearchRow.id).where(walk.is_after(start))).offset(window - 1).limit(1)
        return found, connection.execute(last).scalar()

    def _far(
        self, connection: Connection, columns: Columns, walk: "_Walk", start: int, most: int
    ) -> list[RowMapping]:
        """The rows beyond `start`, by the indexes of words."""
        document = func.to_tsvector(text("'english'"), CaptionSearchRow.caption)
        match = (
            _matches(CaptionSearchRow.caption, document, self.words)
            if len(self.words) >= _TRIGRAM
            else _has_words(document, self.words)
        )
        if self.is_narrow:
            joined = select(*columns).join(CaptionSearchRow, CaptionSearchRow.id == CaptionRow.id)
            wanted = joined.where(walk.is_after(start), match, *self.filters)
            # The order of an expression: the primary key cannot serve it.
            return _rows(connection, walk.ordered(wanted, CaptionRow.id + 0).limit(most))
        hit = (CaptionSearchRow.id + 0).label("id")
        hits = walk.ordered(select(hit).where(walk.is_after(start), match), hit).offset(0).subquery()
        return _rows(connection, self._joined(columns, hits.c.id, walk).limit(most))

    def _joined(self, columns: Columns, hit: ColumnElement[int], walk: "_Walk") -> Select[Any]:
        """The rows of hits, in the order of the hits, one by one until the page is full."""
        row = lateral(select(*columns).where(CaptionRow.id == hit, *self.filters).offset(0))
        return walk.ordered(select(row).select_from(hit.table.join(row, literal(True))), hit)


@dataclass(frozen=True, slots=True)
class _Walk:
    """The direction of a search."""

    newer: bool

    def is_after(self, start: int) -> ColumnElement[bool]:
        """The condition on captions behind `start`."""
        return CaptionSearchRow.id > start if self.newer else CaptionSearchRow.id < start

    def ordered(self, statement: Select[Any], key: Any = CaptionSearchRow.id) -> Select[Any]:
        """The statement in the order of the search."""
        return statement.order_by(key if self.newer else key.desc())


def _is_frequent(hits: int, missing: int, captions: int) -> bool:
    """True if it is cheaper to read captions until the page is full than to read all hits from the index.

    With the share `hits / _WINDOW`, the first reads `missing / share` captions, the second `share * captions`.
    Both take about the same time for one.
    """
    return hits * hits * captions > missing * _WINDOW * _WINDOW


def _rows(connection: Connection, statement: Select[Any]) -> list[RowMapping]:
    return list(connection.execute(statement).mappings())


def matches(words: str) -> ColumnElement[bool]:
    """Condition on `captions`, for a few rows: no index serves it."""
    return _matches(CaptionRow.caption, func.to_tsvector(text("'english'"), CaptionRow.caption), words)


def _matches(caption: Any, document: Any, words: str) -> ColumnElement[bool]:
    """Full-text search, or the words as they stand anywhere in the caption."""
    if _OPERATORS.search(words):
        return _has_words(document, words)
    escaped = re.sub(r"([%_\\])", r"\\\1", words)
    return or_(_has_words(document, words), caption.ilike(f"%{escaped}%"))


def _has_words(document: Any, words: str) -> ColumnElement[bool]:
    """Full-text search; the words are whole, or the beginnings of words."""
    if _OPERATORS.search(words):
        # Postgres takes `--` for a negated negation, and refuses some dozens of them.
        query = func.websearch_to_tsquery(text("'english'"), _DASHES.sub(" ", words))
    else:
        terms = re.findall(r"\w+", words)
        query = func.to_tsquery(text("'english'"), " & ".join(f"{term}:*" for term in terms))
    found: ColumnElement[bool] = document.bool_op("@@")(query)
    return found

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

from sqlalchemy import ColumnElement, RowMapping, Select, and_, case, func, lateral, literal, or_, select, union

from db.models import CaptionRow, CaptionSearchRow
from db.search_language import LANGUAGE, configuration
from db.session import Connection

#: Captions read first, without an index of words: some milliseconds.
_WINDOW = 5_000
#: Captions read next, as a multiple of the expected number: the hits may be unevenly spread.
_MARGIN = 4
#: Characters of the shortest part of a word that the trigram index finds.
_TRIGRAM = 3
#: Signs of `websearch_to_tsquery`; a search without them matches the beginnings of words, too.
_OPERATORS = re.compile(r'["-]|\bor\b', re.IGNORECASE)
#: A dash between words, or a line of dashes.
_DASHES = re.compile(r"-[\s-]*-")

#: Rows among which `WordSearch.best` looks for the best ones.
CANDIDATES = 1_000
#: Of `ts_rank_cd`: a rank is divided by the logarithm of the caption's length.
_BY_LENGTH = 1

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
        largest, language = connection.execute(select(func.max(CaptionSearchRow.id), LANGUAGE)).one()
        reader = _Reader(connection, columns, self, _Walk(newer), _Match(self.words, language))
        begin = (largest or 0) + 1 if start is None else start
        return reader.rows(begin, (largest or 0) - begin if newer else begin, most)

    def best(self, connection: Connection, columns: Columns, most: int) -> list[RowMapping]:
        """At most `most` of the newest `CANDIDATES` rows, the best first; of equal ones, the newest."""
        candidates = [row["id"] for row in self.rows(connection, [CaptionRow.id], None, CANDIDATES)]
        match = _Match(self.words, connection.execute(select(LANGUAGE)).scalar_one())
        copy = CaptionSearchRow
        rank = func.ts_rank_cd(match.document(copy), match.query(), _BY_LENGTH)
        ranked = select(*columns).join(copy, copy.id == CaptionRow.id).where(CaptionRow.id.in_(candidates))
        return _rows(connection, ranked.order_by(rank.desc(), CaptionRow.id.desc()).limit(most))


@dataclass(frozen=True, slots=True)
class _Reader:
    """One read of rows, in steps."""

    connection: Connection
    columns: Columns
    search: WordSearch
    walk: "_Walk"
    match: "_Match"

    def rows(self, begin: int, captions: int, most: int) -> list[RowMapping]:
        """At most `most` rows from `begin` on, before which or after which there are `captions` captions."""
        found, end = self._near(begin, most, _WINDOW)
        if end is None:
            return found
        if _is_frequent(len(found), most - len(found), captions):
            window = _MARGIN * _WINDOW * (most - len(found)) // len(found)
            next_rows, end = self._near(end, most - len(found), window)
            found += next_rows
        if end is not None:
            found += self._far(end, most - len(found))
        return found

    def _near(self, start: int, most: int, window: int) -> tuple[list[RowMapping], int | None]:
        """The rows among the next `window` captions; and the last caption's id, None if no more are needed."""
        walk = self.walk
        copies = walk.ordered(select(CaptionSearchRow).where(walk.is_after(start))).limit(window).subquery()
        has_words = or_(*self.match.conditions(copies.c.caption, self.match.document(copies.c)))
        hits = walk.ordered(select(copies.c.id).where(has_words), copies.c.id).offset(0).subquery()
        found = _rows(self.connection, self._joined(hits.c.id).limit(most))
        if len(found) == most:
            return found, None
        last = walk.ordered(select(CaptionSearchRow.id).where(walk.is_after(start))).offset(window - 1).limit(1)
        return found, self.connection.execute(last).scalar()

    def _far(self, start: int, most: int) -> list[RowMapping]:
        """The rows beyond `start`, by the indexes of words."""
        walk = self.walk
        conditions = self.match.indexed_conditions()
        if self.search.is_narrow:
            joined = select(*self.columns).join(CaptionSearchRow, CaptionSearchRow.id == CaptionRow.id)
            wanted = joined.where(walk.is_after(start), or_(*conditions), *self.search.filters)
            # The order of an expression: the primary key cannot serve it.
            return _rows(self.connection, walk.ordered(wanted, CaptionRow.id + 0).limit(most))
        # One read for each index: of the hits of both in one bitmap, Postgres would split each caption into words.
        hit = (CaptionSearchRow.id + 0).label("id")
        parts = [select(hit).where(walk.is_after(start), condition) for condition in conditions]
        found = union(*parts).subquery() if len(parts) > 1 else parts[0].subquery()
        hits = walk.ordered(select(found.c.id), found.c.id).offset(0).subquery()
        return _rows(self.connection, self._joined(hits.c.id).limit(most))

    def _joined(self, hit: ColumnElement[int]) -> Select[Any]:
        """The rows of hits, in the order of the hits, one by one until the page is full."""
        row = lateral(select(*self.columns).where(CaptionRow.id == hit, *self.search.filters).offset(0))
        return self.walk.ordered(select(row).select_from(hit.table.join(row, literal(True))), hit)


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
    match = _Match(words)
    return or_(*match.conditions(CaptionRow.caption, func.to_tsvector(match.configuration, CaptionRow.caption)))


@dataclass(frozen=True, slots=True)
class _Match:
    """The conditions of words on captions."""

    words: str
    #: None: the language of the database, which Postgres reads with the statement. No index serves that.
    language: str | None = None

    @property
    def configuration(self) -> ColumnElement[Any]:
        """The text search configuration, as SQL."""
        return configuration(self.language)

    def conditions(self, caption: Any, document: Any) -> list[ColumnElement[bool]]:
        """A caption with the words meets one of these: the words as they stand in it, or full-text search."""
        if _OPERATORS.search(self.words):
            return [self.has_words(document)]
        escaped = re.sub(r"([%_\\])", r"\\\1", self.words)
        return [caption.ilike(f"%{escaped}%"), self.has_words(document)]

    def indexed_conditions(self) -> list[ColumnElement[bool]]:
        """The conditions on `caption_search` that an index serves."""
        document = func.to_tsvector(self.configuration, CaptionSearchRow.caption)
        if len(self.words) < _TRIGRAM:
            return [self.has_words(document)]
        return self.conditions(CaptionSearchRow.caption, document)

    def document(self, copy: Any) -> ColumnElement[Any]:
        """The words of a row of `caption_search`; those of another language are not written anew yet."""
        split = func.to_tsvector(self.configuration, copy.caption)
        return case((and_(copy.language == self.language, copy.words.is_not(None)), copy.words), else_=split)

    def has_words(self, document: Any) -> ColumnElement[bool]:
        """Full-text search; the words are whole, or the beginnings of words."""
        found: ColumnElement[bool] = document.bool_op("@@")(self.query())
        return found

    def query(self) -> ColumnElement[Any]:
        """The words as a query of Postgres."""
        if _OPERATORS.search(self.words):
            # Postgres takes `--` for a negated negation, and refuses some dozens of them.
            return func.websearch_to_tsquery(self.configuration, _DASHES.sub(" ", self.words))
        terms = re.findall(r"\w+", self.words)
        return func.to_tsquery(self.configuration, " & ".join(f"{term}:*" for term in terms))

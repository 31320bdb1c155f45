"""Searches of the captions table for the gallery, newest rows first; each in a transaction of the caller."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select, text, tuple_

from db.models import EVERY_TASK, CaptionRow
from db.reads import CaptionRecord
from db.session import Connection
from dropline.contract import ObjectVersion, Status

#: Rows of which the models are listed.
_ROWS_OF_MODELS = 5_000
#: Ids among which words are looked for first, without an index: enough for words that many captions have.
_RECENT_IDS = 5_000
#: Characters of the shortest part of a word that the trigram index finds.
_TRIGRAM = 3
#: Signs of `websearch_to_tsquery`; a search without them matches the beginnings of words, too.
_OPERATORS = re.compile(r'["-]|\bor\b', re.IGNORECASE)
#: A dash between words, or a line of dashes.
_DASHES = re.compile(r"-[\s-]*-")
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

    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions as SQL on `captions`."""
        words = _storable(self.words).strip()
        return [*self._filters(), *([_matches(words)] if words else [])]

    def indexed_conditions(self) -> list[ColumnElement[bool]]:
        """Like `conditions`, but without parts of words that no index finds."""
        words = _storable(self.words).strip()
        return [*self._filters(), _matches(words) if len(words) >= _TRIGRAM else _has_words(words)]

    def _filters(self) -> list[ColumnElement[bool]]:
        found = [CaptionRow.task != EVERY_TASK]
        if self.statuses:
            found.append(CaptionRow.status.in_(self.statuses))
        if self.statuses == (Status.RUNNING,):
            found.append(CaptionRow.lease_until.is_not(None))  # true, and the condition of an index
        if self.task:
            prompt = func.split_part(CaptionRow.task, text("'>'"), text("1"))
            found.append(prompt == _storable(self.task).partition(">")[0])
            found.append(func.starts_with(CaptionRow.task, _storable(self.task)))
        if self.prefix:
            found.append(func.starts_with(CaptionRow.object_name, _storable(self.prefix)))
        for column, value in (
            (CaptionRow.bucket, self.bucket),
            (CaptionRow.model, self.model),
            (CaptionRow.error_code, self.error_code),
        ):
            if value:
                found.append(column == _storable(value))
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
    """At most `most` rows with an id below `before` (None: all), the newest first.

    A part of a word that is shorter than three characters is found among the last 5,000 ids alone.
    """
    if search.words.strip():
        return _newest_with_words(connection, search, before, most)
    conditions = [] if before is None else [CaptionRow.id < before]
    statement = select(*_COLUMNS).where(*search.conditions(), *conditions)
    return _records(connection, statement.order_by(CaptionRow.id.desc()).limit(most))


def _newest_with_words(
    connection: Connection, search: Search, before: int | None, most: int
) -> list[CaptionRecord]:
    """First without an index, among the last ids; then with the indexes of words.

    The planner of Postgres cannot estimate how many captions have a word, and may read the whole table backwards
    for a rare one, or sort half of the table for a frequent one.
    """
    if before is None:
        before = (connection.execute(select(func.max(CaptionRow.id))).scalar_one() or 0) + 1
    lowest = before - _RECENT_IDS
    recent = select(*_COLUMNS).where(CaptionRow.id < before, CaptionRow.id >= lowest, *search.conditions())
    found = _records(connection, recent.order_by(CaptionRow.id.desc()).limit(most))
    if len(found) == most or lowest <= 1:
        return found
    older = select(*_COLUMNS).where(CaptionRow.id < lowest, *search.indexed_conditions())
    # The order of an expression: the primary key cannot serve it.
    return found + _records(connection, older.order_by((CaptionRow.id + 0).desc()).limit(most - len(found)))


def _records(connection: Connection, statement: Select[Any]) -> list[CaptionRecord]:
    return [CaptionRecord.from_columns(row) for row in connection.execute(statement).mappings()]


def neighbours(
    connection: Connection, search: Search, row_id: int
) -> tuple[CaptionRecord | None, CaptionRecord | None]:
    """The next newer and the next older row."""
    newer = _next_newer(connection, search, row_id)
    older = newest(connection, search, row_id, 1)
    return newer, next(iter(older), None)


def _next_newer(connection: Connection, search: Search, row_id: int) -> CaptionRecord | None:
    """With words: first without an index, among the next ids; then with the indexes of words."""
    following = select(*_COLUMNS).where(CaptionRow.id > row_id, *search.conditions())
    if not search.words.strip():
        return next(iter(_records(connection, following.order_by(CaptionRow.id).limit(1))), None)
    highest = row_id + _RECENT_IDS
    near = following.where(CaptionRow.id <= highest).order_by(CaptionRow.id).limit(1)
    far = select(*_COLUMNS).where(CaptionRow.id > highest, *search.indexed_conditions())
    found = _records(connection, near) or _records(connection, far.order_by(CaptionRow.id + 0).limit(1))
    return next(iter(found), None)


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


_TRAFFIC = text("""
    SELECT (SELECT count(*) FROM captions WHERE captioned_at > now() - interval '1 minute') AS captioned,
           queued.number + (SELECT count(*) FROM captions WHERE status = 'running' AND lease_until IS NOT NULL)
           AS waiting,
           queued.oldest AS oldest_queued_at,
           (SELECT count(*) FROM captions WHERE status = 'failed') AS failed
    FROM (SELECT count(*) AS number, min(queued_at) AS oldest FROM captions WHERE status = 'queued') AS queued
""")


def traffic(connection: Connection) -> Traffic:
    """The state of the queue; each part is read from an index."""
    return Traffic(**connection.execute(_TRAFFIC).mappings().one())


def _matches(words: str) -> ColumnElement[bool]:
    """Full-text search, or the words as they stand anywhere in the caption."""
    if _OPERATORS.search(words):
        return _has_words(words)
    escaped = re.sub(r"([%_\\])", r"\\\1", words)
    return or_(_has_words(words), CaptionRow.caption.ilike(f"%{escaped}%"))


def _has_words(words: str) -> ColumnElement[bool]:
    """Full-text search; the words are whole, or the beginnings of words."""
    if _OPERATORS.search(words):
        # Postgres takes `--` for a negated negation, and refuses some dozens of them.
        query = func.websearch_to_tsquery(text("'english'"), _DASHES.sub(" ", words))
    else:
        terms = re.findall(r"\w+", words)
        query = func.to_tsquery(text("'english'"), " & ".join(f"{term}:*" for term in terms))
    document = func.to_tsvector(text("'english'"), CaptionRow.caption)
    return document.bool_op("@@")(query)


def _storable(value: str) -> str:
    """The text without the characters that no text in Postgres has: NUL and lone surrogates."""
    return value.replace("\0", "").encode("utf-8", "ignore").decode()

"""The language of full-text search: a text search configuration of Postgres, which splits captions into words.

Searches read it with their first statement. A row of `caption_search` says of which language its words are, so a
search is right at each moment of a change; it is only slower for rows that are not written anew yet.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import ColumnElement, cast, literal_column, select, text
from sqlalchemy.dialects.postgresql import REGCONFIG
from sqlalchemy.exc import DBAPIError

from db.connections import Connector
from db.errors import named_error
from db.models import SearchLanguageRow
from db.session import Connection, make_engine
from dropline.errors import AccessDenied, ClientError
from dropline.settings import DatabaseSettings

#: The language of the database, as a part of a statement.
LANGUAGE = select(SearchLanguageRow.language).scalar_subquery()

#: A name that needs no quotes, in a schema or without one.
_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")
#: An arbitrary constant. The lock keeps a second change away.
_ADVISORY_LOCK = 7_413_905_212
#: The index of a large table takes minutes.
_STATEMENT_TIMEOUT_MS = 6 * 3600 * 1000
#: Rows of one transaction: some tens of milliseconds, for which their captions cannot change.
_BATCH = 1_000
_INDEX = "ix_caption_search_words"
_NEXT_INDEX = "ix_caption_search_words_next"

_KNOWN = text("""
    SELECT CASE WHEN pg_ts_config_is_visible(oid) THEN '' ELSE cfgnamespace::regnamespace || '.' END || cfgname
    FROM pg_ts_config ORDER BY 1
""")
_MAY_CHANGE = text("""
    SELECT current_user, coalesce((SELECT pg_has_role(oid, 'USAGE') FROM pg_roles
                                   WHERE rolname = 'dropline_migrator'), false)
""")
_IS_INDEX_OF = text(r"""
    SELECT indisvalid AND substring(pg_get_indexdef(indexrelid) FROM 'to_tsvector\(''(.*)''::regconfig')::regconfig
                          = CAST(:language AS regconfig)
    FROM pg_index WHERE indexrelid = to_regclass('public.' || :name)
""")
# Rows that another transaction changes are left out: the trigger writes their words in the new language.
_REWRITE = text("""
    UPDATE caption_search AS copy SET words = to_tsvector(CAST(:language AS regconfig), copy.caption),
                                      language = :language
    FROM (SELECT id FROM caption_search WHERE id < :before AND (language <> :language OR words IS NULL)
          ORDER BY id DESC LIMIT :most FOR UPDATE SKIP LOCKED) AS outdated
    WHERE copy.id = outdated.id RETURNING copy.id
""")
_LARGEST_ID = 2**63 - 1


def configuration(language: str | None) -> ColumnElement[Any]:
    """A text search configuration as a constant, as the index has it; None: that of the database."""
    if language is None:
        return cast(LANGUAGE, REGCONFIG)
    if not _NAME.fullmatch(language):
        raise ClientError(f"{language!r} is not the name of a text search configuration")
    return literal_column(f"'{language}'::regconfig")


@dataclass(frozen=True, slots=True)
class Languages:
    """The language of searches, and those the server has."""

    current: str
    known: tuple[str, ...]

    def require(self, name: str) -> str:
        """The name of a language of the server.

        Raises:
            ClientError: the server has no such language.
        """
        if name not in self.known or not _NAME.fullmatch(name):
            raise ClientError(
                f"{name!r} is no text search configuration of this Postgres; it has {', '.join(self.known)}"
            )
        return name


def languages(connection: Connection) -> Languages:
    """The language of searches, and the text search configurations of the server."""
    known = tuple(map(str, connection.execute(_KNOWN).scalars()))
    return Languages(connection.execute(select(LANGUAGE)).scalar_one(), known)


def change_language(
    settings: DatabaseSettings, name: str, on_step: Callable[[str], None], on_rows: Callable[[int], None]
) -> int:
    """Search in another language; the number of rows written anew. An interrupted change goes on.

    First an index of words is built beside the old one, while all searches go on. Then the language changes, at
    one moment for all searches. Then the words of each caption are written anew, and at last the old index is
    dropped. No statement locks the table against reads or writes; the index waits for the end of each transaction
    that is older.

    Args:
        settings: Postgres, as the login of the migrations.
        name: of a text search configuration.
        on_step: called at the beginning of each step, with its words.
        on_rows: called after each batch with the number of rows so far.

    Raises:
        ClientError: the server has no such language, or another change is at work.
        AccessDenied: the login is not that of the migrations.
        DatabaseUnavailable: Postgres cannot be reached, or ended a statement.
        SettingsError: the URL leads to a pooler.
    """
    limited = settings.model_copy(update={"statement_timeout_ms": _STATEMENT_TIMEOUT_MS})
    connector = Connector(limited, "dropline-search-language")
    try:
        connector.open_direct("A change of the search language").close()
        engine = make_engine(connector, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                return _Change(connection, name, on_step, on_rows).run()
        finally:
            engine.dispose()
    except psycopg.Error as error:
        raise named_error(error) from error
    except DBAPIError as error:
        raise named_error(error.orig if isinstance(error.orig, Exception) else error) from error


@dataclass(frozen=True, slots=True)
class _Change:
    """One change of the language, on a connection whose statements commit by themselves."""

    connection: Connection
    language: str
    on_step: Callable[[str], None]
    on_rows: Callable[[int], None]

    def run(self) -> int:
        """All steps; each is left out if it was done before."""
        login, may_change = self.connection.execute(_MAY_CHANGE).one()
        if not may_change:
            raise AccessDenied(
                f"the login {login} may not change the search language: set DROPLINE_DATABASE__URL to the login "
                "of the migrations"
            )
        languages(self.connection).require(self.language)
        if not self.connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_ADVISORY_LOCK})").scalar_one():
            raise ClientError("another change of the search language is at work; wait for its end")
        self._build_index()
        self.on_step(f"searches are in {self.language} from now on")
        self.connection.execute(
            text("UPDATE search_language SET language = :language WHERE language <> :language"),
            {"language": self.language},
        )
        rows = self._rewrite()
        self._drop_old_index()
        return rows

    def _build_index(self) -> None:
        if self._has_index(_INDEX) or self._has_index(_NEXT_INDEX):
            return
        self.on_step(f"an index of the words in {self.language} is built")
        self._run(f"DROP INDEX CONCURRENTLY IF EXISTS {_NEXT_INDEX}")
        self._run(
            f"CREATE INDEX CONCURRENTLY {_NEXT_INDEX} ON caption_search "
            f"USING gin (to_tsvector('{self.language}', caption))"
        )
        # As of the first index; see migration 0009.
        self._run(f"ALTER INDEX {_NEXT_INDEX} ALTER COLUMN 1 SET STATISTICS 1000")
        self._run("ANALYZE caption_search")

    def _rewrite(self) -> int:
        self.on_step("the words of the captions are written anew")
        rows, before = 0, _LARGEST_ID
        while True:
            values = {"language": self.language, "before": before, "most": _BATCH}
            written = self.connection.execute(_REWRITE, values).scalars().all()
            if not written:
                return rows
            rows, before = rows + len(written), min(written)
            self.on_rows(rows)

    def _drop_old_index(self) -> None:
        self.on_step("the index of the language before is dropped")
        if self._has_index(_INDEX):
            self._run(f"DROP INDEX CONCURRENTLY IF EXISTS {_NEXT_INDEX}")
            return
        self._run(f"DROP INDEX CONCURRENTLY IF EXISTS {_INDEX}")
        self._run(f"ALTER INDEX {_NEXT_INDEX} RENAME TO {_INDEX}")

    def _has_index(self, name: str) -> bool:
        """Whether the index is finished, and one of the new language."""
        found = self.connection.execute(_IS_INDEX_OF, {"name": name, "language": self.language}).scalar()
        return bool(found)

    def _run(self, statement: str) -> None:
        self.connection.exec_driver_sql(statement)

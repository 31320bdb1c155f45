"""Connections to Postgres: every wait is bounded, and every expected error is one of Dropline's."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from psycopg.errors import ProgramLimitExceeded
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as ConnectionPoolTimeout

from db.connections import WRITER_URL, Connector
from db.conninfo import parse_conninfo
from db.errors import named_error
from db.start_check import Needs
from dropline.errors import DatabaseUnavailable, SettingsError
from dropline.settings import DatabaseSettings, Settings

__all__ = ["Connection", "Database", "make_engine", "reader_settings", "submitter_settings", "writer_settings"]

_READER_URL = "DATABASE_URL"
_GALLERY_URL = "DROPLINE_GALLERY__DATABASE_URL"

#: The longest wait for a free connection of the connection pool, in seconds.
_CHECKOUT_TIMEOUT_S = 0.5


class Database:
    """One Postgres database, as one login. Threads may share the object; processes may not.

    A forked child must call `connect` itself: two processes on one connection mix up the answers of Postgres.
    """

    def __init__(self, connection_pool: Engine, connector: Connector) -> None:
        self._connection_pool = connection_pool
        self._connector = connector

    @classmethod
    def connect(
        cls,
        settings: DatabaseSettings,
        application_name: str,
        needs: Needs | None = None,
        *,
        connections: int | None = None,
        is_bounded: bool = False,
    ) -> "Database":
        """A database whose connections are opened on first use.

        Args:
            settings: URL and time limits.
            application_name: name of these connections in `pg_stat_activity`.
            needs: checked on the first connection; see `db.connections.Connector`.
            connections: most connections at a time; by default `settings.pool_size`.
            is_bounded: no call waits for a frozen server; see `db.connections.Connector`.

        Raises:
            SettingsError: no URL is set, or the URL is not one of Postgres.
        """
        connector = Connector(settings, application_name, needs, is_bounded=is_bounded)
        return cls(
            make_engine(
                connector,
                pool_size=connections or settings.pool_size,
                max_overflow=0,
                pool_timeout=_CHECKOUT_TIMEOUT_S,
            ),
            connector,
        )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back on any error.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached, or ended the statement; the commit may have failed or
                succeeded.
            DatabaseReadOnly: Postgres refused a write, since the server is a standby or the login only reads.
            SchemaOutdated: a table or a column is missing, or the schema is older than the code.
            AccessDenied: the login lacks a right on a table.
            SettingsError: the database is not UTF8.
            StatementRefused: Postgres refused the values of the statement.
        """
        with self._named_errors(), self._connection_pool.begin() as connection:
            yield connection

    @contextmanager
    def statement(self) -> Iterator[Connection]:
        """A connection on which each statement is a transaction: one round trip instead of three.

        Through a pooler in transaction mode the block is one `transaction`, which sets the session's settings
        again. Raises as `transaction`.
        """
        with self._named_errors(), self._connection_pool.connect() as connection:
            if self._connector.is_pooled:
                with connection.begin():
                    yield connection
            else:
                yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except ConnectionPoolTimeout as error:
            raise DatabaseUnavailable(
                f"no free connection to Postgres within {_CHECKOUT_TIMEOUT_S} s; raise "
                "DROPLINE_DATABASE__POOL_SIZE if that happens often"
            ) from error
        except DBAPIError as error:
            if isinstance(error.orig, ProgramLimitExceeded):
                self._free_notifications()
            raise named_error(error.orig if isinstance(error.orig, Exception) else error) from error

    def _free_notifications(self) -> None:
        """Have Postgres drop the notifications that every listener has read.

        Otherwise Postgres does so with the next notification that it accepts. A queue that is full accepts none,
        and stays full after the end of the session that filled it.
        """
        with suppress(DBAPIError, ConnectionPoolTimeout), self._connection_pool.connect() as connection:
            connection.exec_driver_sql("SELECT pg_notification_queue_usage()")

    def check(self) -> None:
        """Open a connection, where none is open; the first connection is checked. Raises as `transaction`."""
        with self.transaction():
            pass

    def close(self) -> None:
        """Close all connections."""
        self._connection_pool.dispose()


def reader_settings(settings: Settings) -> DatabaseSettings:
    """Postgres for a command that only reads: DATABASE_URL where it is set, else DROPLINE_DATABASE__URL.

    Raises:
        SettingsError: no URL is set, or the URL is not one of Postgres; names the variable.
    """
    if settings.database_url:
        return _with_url(settings, settings.database_url, _READER_URL)
    return writer_settings(settings)


def writer_settings(settings: Settings) -> DatabaseSettings:
    """Postgres for a command that changes rows: DROPLINE_DATABASE__URL.

    Raises:
        SettingsError: no URL is set, or the URL is not one of Postgres; names the variable.
    """
    if not settings.database.url:
        raise SettingsError(
            f"{WRITER_URL} is not set; while `dropline up` runs, `source .local/env` sets it "
            "(docs/settings.md has all settings)"
        )
    return _with_url(settings, settings.database.url, WRITER_URL)


def submitter_settings(settings: Settings) -> DatabaseSettings:
    """Postgres for edits of the gallery: DROPLINE_GALLERY__DATABASE_URL if it is set, else DROPLINE_DATABASE__URL.

    Raises:
        SettingsError: no URL is set, or the URL is not one of Postgres; names the variable.
    """
    if settings.gallery.database_url:
        return _with_url(settings, settings.gallery.database_url, _GALLERY_URL)
    return writer_settings(settings)


def _with_url(settings: Settings, url: SecretStr, variable: str) -> DatabaseSettings:
    parse_conninfo(url.get_secret_value(), variable)
    return settings.database.model_copy(update={"url": url})


def make_engine(connector: Connector, **options: Any) -> Engine:
    """An engine over the connections of `connector`; `options` are those of SQLAlchemy's `create_engine`."""

    def open_connection() -> Any:
        connection = connector.open()
        # Through a pooler the connection stays in autocommit mode, and `BEGIN` is a statement of its own.
        connection.autocommit = connector.is_pooled
        return connection

    # The extension hstore is not used: without a look for its type, the first connection is a round trip shorter.
    engine = create_engine("postgresql+psycopg://", creator=open_connection, use_native_hstore=False, **options)

    @event.listens_for(engine, "begin")
    def _begin_with_settings(connection: Connection) -> None:
        if connector.is_pooled:
            connection.exec_driver_sql(f"BEGIN ISOLATION LEVEL READ COMMITTED; {connector.local_settings}")

    return engine

"""Connections to Postgres: every wait is bounded, and every expected error is one of Dropline's."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as ConnectionPoolTimeout

from db.errors import named_error
from dropline.errors import DatabaseUnavailable, SettingsError
from dropline.postgres_url import check_postgres_url
from dropline.settings import DatabaseSettings, Settings, require

__all__ = ["Connection", "Database", "libpq_url", "reader_settings", "sqlalchemy_url", "writer_settings"]

_READER_URL = "DATABASE_URL"
_WRITER_URL = "DROPLINE_DATABASE__URL"

#: The longest wait for a free connection of the connection pool, in seconds.
_CHECKOUT_TIMEOUT_S = 0.5


class Database:
    """One Postgres database, as one login. Threads may share the object; processes may not.

    A forked child must call `connect` itself: two processes on one connection mix up the answers of Postgres.
    """

    def __init__(self, connection_pool: Engine) -> None:
        self._connection_pool = connection_pool

    @classmethod
    def connect(
        cls, settings: DatabaseSettings, application_name: str, *, connections: int | None = None
    ) -> "Database":
        """A database whose connections are opened on first use.

        Args:
            settings: URL and time limits.
            application_name: name of these connections in `pg_stat_activity`.
            connections: most connections at a time; by default `settings.pool_size`.

        Raises:
            SettingsError: no URL is set, or the URL is not one of Postgres.
        """
        options = (
            f"-c statement_timeout={settings.statement_timeout_ms} -c lock_timeout={settings.statement_timeout_ms}"
            " -c idle_in_transaction_session_timeout=60000"
        )
        return cls(
            create_engine(
                sqlalchemy_url(require(settings.url, _WRITER_URL)),
                pool_size=connections or settings.pool_size,
                max_overflow=0,
                pool_timeout=_CHECKOUT_TIMEOUT_S,
                connect_args={
                    "application_name": application_name,
                    "connect_timeout": settings.connect_timeout_s,
                    "options": options,
                    "keepalives_idle": 30,
                    "tcp_user_timeout": 10_000,
                },
            )
        )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back on any error.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached, or ended the statement; the commit may have failed or
                succeeded.
            DatabaseReadOnly: Postgres refused a write, since the server is a standby or the login only reads.
            SchemaOutdated: a table or a column is missing.
            AccessDenied: the login lacks a right on the table.
            SettingsError: the URL has an option that Postgres lacks.
            StatementRefused: Postgres refused the values of the statement.
        """
        try:
            with self._connection_pool.begin() as connection:
                yield connection
        except ConnectionPoolTimeout as error:
            raise DatabaseUnavailable(
                f"no free connection to Postgres within {_CHECKOUT_TIMEOUT_S} s; raise "
                "DROPLINE_DATABASE__POOL_SIZE if that happens often"
            ) from error
        except DBAPIError as error:
            raise named_error(error.orig if isinstance(error.orig, Exception) else error) from error

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
            f"{_WRITER_URL} is not set; while `dropline up` runs, `source .local/env` sets it "
            "(docs/settings.md has all settings)"
        )
    return _with_url(settings, settings.database.url, _WRITER_URL)


def _with_url(settings: Settings, url: SecretStr, variable: str) -> DatabaseSettings:
    check_postgres_url(url.get_secret_value(), variable)
    return settings.database.model_copy(update={"url": url})


def sqlalchemy_url(url: str) -> str:
    """`postgresql://…` in SQLAlchemy's form for psycopg 3.

    Raises:
        SettingsError: not a Postgres URL.
    """
    _, _, address = check_postgres_url(url, _WRITER_URL).partition("://")
    return f"postgresql+psycopg://{address}"


def libpq_url(url: str) -> str:
    """The same URL in the form of psql and psycopg, with special characters of the password escaped.

    Raises:
        SettingsError: not a Postgres URL.
    """
    return make_url(sqlalchemy_url(url)).set(drivername="postgresql").render_as_string(hide_password=False)

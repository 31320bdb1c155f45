"""Connections to Postgres: every wait is bounded, and every expected error is one of Dropline's."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.errors import InsufficientPrivilege, ReadOnlySqlTransaction
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as ConnectionPoolTimeout

from dropline.errors import AccessDenied, DatabaseReadOnly, DatabaseUnavailable, SettingsError
from dropline.postgres_url import check_postgres_url
from dropline.settings import DatabaseSettings, Settings, require

__all__ = ["Connection", "Database", "libpq_url", "reader_settings", "sqlalchemy_url", "writer_settings"]

_READER_URL = "DATABASE_URL"
_WRITER_URL = "DROPLINE_DATABASE__URL"

#: The longest wait for a free connection of the connection pool, in seconds.
_CHECKOUT_TIMEOUT_S = 0.5

# Classes of SQLSTATE: connection, transaction rollback, resources, operator intervention, system errors, lock not
# available, idle transaction.
_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58", "55P03", "25P03")


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
            AccessDenied: the login lacks a right on the table.
        """
        try:
            with self._connection_pool.begin() as connection:
                yield connection
        except ConnectionPoolTimeout as error:
            raise DatabaseUnavailable(f"no free connection to Postgres within {_CHECKOUT_TIMEOUT_S} s") from error
        except DBAPIError as error:
            named = _named(error)
            if named is None:
                raise
            raise named from error

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


def _named(error: DBAPIError) -> DatabaseUnavailable | AccessDenied | None:
    """Dropline's name of an error of Postgres; None for a mistake in a statement."""
    if isinstance(error.orig, InsufficientPrivilege):
        return AccessDenied(f"Postgres refused: {error.orig}")
    if isinstance(error.orig, ReadOnlySqlTransaction):
        return DatabaseReadOnly(f"Postgres refused: {error.orig}")
    if _is_transient(error):
        return DatabaseUnavailable(f"Postgres did not answer: {error.orig}")
    return None


def _is_transient(error: DBAPIError) -> bool:
    """True if the same statement may succeed later: after a lost connection, a restart, a timeout, a deadlock."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError | InterfaceError)
    return state.startswith(_TRANSIENT_CLASSES)

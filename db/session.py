"""Connections to Postgres: bounded, impatient, and with errors this project can act on."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.errors import is_transient
from dropline.errors import DatabaseUnavailable, SettingsError
from dropline.settings import DatabaseSettings, require

#: A checkout that waits longer than this is told that Postgres is away.
_POOL_TIMEOUT_S = 0.5


def make_engine(settings: DatabaseSettings, application_name: str, *, pool_size: int | None = None) -> Engine:
    """An engine whose every wait is bounded; connects on first use.

    Raises:
        SettingsError: no URL is set, or it is not one of Postgres.
    """
    options = (
        f"-c statement_timeout={settings.statement_timeout_ms} -c lock_timeout={settings.statement_timeout_ms}"
        " -c idle_in_transaction_session_timeout=60000"
    )
    return create_engine(
        sqlalchemy_url(require(settings.url, "DROPLINE_DATABASE__URL")),
        pool_size=pool_size or settings.pool_size,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT_S,
        connect_args={
            "application_name": application_name,
            "connect_timeout": settings.connect_timeout_s,
            "options": options,
            "keepalives_idle": 30,
            "tcp_user_timeout": 10_000,
        },
    )


def sqlalchemy_url(url: str) -> str:
    """`postgresql://…` as SQLAlchemy spells it for psycopg 3.

    Raises:
        SettingsError: not a Postgres URL.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgres", "postgresql", "postgresql+psycopg") or not rest:
        raise SettingsError("DROPLINE_DATABASE__URL must look like postgresql://user:password@host:port/name")
    return f"postgresql+psycopg://{rest}"


def libpq_url(url: str) -> str:
    """The same URL in the form psql and psycopg take."""
    return make_url(sqlalchemy_url(url)).set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed at the end, rolled back on any error.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached, or gave up; nothing is known to be committed.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except PoolTimeout as error:
        raise DatabaseUnavailable(f"no free connection to Postgres within {_POOL_TIMEOUT_S} s") from error
    except DBAPIError as error:
        if not is_transient(error):
            raise
        raise DatabaseUnavailable(f"Postgres did not answer: {error.orig}") from error

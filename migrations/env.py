"""Alembic's environment: a single transaction, migrations in sequence, and short waits for locks."""

from alembic import context
from sqlalchemy import Connection, create_engine, text

from db.models import Base
from db.session import sqlalchemy_url
from dropline.settings import load_settings, require

#: An arbitrary constant. The lock serializes concurrent deployments.
_ADVISORY_LOCK = 7_413_905_211


def _url() -> str:
    configured = context.config.get_main_option("sqlalchemy.url")
    return configured or sqlalchemy_url(require(load_settings().database.url, "DROPLINE_DATABASE__URL"))


def _migrate(connection: Connection) -> None:
    connection.execute(text("SET statement_timeout = '15min'"))
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
    # Set after the advisory lock: its wait may be longer than lock_timeout.
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.commit()
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()


def _run_online() -> None:
    engine = create_engine(_url(), connect_args={"application_name": "dropline-migrations"})
    try:
        with engine.connect() as connection:
            _migrate(connection)
    finally:
        engine.dispose()


def _run_offline() -> None:
    context.configure(url=_url(), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    _run_offline()
else:
    _run_online()

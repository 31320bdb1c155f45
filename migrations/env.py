"""Alembic's environment: one migration after the other, a transaction each, and short waits for locks."""

import time

from alembic import context
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, text

from db.connections import Connector
from db.models import Base
from db.session import make_engine
from dropline.settings import load_settings
from migrations.preconditions import check_preconditions, let_roles_read_revision
from migrations.run import URL_OPTION, migration_settings

#: An arbitrary constant. The lock serializes concurrent deployments.
_ADVISORY_LOCK = 7_413_905_211
#: Seconds between two tries to get the lock. Postgres builds no index concurrently while another connection waits
#: in a statement for a lock of the builder.
_PAUSE_S = 0.5


def _migrate(connection: Connection) -> None:
    while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY_LOCK}).scalar_one():
        connection.rollback()
        time.sleep(_PAUSE_S)
    # Set after the advisory lock: its wait may be longer than lock_timeout.
    connection.execute(text("SET lock_timeout = '5s'"))
    current = MigrationContext.configure(connection).get_current_revision()
    check_preconditions(connection, current, ScriptDirectory.from_config(context.config).get_current_head())
    connection.commit()
    context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
    # Each migration has committed by itself.
    let_roles_read_revision(connection)
    connection.commit()


def _run_online() -> None:
    url = context.config.get_main_option(URL_OPTION) or load_settings().database.url.get_secret_value()
    connector = Connector(migration_settings(url), "dropline-migrations")
    engine = make_engine(connector, poolclass=NullPool)
    try:
        connector.open_direct("A migration").close()
        with engine.connect() as connection:
            _migrate(connection)
    finally:
        engine.dispose()


def _run_offline() -> None:
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    _run_offline()
else:
    _run_online()

"""Alembic's environment: each migration after the other, a transaction each, and short waits for locks."""

import time

from alembic import context
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, NullPool, text
from sqlalchemy.exc import OperationalError

from db.connections import Connector
from db.errors import one_line
from db.models import Base
from db.session import make_engine
from dropline.log import get_logger
from dropline.settings import load_settings
from migrations.locks import LOCK_TIMEOUT
from migrations.preconditions import check_preconditions, let_roles_read_revision
from migrations.run import URL_OPTION, migration_settings

log = get_logger(__name__)

#: An arbitrary constant. The lock serializes concurrent deployments.
_ADVISORY_LOCK = 7_413_905_211
#: Seconds before the migrations are tried again, after too long a wait for a lock. No commit is repeated.
_AGAIN_AFTER_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
#: `alembic check` compares all but comments: those of models are for engineers, of Postgres for people.
_COMPARED = ["alembic.autogenerate.*", "~alembic.autogenerate.comments"]
#: Seconds between two tries to get the lock. Postgres builds no index concurrently while another connection waits
#: in a statement for a lock of the builder.
_PAUSE_S = 0.5


def _migrate(connection: Connection) -> None:
    while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY_LOCK}).scalar_one():
        connection.rollback()
        time.sleep(_PAUSE_S)
    # Set after the advisory lock: its wait may be longer than lock_timeout.
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    current = MigrationContext.configure(connection).get_current_revision()
    check_preconditions(connection, current, ScriptDirectory.from_config(context.config).get_current_head())
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transaction_per_migration=True,
        autogenerate_plugins=_COMPARED,
    )
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
        _migrate_with_short_waits(engine)
    finally:
        engine.dispose()


def _migrate_with_short_waits(engine: Engine) -> None:
    for pause_s in _AGAIN_AFTER_S:
        if _has_all_locks(engine, pause_s):
            return
        time.sleep(pause_s)
    with engine.connect() as connection:
        _migrate(connection)


def _has_all_locks(engine: Engine, again_in_s: float) -> bool:
    """Migrate; False if a lock could not be had in time."""
    try:
        with engine.connect() as connection:
            _migrate(connection)
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        log.warning("migration_waits_for_lock", error=one_line(error.orig), again_in_s=again_in_s)
        return False
    return True


def _run_offline() -> None:
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    _run_offline()
else:
    _run_online()

"""Checks of the database and the login, before the first statement of a migration."""

from typing import Any

from sqlalchemy import Connection, text

from db.start_check import require_utf8
from dropline.errors import AccessDenied, DatabaseReadOnly

_FACTS = text("""
    SELECT current_database() AS database, current_user AS login,
           current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS is_standby,
           has_schema_privilege('public', 'CREATE') AS may_create,
           (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) AS may_create_roles,
           ARRAY(SELECT each FROM unnest(ARRAY['dropline_gallery', 'dropline_editor']) AS each
                 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = each)) AS missing_roles,
           coalesce((SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'dropline_migrator'), false)
               AS is_migrator
""")
_LET_READ = text("""
    DO $$ BEGIN
        IF to_regclass('public.alembic_version') IS NOT NULL
           AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'dropline_reader')
           AND NOT has_table_privilege('dropline_reader', 'public.alembic_version', 'SELECT')
        THEN
            GRANT SELECT ON public.alembic_version TO dropline_ingest, dropline_worker, dropline_reader;
        END IF;
    END $$
""")


def check_preconditions(connection: Connection, current: str | None, head: str | None) -> None:
    """Check encoding and server, and the rights if a migration is due.

    Args:
        connection: to the database.
        current: revision of the schema; None: no schema.
        head: newest revision of the packaged migrations.

    Raises:
        SettingsError: the database is not UTF8.
        DatabaseReadOnly: the server is a standby.
        AccessDenied: the login lacks a right.
    """
    facts = connection.execute(_FACTS).one()
    require_utf8(facts.database, facts.encoding)
    if facts.is_standby:
        raise DatabaseReadOnly(
            "this Postgres is a standby, which takes no writes: use the URL of the primary server"
        )
    if current != head and (lacking := _lacking(facts, is_first=current is None)):
        raise AccessDenied(
            f"the login {facts.login} lacks {lacking} in the database {facts.database}: set "
            "DROPLINE_DATABASE__URL to the login of the migrations"
        )


def _lacking(facts: Any, *, is_first: bool) -> str:
    """The missing right in words; empty if none is missing. The migrations 0001, 0004 and 0016 create roles."""
    if is_first and not facts.may_create:
        return "CREATE on the schema public"
    if not is_first and not facts.is_migrator:
        return "the role dropline_migrator"
    if facts.may_create_roles or (not facts.missing_roles and not is_first):
        return ""
    if is_first:
        return "CREATEROLE"
    statements = "; ".join(f"CREATE ROLE {role}" for role in facts.missing_roles)
    return f"CREATEROLE (or run `{statements}` before)"


def let_roles_read_revision(connection: Connection) -> None:
    """Let function, worker and readers compare the revisions of schema and code."""
    connection.execute(_LET_READ)

"""The check of a database on the first connection of a process: encoding, revision of the schema, rights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from db.revision import needed_revision
from dropline.errors import AccessDenied, SchemaOutdated, SettingsError
from dropline.log import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Needs:
    """The role of a process, and the rights needed by its statements."""

    role: str
    #: Rights by table, each as `SELECT` or `UPDATE`.
    rights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


#: The function.
INGEST = Needs(
    "dropline_ingest",
    {"captions": ("SELECT", "INSERT", "UPDATE"), "filtered_events": ("SELECT", "INSERT", "UPDATE")},
)
#: The worker. Not the rights on `workers`: a worker that cannot write its row there captions all the same.
WORKER = Needs("dropline_worker", {"captions": ("SELECT", "UPDATE"), "caption_history": ("INSERT",)})
#: Redrives, which run as the function's login.
OPERATOR = Needs("dropline_ingest", {"captions": ("SELECT", "UPDATE")})
#: Backfills and reconciliations, which run as the function's login.
BULK = Needs(
    "dropline_ingest",
    {"captions": ("SELECT", "INSERT", "UPDATE"), "backfills": ("SELECT", "INSERT", "UPDATE")},
)
#: Submissions and redrives of the gallery, and submissions of commands.
SUBMITTER = Needs("dropline_gallery", {"captions": ("SELECT", "INSERT", "UPDATE")})
#: Edits of captions by commands; the function's login may make them too.
EDITOR = Needs("dropline_editor", {"captions": ("SELECT",)})
#: Commands that only read.
READER = Needs(
    "dropline_reader", {"captions": ("SELECT",), "current_captions": ("SELECT",), "workers": ("SELECT",)}
)

_FACTS = """
    SELECT current_database(), current_user, current_setting('server_encoding'),
           to_regclass('public.captions') IS NOT NULL,
           has_table_privilege(to_regclass('public.alembic_version'), 'SELECT')
"""
_MISSING = """
    SELECT tables.name, string_agg(tables.privilege, ', ') FROM unnest(%s::text[], %s::text[])
           AS tables (name, privilege)
    WHERE NOT coalesce(
        -- The role dropline_gallery changes some of the columns.
        CASE WHEN tables.privilege IN ('INSERT', 'UPDATE')
             THEN has_any_column_privilege(to_regclass('public.' || tables.name), tables.privilege)
             ELSE has_table_privilege(to_regclass('public.' || tables.name), tables.privilege) END, true)
    GROUP BY tables.name ORDER BY tables.name
"""


@dataclass(frozen=True, slots=True)
class _Facts:
    database: str
    login: str
    encoding: str
    has_captions: bool
    #: None without a table of revisions.
    may_read_revision: bool | None


def check_start(connection: psycopg.Connection[Any], needs: Needs) -> None:
    """Check that the code can work with the database as the login. Three short reads.

    Raises:
        SettingsError: the database is not UTF8.
        SchemaOutdated: another program's database, an empty one, or an older schema than the code needs.
        AccessDenied: the login lacks a right.
        psycopg.Error: Postgres refused a read.
    """
    row = connection.execute(_FACTS).fetchone()
    assert row is not None
    facts = _Facts(*row)
    require_utf8(facts.database, facts.encoding)
    _require_schema(facts.database, has_captions=facts.has_captions)
    # Before the revision: a login without rights may not read the revision either.
    _require_rights(connection, facts, needs)
    _require_revision(facts.database, _revision(connection) if facts.may_read_revision else None)


def require_utf8(database: str, encoding: str) -> None:
    """Refuse a database whose encoding lacks characters of object names.

    Raises:
        SettingsError: the encoding is not UTF8.
    """
    if encoding != "UTF8":
        raise SettingsError(
            f"the database {database} has the encoding {encoding}, which cannot store every object name: create a "
            f"database with ENCODING 'UTF8' TEMPLATE template0, and name it in the URL"
        )


def _require_schema(database: str, *, has_captions: bool) -> None:
    if not has_captions:
        raise SchemaOutdated(
            f"the database {database} has no tables of Dropline: run `python -m migrations` on it, or correct the "
            "name of the database in the URL"
        )


def _require_revision(database: str, found: str | None) -> None:
    """Refuse an older schema; accept a newer one, since the migrations run before the code is rolled out."""
    needed = needed_revision()
    if found is None or found < needed:
        # Migrations before the first check did not let the roles read the revision.
        raise SchemaOutdated(
            f"the database {database} has the schema of revision {found or 'unknown'}, and this version needs "
            f"{needed}: run `python -m migrations` of this version on it"
        )
    if found != needed:
        log.info("schema_is_newer", revision=found, needed=needed)


def _revision(connection: psycopg.Connection[Any]) -> str | None:
    row = connection.execute("SELECT max(version_num) FROM public.alembic_version").fetchone()
    return None if row is None else row[0]


def _require_rights(connection: psycopg.Connection[Any], facts: _Facts, needs: Needs) -> None:
    pairs = [(table, right) for table, rights in needs.rights.items() for right in rights]
    tables, rights = [table for table, _ in pairs], [right for _, right in pairs]
    missing = connection.execute(_MISSING, (tables, rights)).fetchall()
    if missing:
        lacking = "; ".join(f"{lacked} on {table}" for table, lacked in missing)
        raise AccessDenied(
            f"the login {facts.login} lacks {lacking} in the database {facts.database}: grant it the role "
            f"{needs.role}, or set the URL to the login that has this role"
        )

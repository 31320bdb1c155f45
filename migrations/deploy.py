"""Migrate, then grant Dropline's roles to logins: `python -m migrations.deploy --grant dropline_ingest=LOGIN …`.

A named login has afterwards no role of people except by a `--grant`: an editor who becomes a
reader edits no more.

For a database in which each service account has a separate login, as with IAM logins. The migrations create the
roles, so the grants come after.
"""

import argparse
from collections.abc import Sequence

from psycopg import sql

from db.connections import Connector
from db.search_language import change_language
from db.session import make_engine
from dropline.log import get_logger
from dropline.settings import load_settings, require
from migrations.run import migration_settings, run_and_exit, upgrade

log = get_logger(__name__)

#: Roles of people and of the gallery, which a login may lose.
_REVOCABLE = ("dropline_reader", "dropline_editor", "dropline_gallery")
_HELD = """
    SELECT role.rolname, login.rolname FROM pg_auth_members AS held
    JOIN pg_roles AS role ON role.oid = held.roleid JOIN pg_roles AS login ON login.oid = held.member
    WHERE role.rolname = ANY (%s) AND login.rolname = ANY (%s)
"""

#: A role of Dropline, and a login.
Grant = tuple[str, str]


def deploy(url: str, grants: Sequence[Grant]) -> None:
    """Migrate to the newest revision, then grant and revoke. A repetition has no effect.

    Raises:
        sqlalchemy.exc.DBAPIError: Postgres refused, for example a grant to a login that does not exist.
    """
    upgrade(url)
    engine = make_engine(Connector(migration_settings(url), "dropline-deploy"))
    try:
        with engine.begin() as connection:
            for role, login in grants:
                statement = sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(login))
                connection.exec_driver_sql(statement.as_string())
            logins = sorted({login for _, login in grants})
            held = connection.exec_driver_sql(_HELD, (list(_REVOCABLE), logins)).all()
            for role, login in sorted({(role, login) for role, login in held} - set(grants)):
                statement = sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(role), sql.Identifier(login))
                connection.exec_driver_sql(statement.as_string())
                log.info("role_revoked", role=role, login=login)
    finally:
        engine.dispose()


def parse_grant(text: str) -> Grant:
    """Parse `dropline_worker=LOGIN`.

    Raises:
        argparse.ArgumentTypeError: the role is not one of Dropline's, or the login is empty.
    """
    role, _, login = text.partition("=")
    if not role.startswith("dropline_") or not login:
        raise argparse.ArgumentTypeError(f"{text!r} must look like dropline_worker=LOGIN")
    return role, login


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Migrates DROPLINE_DATABASE__URL, and grants Dropline's roles.")
    parser.add_argument("--grant", type=parse_grant, action="append", default=[], metavar="ROLE=LOGIN")
    parser.add_argument(
        "--search-language",
        metavar="NAME",
        help="the language of searches from now on, as `dropline search-language`",
    )
    options = parser.parse_args(arguments)
    settings = load_settings().database
    deploy(require(settings.url, "DROPLINE_DATABASE__URL"), options.grant)
    if options.search_language:
        rows = change_language(settings, options.search_language, log.info, lambda _: None)
        log.info("search_language_changed", language=options.search_language, rewritten=rows)


if __name__ == "__main__":
    run_and_exit(main)

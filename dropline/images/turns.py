"""Turns: the children of a worker decode the images that need much memory one after another."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dropline.errors import DecoderUnavailable

#: Between two attempts to lock, in seconds: a lock of a file has no time limit of its own.
_PAUSE_S = 0.05


class Turns:
    """A lock of all processes that inherit this object by a fork.

    A POSIX lock of a nameless file belongs to one process, which need not open the file again after the fork. The
    kernel releases the lock at the end of the process, however the process ends. Not a lock between threads.
    """

    def __init__(
        self,
        longest_wait_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create before the fork.

        Args:
            longest_wait_s: longest wait of `take`, in seconds.
            clock: monotonic, in seconds.
            sleep: takes seconds.
        """
        with tempfile.TemporaryFile() as file:
            # Open for as long as the worker: to close any descriptor of the file would release the lock.
            self._fd = os.dup(file.fileno())
        self._longest_wait_s = longest_wait_s
        self._clock = clock
        self._sleep = sleep

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold the lock for the block.

        Raises:
            DecoderUnavailable: other processes held the lock for the longest wait.
        """
        deadline = self._clock() + self._longest_wait_s
        while not self._is_locked():
            if self._clock() >= deadline:
                raise DecoderUnavailable(
                    f"other images that need much memory were decoded for {self._longest_wait_s:g} s; raise "
                    "DROPLINE_WORKER__MEMORY_BYTES and the memory of the worker, or lower "
                    "DROPLINE_WORKER__CONCURRENCY, if this happens often"
                )
            self._sleep(_PAUSE_S)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _is_locked(self) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # EACCES on some systems
            return False
        return True


@dataclass(frozen=True, slots=True)
class DecoderShare:
    """The memory of one of several decoder processes that share the limit of a container."""

    #: Bytes that an image may allocate at any time.
    share_bytes: int
    #: For images that need more, up to `child_memory_bytes` of the settings.
    turns: Turns

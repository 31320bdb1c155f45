"""Bytes on disk by key, bounded: the least recently used are deleted first."""

import contextlib
import hashlib
import os
import tempfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock


class DiskCache:
    """A cache in a separate directory. Threads may share the cache; processes may share the directory.

    A file appears whole or not at all. The cache can be deleted at any time.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """Create the directory, with access for this user alone.

        Args:
            directory: of the files; a file of another origin counts as a cached one.
            max_bytes: most bytes of all files.

        Raises:
            OSError: the directory cannot be created or read.
        """
        self._directory = directory
        self._max_bytes = max_bytes
        self._lock = Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        #: Sizes by file name, the least recently used first.
        self._sizes = _sizes_by_age(directory)
        self._total = sum(self._sizes.values())

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return self._total

    def get(self, key: str) -> bytes | None:
        """The bytes of `key`; None if the cache has none."""
        name = _file_name(key)
        path = self._directory / name
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            data = b""
        with self._lock:
            # An empty file is the rest of a power cut.
            if not data:
                self._total -= self._sizes.pop(name, 0)
            elif name in self._sizes:
                self._sizes.move_to_end(name)
        return data or None

    def put(self, key: str, data: bytes) -> None:
        """Keep `data`, unless the disk is full or `data` is larger than the cache may be."""
        if len(data) > self._max_bytes:
            return
        name = _file_name(key)
        with contextlib.suppress(OSError):
            self._write(name, data)
            with self._lock:
                self._total += len(data) - self._sizes.pop(name, 0)
                self._sizes[name] = len(data)
                self._evict()

    def _write(self, name: str, data: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self._directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(temporary).replace(self._directory / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _evict(self) -> None:
        while self._total > self._max_bytes:
            name, size = self._sizes.popitem(last=False)
            self._total -= size
            (self._directory / name).unlink(missing_ok=True)


def _file_name(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _sizes_by_age(directory: Path) -> OrderedDict[str, int]:
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    found.append((stat.st_mtime_ns, entry.name, stat.st_size))
    return OrderedDict((name, size) for _, name, size in sorted(found))

"""Where an engine's socket lies: in a directory of its own, which no other account can enter."""

import tempfile
from pathlib import Path

_PREFIX = "dropline-engine-"
_SOCKET = "engine.sock"


def make_directory() -> Path:
    """A new directory for one engine, among the temporary files."""
    return Path(tempfile.mkdtemp(prefix=_PREFIX))


def address_in(directory: Path) -> Path:
    """The socket of the engine that the directory belongs to."""
    return directory / _SOCKET


def find_addresses(temporary: Path) -> list[Path]:
    """The sockets among these temporary files; a worker that was killed has left its own."""
    return sorted(temporary.glob(f"{_PREFIX}*/{_SOCKET}"))

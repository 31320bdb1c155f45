"""The engine's Unix-domain socket: the path, and how to connect.

The socket is in a directory of its own, which no other account can enter. Imports the standard library only: the
health check of a container runs this module twice a minute.
"""

import contextlib
import socket
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

_PREFIX = "dropline-engine-"
_SOCKET = "engine.sock"


def make_directory() -> Path:
    """Make the directory of one engine among the temporary files."""
    return Path(tempfile.mkdtemp(prefix=_PREFIX))


def address_in(directory: Path) -> Path:
    """The socket in an engine's directory."""
    return directory / _SOCKET


def find_addresses(temporary: Path) -> list[Path]:
    """The engines' sockets in the directory for temporary files, also those of killed workers."""
    return sorted(temporary.glob(f"{_PREFIX}*/{_SOCKET}"))


def connect(address: Path, timeout_s: float) -> Connection:
    """Connect to an engine's socket; the returned connection blocks.

    Raises:
        ConnectionRefusedError: the worker of this socket was killed.
        OSError: no socket, or a full backlog, of children waiting for an engine that does not run.
    """
    with contextlib.ExitStack() as cleanup:
        client = cleanup.enter_context(socket.socket(socket.AF_UNIX))
        # With a timeout a full backlog is an error at once.
        client.settimeout(timeout_s)
        client.connect(str(address))
        client.setblocking(True)
        return Connection(client.detach())

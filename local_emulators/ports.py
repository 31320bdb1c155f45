"""The ports of the local services, always on 127.0.0.1."""

import contextlib
import socket
from dataclasses import dataclass, fields
from typing import Self

from local_emulators.errors import PortInUseError

HOST = "127.0.0.1"
DEFAULT_BASE = 18400


@dataclass(frozen=True)
class Ports:
    """Eight ports: consecutive from a base in the order of the fields, or free ports for parallel tests."""

    postgres: int
    redis: int
    #: Storage over plain HTTP, for client libraries and `gcloud`.
    gcs_http: int
    #: Storage over HTTPS with a self-signed certificate, for `gsutil`, which requires HTTPS.
    gcs_https: int
    pubsub: int
    function: int
    gallery: int
    #: Without `--flower` no service listens on the port.
    flower: int

    @classmethod
    def from_base(cls, base: int) -> Self:
        """The ports from `base` to `base + 7`, or eight free ports if `base` is 0."""
        count = len(fields(cls))
        return cls(*(free_ports(count) if base == 0 else range(base, base + count)))


#: Services by field, as in the error of a port that is taken.
SERVICES = {
    "postgres": "Postgres",
    "redis": "Redis",
    "gcs_http": "the storage emulator (HTTP)",
    "gcs_https": "the storage emulator (HTTPS, for gsutil)",
    "pubsub": "Pub/Sub",
    "function": "the function",
    "gallery": "the gallery",
    "flower": "Flower",
}


def free_ports(count: int) -> list[int]:
    """`count` different ports without a listener at the moment."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def require_free(port: int, service: str) -> None:
    """Raises PortInUseError if another program listens on `port`."""
    with socket.socket() as probe:
        # The servers set the same option: a connection in TIME_WAIT does not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PortInUseError(
                f"Port {port} on {HOST}, needed for {service}, is taken ({error.strerror}). "
                "Stop the program on that port, or choose other ports with --port-base (0 takes free ports)."
            ) from error

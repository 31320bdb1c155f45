"""Which port each local service listens on, always on 127.0.0.1."""

import contextlib
import socket
from dataclasses import dataclass, fields
from typing import Self

from local_emulators.errors import PortInUseError

HOST = "127.0.0.1"
DEFAULT_BASE = 18400


@dataclass(frozen=True)
class Ports:
    """Consecutive ports from a base, in this order; or free ones, for tests that run side by side."""

    postgres: int
    redis: int
    #: Storage over plain HTTP: client libraries and `gcloud`.
    gcs_http: int
    #: Storage over HTTPS with a self-signed certificate: `gsutil` speaks nothing else.
    gcs_https: int
    pubsub: int
    function: int
    gallery: int

    @classmethod
    def from_base(cls, base: int) -> Self:
        """The ports `base`, `base + 1`, …; seven free ones where `base` is 0."""
        count = len(fields(cls))
        return cls(*(free_ports(count) if base == 0 else range(base, base + count)))


def free_ports(count: int) -> list[int]:
    """`count` different ports that nothing listens on at this moment."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def require_free(port: int, service: str) -> None:
    """Raises PortInUseError where something listens on `port` already."""
    with socket.socket() as probe:
        # As the servers do themselves: connections that have just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PortInUseError(
                f"Port {port} on {HOST}, needed for {service}, is taken ({error.strerror}). "
                "Stop what listens there, or choose other ports with --port-base (0 takes free ones)."
            ) from error

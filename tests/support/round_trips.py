"""A proxy before Postgres that counts round trips: how often a client sends after the server has answered."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy.engine import make_url


@dataclass
class RoundTrips:
    """Handle on a running proxy."""

    #: Of the database behind the proxy.
    url: str
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self) -> None:
        """Count one."""
        with self._lock:
            self._count += 1

    def take(self) -> int:
        """The number since the last call."""
        with self._lock:
            count, self._count = self._count, 0
            return count


@contextlib.contextmanager
def counting(database_url: str) -> Iterator[RoundTrips]:
    """A proxy on a free port before the database of a URL; all connections end with the block."""
    target = make_url(database_url)
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as connections:
        proxied = target.set(host="127.0.0.1", port=server.getsockname()[1])
        trips = RoundTrips(proxied.render_as_string(hide_password=False))
        address = (target.host or "127.0.0.1", target.port or 5432)
        acceptor = threading.Thread(target=_accept, args=(server, address, trips, connections), daemon=True)
        acceptor.start()
        try:
            yield trips
        finally:
            server.shutdown(socket.SHUT_RDWR)
            acceptor.join()


def _accept(
    server: socket.socket, address: tuple[str, int], trips: RoundTrips, connections: contextlib.ExitStack
) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        upstream = socket.create_connection(address)
        connections.callback(_end, client, upstream)
        threading.Thread(target=_forward, args=(client, upstream, trips), daemon=True).start()


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def _forward(client: socket.socket, upstream: socket.socket, trips: RoundTrips) -> None:
    """Pass bytes in both directions; the client's first bytes after an answer begin a round trip."""
    answered = threading.Event()
    answered.set()

    def pass_answers() -> None:
        with contextlib.suppress(OSError):
            while data := upstream.recv(65536):
                # Before the client can react to the answer.
                answered.set()
                client.sendall(data)

    threading.Thread(target=pass_answers, daemon=True).start()
    with contextlib.suppress(OSError):
        while data := client.recv(65536):
            if answered.is_set():
                answered.clear()
                trips.add()
            upstream.sendall(data)
    _end(client, upstream)

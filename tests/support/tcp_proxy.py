"""A TCP proxy whose connections can become half-open: sockets stay connected, and no byte passes any more."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class TcpProxy:
    """Forwards each connection to a server, until `silence` is called; later connections are forwarded again."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        #: Replaced by `silence`: the connections of before share the set event.
        self._silent = threading.Event()
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        """Accept connections until `close`."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._address)
                self._open += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=_copy, args=(source, sink, self._silent), daemon=True).start()

    def silence(self) -> None:
        """Drop what present connections send from now on; both ends stay connected, as without a network."""
        silent, self._silent = self._silent, threading.Event()
        silent.set()

    def close(self) -> None:
        """Close all connections."""
        # A thread that waits in `accept` does not see a close.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for each in (self._listener, *self._open):
            each.close()


@contextlib.contextmanager
def open_proxy(host: str, port: int) -> Iterator[TcpProxy]:
    """A proxy before a server."""
    proxy = TcpProxy((host, port))
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()


def _copy(source: socket.socket, sink: socket.socket, silent: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            if not silent.is_set():
                sink.sendall(data)
        # The end of a connection passes too, unless the network is gone.
        if not silent.is_set():
            sink.shutdown(socket.SHUT_WR)

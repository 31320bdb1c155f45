"""Web servers with scripted answers, which count their connections."""

import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: Bytes of an answer, or a function that writes to the connection.
Answer = bytes | Callable[[socket.socket], None]


class Web:
    """A listening socket; counts connections, and keeps the heads of the requests."""

    def __init__(self, host: str, tls: ssl.SSLContext | None = None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family)
        self._tls = tls
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        #: Path → answer.
        self.answers: dict[str, Answer] = {}
        self.connections = 0
        self.requests: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path: str = "/cat.png", host: str = "") -> str:
        """The address of a path, by the host's IP address or another name."""
        name = host or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"http{'s' if self._tls else ''}://{name}:{self.port}{path}"

    def close(self) -> None:
        """Accept no more connections."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls is None:
                self._answer(connection)
                return
            with self._tls.wrap_socket(connection, server_side=True) as stream:
                self._answer(stream)

    def _answer(self, stream: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            block = stream.recv(65536)
            if not block:
                return
            head += block
        self.requests.append(head.decode("latin-1"))
        answer = self.answers[head.split(b" ", 2)[1].decode()]
        if isinstance(answer, bytes):
            stream.sendall(answer)
        else:
            answer(stream)
        stream.shutdown(socket.SHUT_WR)
        # The client closes first, and reads all bytes before.
        stream.recv(1)


@contextmanager
def serving(host: str, tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """A server at an address of this machine, on a free port."""
    web = Web(host, tls)
    try:
        yield web
    finally:
        web.close()


def ok(data: bytes, *headers: str) -> bytes:
    """An answer with status 200."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(data)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + data


def redirect(target: str, status: int = 302) -> bytes:
    """An answer with a redirect, a cookie, and a body that is not read."""
    head = f"HTTP/1.1 {status} Found\r\nLocation: {target}\r\nSet-Cookie: a=b\r\nContent-Length: 4\r\n\r\n"
    return head.encode() + b"body"


def certificate(directory: Path, name: str) -> Path:
    """A file with a self-signed certificate for a DNS name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / f"{name}.pem"
    path.write_bytes(pem)
    return path

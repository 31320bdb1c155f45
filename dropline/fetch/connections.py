"""Connections to public addresses, within a time limit.

The name is resolved once for each connection, every answer is checked, and the connection is made to a checked
address and not to the name. A name server that gives another answer a moment later has no effect. TLS still
verifies the certificate for the name, since httpcore2 starts TLS after the connection. A connection is used for
one request. Time limits of the callers are replaced by the deadline of the whole fetch.
"""

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any

import httpcore2

from dropline.deadline import Deadline
from dropline.errors import AddressRefused, FetchFailed, FetchTimeout
from dropline.fetch.addresses import why_refused
from dropline.fetch.urls import never, private, shown

#: Host name → IP addresses. Raises OSError for a name without addresses.
Resolver = Callable[[str], Sequence[str]]
#: Longest time for one of several addresses, in seconds.
_CONNECT_S = 10.0
_MOST_ADDRESSES = 8


def system_addresses(host: str) -> list[str]:
    """The addresses of a host by the resolver of the system, in its order."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedBackend(httpcore2.NetworkBackend):
    """Connects to permitted addresses only; every step ends at the deadline."""

    def __init__(self, resolve: Resolver, deadline: Deadline, *, allow_private: bool) -> None:
        self._resolve = resolve
        self._deadline = deadline
        self._allow_private = allow_private
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """A connection to the first address of the host that accepts one.

        Raises:
            AddressRefused: an address of the host is not public; no connection was made.
            FetchFailed: the host has no address.
            FetchTimeout, httpcore2.NetworkError, httpcore2.TimeoutException.
        """
        *others, last = self._checked_addresses(host)
        for address in others:
            try:
                return self._connect(address, port, _CONNECT_S, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._connect(last, port, left_s(self._deadline), socket_options)

    def _connect(
        self, address: str, port: int, seconds: float, options: Iterable[httpcore2.SOCKET_OPTION] | None
    ) -> httpcore2.NetworkStream:
        limit = min(seconds, left_s(self._deadline))
        return _TimedStream(self._sockets.connect_tcp(address, port, limit, None, options), self._deadline)

    def _checked_addresses(self, host: str) -> Sequence[str]:
        """All addresses of the host; one address that is not public refuses the host."""
        addresses = self._addresses(host)
        for address in addresses:
            if kind := why_refused(address, allow_private=self._allow_private):
                raise _refusal(host, address, kind)
        return addresses[:_MOST_ADDRESSES]

    def _addresses(self, host: str) -> Sequence[str]:
        if _is_address(host):
            return [host]
        try:
            addresses = _in_time(lambda: self._resolve(host), left_s(self._deadline))
        except (OSError, UnicodeError):
            addresses = ()
        if not addresses:
            raise FetchFailed(f"the host {shown(host)} has no address: check the spelling, or the name server")
        return addresses


class _TimedStream(httpcore2.NetworkStream):
    """A connection whose reads and writes end at the deadline, however often a byte arrives."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, left_s(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, left_s(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        # The time limit of Python's handshake covers the whole handshake.
        stream = self._stream.start_tls(ssl_context, server_hostname, left_s(self._deadline))
        return _TimedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def left_s(deadline: Deadline) -> float:
    """Seconds left, more than 0.

    Raises:
        FetchTimeout: none are left.
    """
    seconds = deadline.remaining_s()
    if seconds <= 0:
        raise FetchTimeout("the time limit has passed")
    return seconds


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _refusal(host: str, address: str, kind: str) -> AddressRefused:
    is_allowable = why_refused(address, allow_private=True) is None
    return (private if is_allowable else never)(host, kind)


def _in_time(effect: Callable[[], Sequence[str]], seconds: float) -> Sequence[str]:
    """The result of the effect. The resolver of C has no time limit of the caller: a late answer is not awaited.

    Raises:
        FetchTimeout: no result within the time.
    """
    results: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(effect())
        except Exception as error:  # noqa: BLE001 - raised by the waiting thread
            results.put(error)

    threading.Thread(target=run, name="resolve", daemon=True).start()
    try:
        result = results.get(timeout=seconds)
    except queue.Empty:
        raise FetchTimeout("the name server did not answer in time") from None
    if isinstance(result, Exception):
        raise result
    return result

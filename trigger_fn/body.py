"""The body of a request, bounded in bytes and in time: a slow or endless body holds a thread for seconds only."""

import contextlib
import io
import socket
from functools import partial
from typing import IO

from flask import Request, Response

from dropline.deadline import Bulkhead, Deadline
from dropline.errors import InvalidEvent, TransientError

#: A notification has some kilobytes: at most 8 KiB of metadata and a name of 1 KiB, in base64.
MAX_BODY_BYTES = 1_000_000
#: Longest duration of the reading of a body whose request has its answer already.
_REST_S = 0.3
_CHUNK_BYTES = 65_536


class BodyTooSlow(TransientError):
    """The body of a request did not arrive before the deadline."""

    default_code = "body_too_slow"


class Body:
    """The body of one request.

    gunicorn has no limit for the duration of a read, and reads a body that the application has left unread. So the
    reads are on a thread of `threads`, and end when the socket is shut down.
    """

    def __init__(self, request: Request, threads: Bulkhead) -> None:
        # The request is a proxy that other threads cannot use.
        self._stream: IO[bytes] = request.stream
        # functions-framework reads the rest of the stream after the answer, without a limit.
        request.stream = io.BytesIO()
        self._socket: socket.socket | None = request.environ.get("gunicorn.socket")
        self._declared_bytes = request.content_length or 0
        self._threads = threads
        self._is_finished = not self._declared_bytes and "Transfer-Encoding" not in request.headers
        self._is_cut = False

    def read(self, deadline: Deadline) -> bytes:
        """The whole body. A larger body is read to its end, so that the connection stays usable, and dropped.

        Raises:
            InvalidEvent: the body is larger than `MAX_BODY_BYTES`.
            BodyTooSlow: the deadline passed first.
        """
        late = BodyTooSlow("the body of the request did not arrive within the time that a request may take")
        try:
            size, kept = self._threads.run(partial(_read, self._stream), deadline, late)
        except BodyTooSlow:
            self._cut()
            raise
        self._is_finished = True
        if size > MAX_BODY_BYTES:
            raise InvalidEvent(f"the body has {size} bytes, above the {MAX_BODY_BYTES} of any notification")
        return kept

    def leave(self, response: Response) -> None:
        """Leave the connection ready for the next request, or have it closed after the response.

        A short body that has arrived is read, so that the client can read the response before the end of the
        connection. Any other body is left unread.
        """
        if not self._is_finished and not self._is_cut:
            self._read_rest()
        if self._is_cut and self._socket is not None:
            response.call_on_close(partial(_shut, self._socket, socket.SHUT_RDWR))

    def _read_rest(self) -> None:
        if self._declared_bytes > MAX_BODY_BYTES:
            self._cut()
            return
        with contextlib.suppress(BodyTooSlow, InvalidEvent):
            self.read(Deadline.after(_REST_S))

    def _cut(self) -> None:
        """End the read that waits on another thread."""
        self._is_cut = True
        if self._socket is not None:
            _shut(self._socket, socket.SHUT_RD)


def _read(stream: IO[bytes]) -> tuple[int, bytes]:
    """The size of the body, and the bytes of a body that is not too large."""
    chunks: list[bytes] = []
    size = 0
    while chunk := stream.read(_CHUNK_BYTES):
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            chunks.append(chunk)
    return size, b"".join(chunks)


def _shut(connection: socket.socket, direction: int) -> None:
    # The client may have closed the connection.
    with contextlib.suppress(OSError):
        connection.shutdown(direction)

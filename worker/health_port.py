"""An HTTP port of the worker's parent, for probes that cannot run a command, such as Cloud Run's.

`GET /healthz` is answered 200 while an engine greets, or all have been silent for less time than a start may take;
else 503 with the reason. One thread waits in `accept`: without a
request nothing runs. Redis and Postgres are not
asked: a restart of the container would repair neither.
"""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from dropline.errors import SettingsError
from worker.health import greeting_problem

_PATH = "/healthz"
#: Longest wait for the engine's greeting, in seconds: shorter than the timeout of the probes in terraform/.
_GREETING_S = 2.0
#: Longest wait for the head of a request, in seconds.
_REQUEST_S = 5.0
#: Pause after a connection that could not be accepted, in seconds.
_PAUSE_S = 1.0


class EngineHealth:
    """Whether an engine greets, or may still be starting."""

    def __init__(
        self,
        addresses: Callable[[], Sequence[Path]],
        start_timeout_s: float,
        now: Callable[[], float] = time.monotonic,
        greeting_s: float = _GREETING_S,
    ) -> None:
        """Begin the time in which all engines may be silent.

        Args:
            addresses: the sockets of the ready engines: connections to another engine would wait.
            start_timeout_s: longest start of an engine, in seconds.
            now: a clock, in seconds.
            greeting_s: longest wait for a greeting, in seconds.
        """
        self._addresses = addresses
        self._start_timeout_s = start_timeout_s
        self._now = now
        self._greeting_s = greeting_s
        self._greeted_at = now()

    def problem(self) -> str:
        """Why the worker is not healthy; empty if it is."""
        found = greeting_problem(self._addresses(), self._greeting_s)
        if not found:
            self._greeted_at = self._now()
            return ""
        silent_s = self._now() - self._greeted_at
        return "" if silent_s <= self._start_timeout_s else f"{found}; silent for {silent_s:.0f} s"


class HealthPort:
    """Answers the probes from a thread of its own, which ends with the process."""

    def __init__(self, port: int, health: EngineHealth) -> None:
        """Open no port yet. Port 0 is a free one."""
        self._address = ("", port)
        self._health = health
        self._server: socketserver.TCPServer | None = None

    @property
    def port(self) -> int:
        """The listening port; after the start."""
        assert self._server is not None
        number: int = self._server.server_address[1]
        return number

    def start(self) -> None:
        """Listen.

        Raises:
            SettingsError: the port is taken, or may not be used.
        """
        try:
            self._server = _Server(self._address, _handler_for(self._health))
        except OSError as error:
            raise SettingsError(
                f"DROPLINE_WORKER__HEALTH_PORT {self._address[1]} cannot be used: {error}"
            ) from None
        threading.Thread(target=self._serve, args=(self._server,), name="health-port", daemon=True).start()

    def close(self) -> None:
        """Close this process's copy of the socket."""
        if self._server is not None:
            self._server.socket.close()

    @staticmethod
    def _serve(server: socketserver.TCPServer) -> None:
        # `serve_forever` looks twice a second whether to stop; this waits for the next request.
        while True:
            server.handle_request()


class _Server(socketserver.ThreadingTCPServer):
    """A thread for each caller: a slow caller holds up no other."""

    allow_reuse_address = True
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            # Such as too many open files: the next call would fail at once too.
            time.sleep(_PAUSE_S)
            raise

    def handle_error(self, *_: object) -> None:
        """A caller that went away is no event of the worker."""


def _handler_for(health: EngineHealth) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_S

        def do_GET(self) -> None:
            if self.path != _PATH:
                self._answer(HTTPStatus.NOT_FOUND, f"only {_PATH} is served")
            elif problem := health.problem():
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, problem)
            else:
                self._answer(HTTPStatus.OK, "healthy")

        def _answer(self, status: HTTPStatus, text: str) -> None:
            body = f"{text}\n".encode()
            self.send_response(status)
            self.send_header("content-type", "text/plain; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write no line: a child may be forked meanwhile, and would inherit the lock of the log."""

    return Handler

"""What the stand-ins for Google's HTTP APIs have in common: a server on a free port, and answers in JSON."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class StandInServer(ThreadingHTTPServer):
    """A server on a free port of 127.0.0.1."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        """The address, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_port}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serve while the block lasts."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class JsonHandler(BaseHTTPRequestHandler):
    """Reads bodies, and answers in JSON."""

    protocol_version = "HTTP/1.1"

    def read_body(self) -> bytes:
        """The whole body."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def refuse(self, status: int, message: str) -> None:
        """Answer with an error in Google's form."""
        self.answer(status, {"error": {"code": status, "message": message}})

    def answer(self, status: int, resource: dict[str, Any]) -> None:
        """Answer with a document; the client may be gone."""
        body = json.dumps(resource).encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Do not print: the handle of a stand-in has the log."""

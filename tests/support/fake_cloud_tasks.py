"""Cloud Tasks' API for one queue: POST of tasks over HTTP, with faults, and the tasks taken."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

QUEUE = "projects/drops/locations/europe-west4/queues/wake"


@dataclass
class FakeCloudTasks:
    """Handle on a running stand-in."""

    url: str
    #: The tasks taken, in order.
    tasks: list[dict[str, Any]] = field(default_factory=list)
    #: Statuses of the next answers; without one, a task is taken.
    failures: list[int] = field(default_factory=list)

    def times(self) -> list[datetime]:
        """The times for which the tasks were taken."""
        return [datetime.fromisoformat(task["scheduleTime"]) for task in self.tasks]


@contextlib.contextmanager
def serve() -> Iterator[FakeCloudTasks]:
    """A stand-in on a free port while the block lasts."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.queue = FakeCloudTasks(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.queue
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    queue: FakeCloudTasks


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.queue.failures:
            return self._answer(self.server.queue.failures.pop(0), {"error": {"message": "told to fail"}})
        if self.path != f"/v2/{QUEUE}/tasks":
            return self._answer(HTTPStatus.NOT_FOUND, {"error": {"message": "no such queue"}})
        task = json.loads(body)["task"]
        self.server.queue.tasks.append(task)
        return self._answer(HTTPStatus.OK, {"name": f"{QUEUE}/tasks/1", **task})

    def _answer(self, status: int, resource: dict[str, Any]) -> None:
        body = json.dumps(resource).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Do not print: `FakeCloudTasks.tasks` is the log."""

"""Cloud Tasks' API for one queue: POST of tasks over HTTP, with faults, and the tasks taken."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any

from tests.support.http_stand_in import JsonHandler, StandInServer

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
    server = _Server(_Handler)
    server.queue = FakeCloudTasks(server.url)
    with server.serving():
        yield server.queue


class _Server(StandInServer):
    queue: FakeCloudTasks


class _Handler(JsonHandler):
    server: _Server

    def do_POST(self) -> None:  # noqa: N802 - called by the base class
        body = self.read_body()
        if self.server.queue.failures:
            return self.refuse(self.server.queue.failures.pop(0), "told to fail")
        if self.path != f"/v2/{QUEUE}/tasks":
            return self.refuse(HTTPStatus.NOT_FOUND, "no such queue")
        task = json.loads(body)["task"]
        self.server.queue.tasks.append(task)
        return self.answer(HTTPStatus.OK, {"name": f"{QUEUE}/tasks/1", **task})

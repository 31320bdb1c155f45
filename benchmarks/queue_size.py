"""Memory of Redis per waiting image: the function's messages are published, and the memory is read.

python -m benchmarks.queue_size [--messages 20000]
"""

from dataclasses import dataclass
from typing import Annotated, Any

import redis as client
import typer

from benchmarks.figures import Figure, section, shown
from benchmarks.stack import open_directory
from dropline.broker.queue import CaptionQueue
from dropline.contract import CAPTION_QUEUE
from dropline.deadline import Deadline
from dropline.errors import DroplineError
from dropline.settings import BrokerSettings
from local_emulators import redis
from local_emulators.ports import free_ports
from local_emulators.supervisor import Supervisor

#: Row ids of the length in a table with more than a billion rows.
_FIRST_ROW = 1_000_000_000
_DEADLINE_S = 60.0


@dataclass(frozen=True)
class QueueSizeResult:
    """The size of messages in Redis."""

    title = "Messages that wait in Redis"
    messages: int
    #: Of one message in the list.
    body_bytes: int
    #: Growth of `used_memory`, which the size of the instance limits.
    used_bytes: int
    version: str

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        return [
            Figure("messages", f"{self.messages:,}, as the function publishes them"),
            Figure("one message", f"{self.body_bytes} bytes"),
            Figure("**memory per waiting image**", f"**{shown(self.used_bytes / self.messages)} bytes**"),
            Figure("server", self.version),
        ]


def main(messages: Annotated[int, typer.Option(help="Messages to publish.", min=100)] = 20_000) -> None:
    """Measure bytes per message in a new Valkey."""
    try:
        result = measure_queue_size(messages)
    except DroplineError as error:
        typer.echo(f"There is no result: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo("\n".join(section(result.title, result.figures())))


def measure_queue_size(messages: int) -> QueueSizeResult:
    """Publish `messages` messages without a worker.

    Raises:
        LocalStackError: the server does not start.
        BrokerUnavailable: the server does not accept a message.
    """
    with open_directory() as directory, Supervisor(directory / "logs") as supervisor:
        server = redis.start(supervisor, directory / "redis", free_ports(1)[0], "benchmark")
        with client.Redis.from_url(server.url) as connection:
            queue = CaptionQueue.connect(BrokerSettings.model_validate({"url": server.url}))
            try:
                return _measured(connection, queue, messages)
            finally:
                queue.close()


def _measured(connection: Any, queue: CaptionQueue, messages: int) -> QueueSizeResult:
    # The first message also creates the connection's buffers and the queue's binding.
    queue.enqueue(_FIRST_ROW, Deadline.after(_DEADLINE_S))
    before = connection.info("memory")["used_memory"]
    for number in range(1, messages + 1):
        queue.enqueue(_FIRST_ROW + number, Deadline.after(_DEADLINE_S))
    used = connection.info("memory")["used_memory"] - before
    found = connection.llen(CAPTION_QUEUE)
    if found != messages + 1:
        raise DroplineError(f"{found} messages are on Redis where {messages + 1} should be")
    version = str(connection.info("server").get("valkey_version", "of an unknown version"))
    return QueueSizeResult(messages, len(connection.lindex(CAPTION_QUEUE, 0)), int(used), f"Valkey {version}")


if __name__ == "__main__":
    typer.run(main)

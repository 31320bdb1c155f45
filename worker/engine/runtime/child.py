"""The engine's end of the line to one child."""

import contextlib
import os
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from multiprocessing.reduction import send_handle

from worker.engine import slot, wire
from worker.engine.slot import Pixels
from worker.engine.wire import CaptionRequest


class Child:
    """A connection that one thread reads, another answers on, and either may find broken."""

    def __init__(self, connection: Connection, pixels: Pixels) -> None:
        self._connection = connection
        self._pixels = pixels
        self._slot = slot.create()
        self._sending = threading.Lock()
        self._closed = False

    def greet(self, authkey: bytes, hello: wire.Hello) -> None:
        """Make sure that the child knows the key, then give it what it must know, and its slot.

        Raises:
            EOFError, OSError, multiprocessing.AuthenticationError: this will be no child of ours.
        """
        deliver_challenge(self._connection, authkey)
        answer_challenge(self._connection, authkey)
        self._connection.send_bytes(hello.encode())
        send_handle(self._connection, self._slot, None)

    def receive(self) -> wire.FromChild:
        """The next message; blocks.

        Raises:
            EOFError, OSError: the child has hung up.
            pydantic.ValidationError: it talks nonsense.
        """
        return wire.from_child(self._connection.recv_bytes(wire.MAX_CHILD_MESSAGE_BYTES))

    def request(self, message: wire.Request) -> CaptionRequest:
        """The request of a message, with the pixels from the slot; valid until the child's next request.

        Raises:
            OSError: the slot holds no whole image.
            InvalidTask: no task of Florence-2.
        """
        slot.read(self._slot, self._pixels)
        return message.with_pixels(self._pixels)

    def send(self, message: wire.FromEngine) -> None:
        """Answer; a child that is gone is passed over, as its reading thread will notice."""
        with self._sending, contextlib.suppress(OSError):
            if not self._closed:
                self._connection.send_bytes(message.encode())

    def close(self) -> None:
        """Hang up and let go of the slot."""
        with self._sending:
            self._closed = True
            self._connection.close()
            os.close(self._slot)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A request in the queue."""

    child: Child
    id: int
    request: CaptionRequest

    @property
    def isolated(self) -> bool:
        """Whether the request must run in a batch of its own."""
        return self.request.isolated

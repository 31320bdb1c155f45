"""What a worker's child calls to have an image captioned. Imports no torch."""

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from multiprocessing.reduction import recv_handle
from types import TracebackType
from typing import Self

from dropline.contract import Caption, ImageInfo, TaskRequest
from dropline.errors import EngineLost, EngineUnavailable, InferenceFailed
from worker.engine import slot, wire
from worker.engine.slot import Pixels

_BROKEN = (EOFError, OSError, AuthenticationError)
#: Longest wait for an engine that is loading, in seconds: far less than a task's time limit.
_GREETING_TIMEOUT_S = 30.0


class EngineClient:
    """One child's line to the engine: connects on first use, and again after every break.

    Not thread-safe, and to be created after the fork: it carries one request at a time.
    """

    def __init__(self, address: str, authkey: bytes) -> None:
        self._address = address
        self._authkey = authkey
        self._line: _Line | None = None
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def input_size(self) -> int:
        """Pixels per side of the square image that `caption` takes.

        Raises:
            EngineUnavailable: the engine cannot be reached.
        """
        return self._connected().hello.input_size

    @property
    def model(self) -> str:
        """Checkpoint the engine serves, as configured.

        Raises:
            EngineUnavailable: the engine cannot be reached.
        """
        return self._connected().hello.model

    @property
    def model_revision(self) -> str:
        """Commit of the checkpoint, or a digest of its weights.

        Raises:
            EngineUnavailable: the engine cannot be reached.
        """
        return self._connected().hello.model_revision

    def announce(self) -> None:
        """Tell the engine that a request is on its way, so that a batch may wait a moment for it.

        Raises:
            EngineUnavailable: the engine cannot be reached.
        """
        with self._unharmed() as line:
            line.send(wire.Announce())

    def retract(self) -> None:
        """Tell the engine that the announced request will not come. Never fails and never connects."""
        if self._line:
            with contextlib.suppress(EngineUnavailable), self._unharmed() as line:
                line.send(wire.Retract())

    def caption(
        self,
        pixels: Pixels,
        task: TaskRequest,
        original: ImageInfo,
        *,
        isolated: bool = False,
        timeout_s: float,
    ) -> Caption:
        """Caption one image.

        Args:
            pixels: uint8 `[input_size, input_size, 3]`, RGB.
            task: the task prompt.
            original: size of the upright original, whose pixels `Caption.result` counts in.
            isolated: run it alone, because it may be what killed an engine before.
            timeout_s: longest wait for the answer, in seconds.

        Raises:
            EngineUnavailable: the engine was not reached, went away before it began, or gave no answer in time.
            EngineLost: the engine died while it ran this request.
            InferenceFailed: the model cannot caption this image.
            ValueError: the pixels have another shape.
        """
        with self._unharmed() as line:
            shape = (line.hello.input_size, line.hello.input_size, 3)
            if pixels.shape != shape or pixels.dtype != "uint8":
                raise ValueError(f"pixels must be uint8 {shape}, not {pixels.dtype} {pixels.shape}")
            ask = wire.Ask(
                id=next(self._ids),
                task=str(task),
                width=original.width,
                height=original.height,
                isolated=isolated,
            )
            slot.write(line.slot, pixels)
            line.send(ask)
            answer = line.wait_for(ask.id, timeout_s)
            hello = line.hello
        if isinstance(answer, wire.Refusal):
            raise (EngineUnavailable if answer.transient else InferenceFailed)(answer.message)
        return Caption(answer.text, answer.result, hello.model, hello.model_revision)

    def close(self) -> None:
        """Hang up; the next call connects again."""
        if self._line:
            line, self._line = self._line, None
            line.close()

    def _connected(self) -> "_Line":
        if self._line is None:
            self._line = _Line.open(self._address, self._authkey)
        return self._line

    @contextlib.contextmanager
    def _unharmed(self) -> Iterator["_Line"]:
        """Hang up whatever goes wrong, time limits included: a half-read answer must not meet the next request."""
        line = self._connected()
        try:
            yield line
        except _BROKEN as error:
            self.close()
            kind = EngineLost if line.started else EngineUnavailable
            doing = "while it ran this request" if line.started else "before it began with this request"
            raise kind(f"the engine went away {doing} ({_said(error)}); try again in a moment") from error
        except BaseException:
            self.close()
            raise


class _Line:
    """An open connection and the slot that belongs to it."""

    def __init__(self, connection: Connection, hello: wire.Hello, slot_fd: int) -> None:
        self._connection = connection
        self.hello = hello
        self.slot = slot_fd
        #: Whether the model has begun with the request under way.
        self.started = False

    @classmethod
    def open(cls, address: str, authkey: bytes) -> "_Line":
        with contextlib.ExitStack() as cleanup:
            try:
                connection = cleanup.enter_context(_connect(address))
                hello, slot_fd = _greet(connection, authkey)
            except _BROKEN as error:
                raise EngineUnavailable(
                    f"the engine at {address} cannot be reached ({_said(error)}); it is starting, stopping or has "
                    "died: look for engine_ready in the worker's log"
                ) from error
            cleanup.pop_all()
        return cls(connection, hello, slot_fd)

    def send(self, message: wire.FromChild) -> None:
        self.started = False
        self._connection.send_bytes(message.encode())

    def wait_for(self, request_id: int, timeout_s: float) -> wire.Answer | wire.Refusal:
        deadline = time.monotonic() + timeout_s
        while self._connection.poll(max(0.0, deadline - time.monotonic())):
            message = wire.from_engine(self._connection.recv_bytes())
            if isinstance(message, wire.Hello) or message.id != request_id:
                continue
            if not isinstance(message, wire.Started):
                self.started = False
                return message
            self.started = True
        raise EngineUnavailable(
            f"the engine gave no answer within {timeout_s:g} s; it is overloaded or hangs: "
            "see DROPLINE_ENGINE__REQUEST_TIMEOUT_S and DROPLINE_WORKER__CONCURRENCY"
        )

    def close(self) -> None:
        os.close(self.slot)
        self._connection.close()


def _connect(address: str) -> Connection:
    with contextlib.ExitStack() as cleanup:
        line = cleanup.enter_context(socket.socket(socket.AF_UNIX))
        # With a timeout a full backlog, of children that gave up on an engine that is away, is an error at once.
        line.settimeout(_GREETING_TIMEOUT_S)
        line.connect(address)
        line.setblocking(True)
        return Connection(line.detach())


def _greet(connection: Connection, authkey: bytes) -> tuple[wire.Hello, int]:
    if not connection.poll(_GREETING_TIMEOUT_S):
        raise TimeoutError(f"no greeting within {_GREETING_TIMEOUT_S:g} s")
    answer_challenge(connection, authkey)
    deliver_challenge(connection, authkey)
    hello = wire.from_engine(connection.recv_bytes())
    if not isinstance(hello, wire.Hello):
        raise OSError(f"a greeting was expected, not {hello.op}")
    slot_fd = recv_handle(connection)
    os.set_inheritable(slot_fd, False)
    return hello, slot_fd


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__

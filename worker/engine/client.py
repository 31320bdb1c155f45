"""The client of the engine, for a worker's children. Imports no torch."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from multiprocessing.reduction import recv_handle
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from dropline.contract import Caption
from dropline.errors import EngineLost, EngineUnavailable, InferenceFailed
from worker.engine import slot, wire
from worker.engine.sockets import connect
from worker.engine.wire import CaptionRequest

_CONNECTION_ERRORS = (EOFError, OSError, AuthenticationError)
#: Longest wait for an engine that is loading, in seconds: far less than a task's time limit.
_HANDSHAKE_TIMEOUT_S = 30.0

T = TypeVar("T")


class _NotBegun(EngineUnavailable):
    """The connection ended before the engine began with the request: the request may be sent once more."""


class EngineClient:
    """One child's connection to the engine: opened on first use, and again after every error.

    Not thread-safe: one request at a time. Create a client after the fork.
    """

    def __init__(self, address: str, authkey: bytes) -> None:
        self._address = address
        self._authkey = authkey
        self._connection: _EngineConnection | None = None
        self._ids = itertools.count(1)
        #: Number of the engine that this client was connected with last; 0 before the first connection.
        self.engine = 0
        self._model: tuple[str, str] | None = None

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
        return self._connected().input_size

    @property
    def model(self) -> tuple[str, str] | None:
        """Checkpoint and revision of the engine; None if no engine was reached yet."""
        if self._model is None:
            with contextlib.suppress(EngineUnavailable):
                self._connected()
        return self._model

    def announce(self) -> None:
        """Tell the engine that a request will follow, so that a batch may wait a moment for the request.

        Raises:
            EngineUnavailable: the engine cannot be reached.
        """
        self._once_more_if_stale(lambda connection: connection.send(wire.Announce()))

    def retract(self) -> None:
        """Tell the engine that the announced request will not follow. Never fails and never connects."""
        if self._connection:
            with contextlib.suppress(EngineUnavailable), self._closed_on_error() as connection:
                connection.send(wire.Retract())

    def caption(self, request: CaptionRequest, *, timeout_s: float) -> Caption:
        """Caption one image.

        Args:
            request: image and task.
            timeout_s: longest wait for the caption, in seconds.

        Raises:
            EngineUnavailable: the engine was not reached, ended before the batch, or sent no caption in time.
            EngineLost: the engine died during the batch of this request.
            InferenceFailed: the model cannot caption this image.
            ValueError: the pixels have another shape.
        """
        (outcome,) = self.caption_all([request], timeout_s=timeout_s)
        if isinstance(outcome, Caption):
            return outcome
        raise outcome

    def caption_all(
        self, requests: Sequence[CaptionRequest], *, timeout_s: float
    ) -> list[Caption | EngineUnavailable | InferenceFailed]:
        """Answer several tasks of one image with one message to the engine.

        Args:
            requests: 1 to `MAX_TASKS`, of the same pixels.
            timeout_s: as of `caption`, for all together.

        Returns:
            The caption or the error of each task, in order.

        Raises:
            EngineUnavailable, EngineLost, ValueError: as of `caption`; no task is answered.
        """
        deadline = time.monotonic() + timeout_s
        answered = self._once_more_if_stale(lambda connection: self._answer(connection, requests, deadline))
        return [_outcome(each) for each in answered.outcomes]

    def close(self) -> None:
        """Close the connection; the next call opens a new connection."""
        if self._connection:
            connection, self._connection = self._connection, None
            connection.close()

    def _answer(
        self, connection: "_EngineConnection", requests: Sequence[CaptionRequest], deadline: float
    ) -> wire.Answered:
        pixels = requests[0].pixels
        _check_pixels(pixels, connection.input_size)
        message = wire.Request.of(next(self._ids), requests)
        slot.write(connection.slot, pixels)
        connection.send(message)
        return connection.wait_for(message.id, deadline)

    def _once_more_if_stale(self, use: Callable[["_EngineConnection"], T]) -> T:
        """Use the connection; once more with a new one if the engine of an older connection has ended meanwhile.

        Only where that engine had not begun with the request, so that no image runs twice.
        """
        if self._connection is not None:
            with contextlib.suppress(_NotBegun), self._closed_on_error() as connection:
                return use(connection)
        with self._closed_on_error() as connection:
            return use(connection)

    def _connected(self) -> "_EngineConnection":
        if self._connection is None:
            self._connection = _EngineConnection.open(self._address, self._authkey)
            self.engine = self._connection.engine
            self._model = self._connection.model
        return self._connection

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator["_EngineConnection"]:
        """Close the connection on any error, time limits too: the next request must not read an old answer."""
        connection = self._connected()
        try:
            yield connection
        except _CONNECTION_ERRORS as error:
            self.close()
            if connection.started:
                raise EngineLost(_ended("while it ran this request", error)) from error
            raise _NotBegun(_ended("before it began with this request", error)) from error
        except BaseException:
            self.close()
            raise


class _EngineConnection:
    """An open connection to the engine, and the slot of the connection."""

    def __init__(self, socket: Connection, hello: wire.Hello, slot_fd: int) -> None:
        self._socket = socket
        self.engine = hello.engine
        self.input_size = hello.input_size
        self.model = (hello.model, hello.revision)
        self.slot = slot_fd
        #: Whether the model has begun with the current request.
        self.started = False

    @classmethod
    def open(cls, address: str, authkey: bytes) -> "_EngineConnection":
        with contextlib.ExitStack() as cleanup:
            try:
                socket = cleanup.enter_context(connect(Path(address), _HANDSHAKE_TIMEOUT_S))
                hello, slot_fd = _handshake(socket, authkey)
            except _CONNECTION_ERRORS as error:
                raise EngineUnavailable(
                    f"the engine at {address} cannot be reached ({_reason(error)}); it is starting, stopping or "
                    "has died: look for engine_ready in the worker's log"
                ) from error
            cleanup.pop_all()
        return cls(socket, hello, slot_fd)

    def send(self, message: wire.FromChild) -> None:
        self.started = False
        self._socket.send_bytes(message.encode())

    def wait_for(self, request_id: int, deadline: float) -> wire.Answered:
        while self._socket.poll(max(0.0, deadline - time.monotonic())):
            message = wire.from_engine(self._socket.recv_bytes())
            if isinstance(message, wire.Hello) or message.id != request_id:
                continue
            if not isinstance(message, wire.Started):
                self.started = False
                return message
            self.started = True
        raise EngineUnavailable(
            "the engine gave no answer in time; it is overloaded or hangs: "
            "see DROPLINE_ENGINE__REQUEST_TIMEOUT_S and DROPLINE_WORKER__CONCURRENCY"
        )

    def close(self) -> None:
        os.close(self.slot)
        self._socket.close()


def _outcome(answer: wire.Captioned | wire.Failed) -> Caption | EngineUnavailable | InferenceFailed:
    if isinstance(answer, wire.Captioned):
        return answer.caption
    if answer.transient:
        return EngineUnavailable(answer.message)
    return InferenceFailed(answer.message, code=answer.code)


def _check_pixels(pixels: slot.Pixels, input_size: int) -> None:
    shape = (input_size, input_size, 3)
    if pixels.shape != shape or pixels.dtype != "uint8":
        raise ValueError(f"pixels must be uint8 {shape}, not {pixels.dtype} {pixels.shape}")


def _handshake(socket: Connection, authkey: bytes) -> tuple[wire.Hello, int]:
    """Prove the key and receive the greeting and the slot's descriptor."""
    if not socket.poll(_HANDSHAKE_TIMEOUT_S):
        raise TimeoutError(f"no greeting within {_HANDSHAKE_TIMEOUT_S:g} s")
    answer_challenge(socket, authkey)
    deliver_challenge(socket, authkey)
    hello = wire.from_engine(socket.recv_bytes())
    if not isinstance(hello, wire.Hello):
        raise OSError(f"a greeting was expected, not {hello.op}")
    slot_fd = recv_handle(socket)
    os.set_inheritable(slot_fd, False)
    return hello, slot_fd


def _ended(when: str, error: BaseException) -> str:
    return f"the engine ended {when} ({_reason(error)}); try again in a moment"


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__

"""Serves a model to the children of a worker over a Unix-domain socket."""

import contextlib
import faulthandler
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from multiprocessing.reduction import send_handle

from pydantic import ValidationError

from dropline.contract import Caption
from dropline.errors import DroplineError, InferenceFailed, InvalidTask, TransientError
from dropline.log import get_logger
from dropline.settings import EngineSettings
from worker.engine import slot, wire
from worker.engine.process import LoadedModel
from worker.engine.runtime.batcher import Batcher, run_with_bisection
from worker.engine.runtime.flow import Flow
from worker.engine.runtime.model import NON_FINITE_LOGITS, BatchTooLarge, Model, Stream
from worker.engine.slot import Pixels
from worker.engine.wire import CaptionRequest

#: A batch that takes longer than this share of the children's request timeout counts as hanging.
_HANG_TIMEOUT_SHARE = 0.8
#: Share of it that each step of priority may add to the wait of a request.
_PRIORITY_TIMEOUT_SHARE = 0.05

_log = get_logger(__name__)


class ChildConnection:
    """The engine's end of the connection to one child, and the child's slot.

    One thread receives and another thread sends; either may find the connection broken.
    """

    def __init__(self, connection: Connection, pixels: Pixels) -> None:
        self._connection = connection
        self._pixels = pixels
        self._slot = slot.create()
        self._sending = threading.Lock()
        self._closed = False

    def greet(self, authkey: bytes, hello: wire.Hello) -> None:
        """Check the child's key, then send the greeting and the slot's descriptor.

        Raises:
            EOFError, OSError, multiprocessing.AuthenticationError: the connection is not from a child.
        """
        deliver_challenge(self._connection, authkey)
        answer_challenge(self._connection, authkey)
        self._connection.send_bytes(hello.encode())
        send_handle(self._connection, self._slot, None)

    def receive(self) -> wire.FromChild:
        """The next message; blocks.

        Raises:
            EOFError, OSError: the child has closed the connection.
            pydantic.ValidationError: no message of the protocol.
        """
        return wire.from_child(self._connection.recv_bytes(wire.MAX_CHILD_MESSAGE_BYTES))

    def read_request(self, message: wire.Request) -> list[CaptionRequest]:
        """The requests of a message, one for each task, with the pixels from the slot.

        They are valid until the child's next request.

        Raises:
            OSError: the slot holds no whole image.
            InvalidTask: Florence-2 has no such task.
        """
        slot.read(self._slot, self._pixels)
        return message.with_pixels(self._pixels)

    def send(self, message: wire.FromEngine) -> None:
        """Send a message; ignores a broken connection, which the receiving thread notices."""
        with self._sending, contextlib.suppress(OSError):
            if not self._closed:
                self._connection.send_bytes(message.encode())

    @property
    def closed(self) -> bool:
        """Whether the child is gone."""
        return self._closed

    def close(self) -> None:
        """Close the connection and the slot."""
        with self._sending:
            self._closed = True
            self._connection.close()
            os.close(self._slot)


@dataclass(frozen=True, slots=True, eq=False)
class PendingRequest:
    """A request in the queue or in a batch."""

    child: ChildConnection
    id: int
    #: One for each task; all have the same pixels.
    requests: list[CaptionRequest]

    @property
    def isolated(self) -> bool:
        """True if the request must run in a batch of its own."""
        return self.requests[0].isolated

    @property
    def size(self) -> int:
        """Number of tasks."""
        return len(self.requests)

    @property
    def priority(self) -> int:
        """Of the row."""
        return self.requests[0].priority


def _message(outcome: Caption | DroplineError) -> wire.Captioned | wire.Failed:
    if isinstance(outcome, Caption):
        return wire.Captioned(caption=outcome)
    return wire.Failed(transient=isinstance(outcome, TransientError), code=outcome.code, message=str(outcome))


class Server:
    """The engine's threads: one receives per child, one accepts connections, and the caller's runs the model."""

    def __init__(
        self, model: Model, settings: EngineSettings, listener_fd: int, authkey: bytes, number: int
    ) -> None:
        """Serve on a socket that already listens; children may be waiting in the backlog."""
        self._model = model
        self._hang_timeout_s = settings.request_timeout_s * _HANG_TIMEOUT_SHARE
        self._authkey = authkey
        self._hello = wire.Hello(
            input_size=model.input_size, engine=number, model=model.name, revision=model.revision
        )
        found = min(settings.max_batch, model.largest_batch)
        most = settings.max_batch if model.may_grow else found
        self._batcher: Batcher[PendingRequest] = Batcher(
            most,
            settings.max_wait_ms / 1000,
            begin=found,
            priority_s=settings.request_timeout_s * _PRIORITY_TIMEOUT_SHARE,
        )
        self._listener = socket.socket(fileno=listener_fd)

    @property
    def loaded(self) -> LoadedModel:
        """The model, for the parent's report."""
        return LoadedModel(
            name=self._model.name,
            revision=self._model.revision,
            device=self._model.device,
            largest_batch=self._batcher.max_batch,
        )

    def run(self) -> None:
        """Caption requests until `stop`.

        Raises:
            Exception: the model is broken for every image; the process has to end.
        """
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        if self._model.stream:
            self._flow(self._model.stream).run()
        while batch := self._batcher.next_batch():
            self._caption(batch)

    def stop(self) -> None:
        """Let `run` return after the requests that are under way."""
        self._batcher.close()

    def _flow(self, stream: Stream) -> Flow[PendingRequest]:
        return Flow(
            stream,
            self._batcher,
            watched=lambda: _exit_if_hanging(self._hang_timeout_s),
            probe=self._probe_model,
            started=lambda pending: pending.child.send(wire.Started(id=pending.id)),
            answer=lambda pending, outcomes: pending.child.send(
                wire.Answered(id=pending.id, outcomes=tuple(map(_message, outcomes)))
            ),
            in_batches=self._caption,
            is_gone=lambda pending: pending.child.closed,
        )

    def _accept(self) -> None:
        # An engine that accepts no connections is useless: every error of this thread ends the engine.
        with contextlib.ExitStack() as at_end:
            at_end.callback(self.stop)
            while True:
                accepted, _ = self._listener.accept()
                connection = Connection(accepted.detach())
                threading.Thread(target=self._serve_child, args=(connection,), name="child", daemon=True).start()

    def _serve_child(self, connection: Connection) -> None:
        child = ChildConnection(connection, self._model.allocate())
        try:
            child.greet(self._authkey, self._hello)
            while True:
                self._handle(child, child.receive())
        except (EOFError, OSError):
            _log.debug("child_gone")
        except (AuthenticationError, ValidationError, InvalidTask) as error:
            _log.warning("child_refused", error=str(error))
        finally:
            self._batcher.remove(child)
            child.close()

    def _handle(self, child: ChildConnection, message: wire.FromChild) -> None:
        match message:
            case wire.Announce():
                self._batcher.announce(child)
            case wire.Retract():
                self._batcher.retract(child)
            case wire.Request():
                self._batcher.submit(PendingRequest(child, message.id, child.read_request(message)))

    def _caption(self, batch: list[PendingRequest]) -> None:
        began = time.monotonic()
        for pending in batch:
            pending.child.send(wire.Started(id=pending.id))
        outcomes = self._outcomes([request for pending in batch for request in pending.requests])
        for pending in batch:
            answers = tuple(_message(outcome) for outcome in itertools.islice(outcomes, pending.size))
            pending.child.send(wire.Answered(id=pending.id, outcomes=answers))
        size = sum(pending.size for pending in batch)
        _log.debug("batch", size=size, images=len(batch), seconds=round(time.monotonic() - began, 4))

    def _outcomes(self, requests: list[CaptionRequest]) -> Iterator[Caption | DroplineError]:
        """The outcomes of all tasks, in order; more tasks than the largest batch run one batch after another."""
        begin = 0
        while begin < len(requests):
            part = requests[begin : begin + self._batcher.max_batch]
            begin += len(part)
            for _, outcome in run_with_bisection(part, self._run_model, self._probe_model):
                if isinstance(outcome, InferenceFailed) and outcome.code == NON_FINITE_LOGITS:
                    # A model whose weights or device are broken has no finite logits for any image.
                    self._probe_model()
                yield outcome

    def _run_model(self, batch: Sequence[CaptionRequest]) -> list[Caption | InferenceFailed]:
        try:
            with _exit_if_hanging(self._hang_timeout_s):
                captions = self._model.caption(batch)
        except BatchTooLarge:
            self._batcher.did_not_fit(len(batch))
            _log.warning("batch_too_large", size=len(batch), max_batch=self._batcher.max_batch)
            raise
        except Exception as error:
            _log.warning("batch_failed", size=len(batch), error=f"{type(error).__name__}: {error}")
            raise
        self._batcher.did_fit(len(batch))
        return captions

    def _probe_model(self) -> None:
        with _exit_if_hanging(self._hang_timeout_s):
            self._model.probe()


@contextlib.contextmanager
def _exit_if_hanging(timeout_s: float) -> Iterator[None]:
    # A hanging kernel cannot be interrupted. The end of the process breaks all connections, so that every child
    # gets an error, and the parent starts the next engine.
    faulthandler.dump_traceback_later(timeout_s, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()

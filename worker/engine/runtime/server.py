"""Serves a model to the children of a worker over a Unix-domain socket."""

import contextlib
import faulthandler
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection

from pydantic import ValidationError

from dropline.contract import Caption
from dropline.errors import DroplineError, InvalidTask, TransientError
from dropline.log import get_logger
from dropline.settings import EngineSettings
from worker.engine import wire
from worker.engine.runtime.batcher import Batcher
from worker.engine.runtime.child import Child, Job
from worker.engine.runtime.model import BatchTooLarge, Model
from worker.engine.runtime.split import answer_each

#: Part of a child's patience after which a batch counts as hanging.
_HANG_AT = 0.8

_log = get_logger(__name__)


class Server:
    """Threads: one per child that only reads, one that accepts, and the caller's, which runs the model."""

    def __init__(self, model: Model, settings: EngineSettings, listener_fd: int, authkey: bytes) -> None:
        """Serve on a socket that listens already; children may be waiting in it."""
        self._model = model
        self._hang_s = settings.request_timeout_s * _HANG_AT
        self._authkey = authkey
        self._hello = wire.Hello(input_size=model.input_size)
        limit = min(settings.max_batch, model.largest_batch)
        self._batcher: Batcher[Job] = Batcher(limit, settings.max_wait_ms / 1000)
        self._listener = socket.socket(fileno=listener_fd)

    def run(self) -> None:
        """Answer until `stop`.

        Raises:
            Exception: the model is broken, and not by one image; the process has to end.
        """
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        while batch := self._batcher.next_batch():
            self._answer(batch)

    def stop(self) -> None:
        """Let `run` return when the batch under way is done."""
        self._batcher.close()

    def _accept(self) -> None:
        # Without its door the engine is of no use: whatever breaks here ends it.
        with contextlib.ExitStack() as at_end:
            at_end.callback(self.stop)
            while True:
                accepted, _ = self._listener.accept()
                connection = Connection(accepted.detach())
                threading.Thread(target=self._attend, args=(connection,), name="child", daemon=True).start()

    def _attend(self, connection: Connection) -> None:
        child = Child(connection, self._model.allocate())
        try:
            child.greet(self._authkey, self._hello)
            while True:
                self._handle(child, child.receive())
        except (EOFError, OSError):
            _log.debug("child_gone")
        except (AuthenticationError, ValidationError, InvalidTask) as error:
            _log.warning("child_refused", error=str(error))
        finally:
            self._batcher.forget(child)
            child.close()

    def _handle(self, child: Child, message: wire.FromChild) -> None:
        match message:
            case wire.Announce():
                self._batcher.announce(child)
            case wire.Retract():
                self._batcher.retract(child)
            case wire.Request():
                self._batcher.submit(Job(child, message.id, child.request(message)))

    def _answer(self, batch: list[Job]) -> None:
        began = time.monotonic()
        for job in batch:
            job.child.send(wire.Started(id=job.id))
        for job, outcome in answer_each(batch, self._run, self._probe):
            job.child.send(_reply(job, outcome))
        _log.debug("batch", size=len(batch), seconds=round(time.monotonic() - began, 4))

    def _run(self, batch: Sequence[Job]) -> list[Caption]:
        try:
            with _hanging_ends_the_process(self._hang_s):
                return self._model.caption([job.request for job in batch])
        except BatchTooLarge:
            self._batcher.shrink(len(batch) // 2)
            _log.warning("batch_too_large", size=len(batch), max_batch=self._batcher.max_batch)
            raise
        except Exception as error:
            _log.warning("batch_failed", size=len(batch), error=f"{type(error).__name__}: {error}")
            raise

    def _probe(self) -> None:
        with _hanging_ends_the_process(self._hang_s):
            self._model.warmup()


def _reply(job: Job, outcome: Caption | DroplineError) -> wire.FromEngine:
    if isinstance(outcome, Caption):
        return wire.Captioned(id=job.id, caption=outcome)
    return wire.Failed(id=job.id, transient=isinstance(outcome, TransientError), message=str(outcome))


@contextlib.contextmanager
def _hanging_ends_the_process(seconds: float) -> Iterator[None]:
    # Nothing can stop a kernel that hangs. With the process gone every child knows, and the parent starts another.
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()

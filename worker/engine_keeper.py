"""Keeps the engine alive from the parent's event loop: descriptors wake it, no timer asks after it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry

from dropline.errors import DroplineError, SettingsError
from dropline.log import get_logger
from worker.engine.process import EngineProcess

log = get_logger(__name__)

#: An engine that dies again and again is started again after 1, 2, 4 … seconds, at most this.
_LONGEST_PAUSE_S = 60.0


class Stoppable(Protocol):
    """The worker, as far as the keeper ends it."""

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Stop warmly."""


class EngineKeeper:
    """Starts one engine, starts it again when it dies, and stops it."""

    def __init__(self, engine: EngineProcess, start_timeout_s: float, stop_grace_s: float) -> None:
        self._engine = engine
        self._start_timeout_s = start_timeout_s
        self._stop_grace_s = stop_grace_s
        self._hub: Hub | None = None
        self._worker: Stoppable | None = None
        self._watched: dict[int, Callable[..., None]] = {}
        self._patience: Entry | None = None
        self._failures = 0
        self._stopped = False

    def start(self, hub: Hub, worker: Stoppable, on_signal: Callable[[], None]) -> None:
        """Start the engine and wait until it is ready: a worker without a model takes no tasks.

        Args:
            hub: the parent's event loop, which does not run yet.
            worker: what to stop when the engine cannot be started again.
            on_signal: called after each signal that came meanwhile; raises to give up.

        Raises:
            SettingsError: the checkpoint cannot be used.
            EngineUnavailable: the engine did not become ready.
        """
        self._hub, self._worker = hub, worker
        self._engine.start()
        deadline = time.monotonic() + self._start_timeout_s
        with _signals_readable() as fd:
            while not self._engine.wait_ready(max(0.0, deadline - time.monotonic()), interrupt_fd=fd):
                os.read(fd, 4096)
                on_signal()
        self._watch(self._engine.sentinel, self._on_death)

    def resume(self) -> None:
        """Watch again, after a lost connection to the broker: Celery then empties the loop of all readers."""
        if self._hub is None or self._stopped:
            return
        if not self._engine.alive:
            self._restart()
            return
        for fd, callback in self._watched.items():
            self._hub.add_reader(fd, callback, fd)

    def stop(self) -> None:
        """Let the batch under way end, then end the engine; it is not started again."""
        self._stopped = True
        self._unwatch()
        self._engine.stop(self._stop_grace_s)
        self._engine.close()

    def _on_death(self, *_: object) -> None:
        self._unwatch()
        # Its descriptors can close a moment before it can be reaped.
        self._engine.stop(0)
        log.error("engine_died", failures=self._failures)
        self._restart_later()

    def _restart_later(self) -> None:
        if self._stopped or self._hub is None:
            return
        pause = 0.0 if self._failures == 0 else min(_LONGEST_PAUSE_S, 2.0 ** (self._failures - 1))
        self._failures += 1
        if pause:
            self._hub.call_later(pause, self.resume)
        else:
            self._restart()

    def _restart(self) -> None:
        try:
            self._unwatch()
            self._engine.start()
        except DroplineError as error:
            log.error("engine_not_started", error=str(error))
            self._restart_later()
            return
        self._watch(self._engine.sentinel, self._on_death)
        self._watch(self._engine.ready_fd, self._on_ready)
        assert self._hub is not None
        self._patience = self._hub.call_later(self._start_timeout_s, self._on_too_slow)

    def _on_too_slow(self) -> None:
        log.error("engine_too_slow", start_timeout_s=self._start_timeout_s)
        self._unwatch()
        self._engine.stop(0)
        self._restart_later()

    def _on_ready(self, *_: object) -> None:
        self._unwatch()
        try:
            self._engine.wait_ready(0)
        except SettingsError as error:
            log.error("engine_unusable", error=str(error))
            assert self._worker is not None
            self._worker.stop(exitcode=1)
        except DroplineError as error:
            log.error("engine_not_ready", error=str(error))
            self._engine.stop(0)
            self._restart_later()
        else:
            self._failures = 0
            log.info("engine_restarted", pid=self._engine.pid)
            self._watch(self._engine.sentinel, self._on_death)

    def _watch(self, fd: int, callback: Callable[..., None]) -> None:
        assert self._hub is not None
        self._hub.add_reader(fd, callback, fd)
        self._watched[fd] = callback

    def _unwatch(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._hub is not None:
            for fd in self._watched:
                self._hub.remove_reader(fd)
        self._watched.clear()


@contextmanager
def _signals_readable() -> Iterator[int]:
    """A descriptor that becomes readable with each signal that has a handler: `select` alone resumes after it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(previous)
        os.close(reader)
        os.close(writer)

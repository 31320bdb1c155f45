"""Keeps the engine running, from the parent's event loop: descriptors report state changes, without polling."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry

from dropline.errors import DroplineError, EngineUnavailable, SettingsError
from dropline.log import get_logger
from worker.engine.process import EngineProcess

log = get_logger(__name__)

#: Longest pause before another start, in seconds. After repeated deaths the pauses are 0, 1, 2, 4 … seconds.
_MAX_RESTART_PAUSE_S = 60.0


class Stoppable(Protocol):
    """The part of Celery's worker that the keeper uses."""

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Stop after the current tasks."""


class EngineKeeper:
    """Starts an engine, restarts the engine after a death, and stops the engine."""

    def __init__(
        self,
        engine: EngineProcess,
        start_timeout_s: float,
        note: Callable[[bool], None] = lambda _: None,
        others_work: Callable[[], bool] = lambda: False,
    ) -> None:
        """Create a keeper of an engine that is not started.

        Args:
            engine: of this keeper alone.
            start_timeout_s: longest time to load the model, in seconds.
            note: called with True when the engine is ready, and with False when it has ended.
            others_work: whether the worker has another engine that is ready, so that an engine that cannot be used
                does not end the worker.
        """
        self._engine = engine
        self._start_timeout_s = start_timeout_s
        self._note = note
        self._others_work = others_work
        self._hub: Hub | None = None
        self._worker: Stoppable | None = None
        self._watched: dict[int, Callable[..., None]] = {}
        self._start_timer: Entry | None = None
        #: Deaths and failed starts since the engine was last ready.
        self._failures = 0
        self._stopped = False

    def start(self, hub: Hub, worker: Stoppable) -> None:
        """Start the engine; `wait_ready` follows.

        Args:
            hub: the parent's event loop, which does not run yet.
            worker: stopped when the engine cannot be started again.

        Raises:
            EngineUnavailable: the system cannot start a process.
        """
        self._hub, self._worker = hub, worker
        self._engine.start()

    def wait_ready(self, deadline: float, signals_fd: int, on_signal: Callable[[], None]) -> None:
        """Wait until the started engine is ready.

        Args:
            deadline: of `time.monotonic`.
            signals_fd: as of `signals_readable`.
            on_signal: called after each signal during the wait; raises to end the wait.

        Raises:
            SettingsError: the checkpoint cannot be used.
            EngineUnavailable: the engine did not become ready, and has ended.
        """
        try:
            while not self._engine.wait_ready(max(0.0, deadline - time.monotonic()), interrupt_fd=signals_fd):
                os.read(signals_fd, 4096)
                on_signal()
        except EngineUnavailable:
            self._engine.stop(0)
            raise
        self._note(True)
        self._watch(self._engine.sentinel, self._on_death)

    def resume(self) -> None:
        """Watch again after a lost connection to the broker, when Celery removes all readers from the loop."""
        if self._hub is None or self._stopped:
            return
        if not self._engine.alive:
            self._restart()
            return
        for fd, callback in self._watched.items():
            self._hub.add_reader(fd, callback, fd)

    def retire(self) -> None:
        """End the engine for good: its device cannot be used."""
        self._stopped = True
        self._engine.stop(0)

    def ask_to_stop(self) -> None:
        """Let the engine end after its current batch; no restart follows. `stop` follows."""
        self._stopped = True
        self._unwatch()
        self._engine.ask_to_stop()

    def stop(self, grace_s: float) -> None:
        """End the engine, after its current batch if that ends within `grace_s` seconds."""
        self._engine.stop(grace_s)
        self._engine.close()

    def _on_death(self, *_: object) -> None:
        self._note(False)
        self._unwatch()
        # A dying engine's descriptors can close a moment before the process can be reaped.
        self._engine.stop(0)
        log.error("engine_died", failures=self._failures)
        self._restart_later()

    def _restart_later(self) -> None:
        if self._stopped or self._hub is None:
            return
        pause = 0.0 if self._failures == 0 else min(_MAX_RESTART_PAUSE_S, 2.0 ** (self._failures - 1))
        self._failures += 1
        if pause:
            self._hub.call_later(pause, self.resume)
        else:
            self._restart()

    def _restart(self) -> None:
        # The engine may have died while unwatched.
        self._note(False)
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
        self._start_timer = self._hub.call_later(self._start_timeout_s, self._on_start_timeout)

    def _on_start_timeout(self) -> None:
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
            self.retire()
            assert self._worker is not None
            if not self._others_work():
                self._worker.stop(exitcode=1)
        except DroplineError as error:
            log.error("engine_not_ready", error=str(error))
            self._engine.stop(0)
            self._restart_later()
        else:
            self._failures = 0
            self._note(True)
            log.info("engine_restarted", pid=self._engine.pid)
            self._watch(self._engine.sentinel, self._on_death)

    def _watch(self, fd: int, callback: Callable[..., None]) -> None:
        assert self._hub is not None
        self._hub.add_reader(fd, callback, fd)
        self._watched[fd] = callback

    def _unwatch(self) -> None:
        if self._start_timer is not None:
            self._start_timer.cancel()
            self._start_timer = None
        if self._hub is not None:
            for fd in self._watched:
                self._hub.remove_reader(fd)
        self._watched.clear()


@contextmanager
def signals_readable() -> Iterator[int]:
    """A descriptor that becomes readable at each handled signal: `select` alone would continue to wait."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(previous)
        os.close(reader)
        os.close(writer)

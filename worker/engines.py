"""All engines of a worker: one for each device, each kept by itself, and the clients of the children."""

import time
from collections.abc import Callable
from pathlib import Path

from kombu.asynchronous import Hub

from dropline.errors import DroplineError, EngineUnavailable, SettingsError
from dropline.log import get_logger
from dropline.settings import Settings
from worker.devices import each_engine
from worker.engine.board import Board
from worker.engine.client import EngineClient
from worker.engine.process import EngineProcess, LoadedModel
from worker.engine.spread import SpreadClient
from worker.engine_keeper import EngineKeeper, Stoppable, signals_readable

log = get_logger(__name__)


class Engines:
    """One engine for each device of the settings."""

    def __init__(self, settings: Settings, module: str) -> None:
        """Prepare the sockets and the board; no process is started.

        Args:
            settings: of the worker.
            module: the main module of an engine's process.

        Raises:
            SettingsError: the directory for temporary files has too long a path for a socket.
        """
        self.devices = settings.engine.devices
        number = len(self.devices)
        self.board = Board(number, settings.worker.concurrency)
        self._processes = [
            EngineProcess(engine, settings.log, module=module, index=index, engines=number)
            for index, engine in enumerate(each_engine(settings.engine))
        ]
        self._start_timeout_s = settings.engine.start_timeout_s
        self._stop_grace_s = settings.engine.request_timeout_s
        self._keepers = [
            EngineKeeper(process, self._start_timeout_s, self._note_of(index), self._any_ready)
            for index, process in enumerate(self._processes)
        ]

    @property
    def ready_addresses(self) -> list[Path]:
        """The sockets of the engines that are ready."""
        return [Path(each.address) for number, each in enumerate(self._processes) if self.board.is_ready(number)]

    @property
    def loaded(self) -> LoadedModel | None:
        """The model, with all devices that have been ready; None before the first ready engine."""
        loaded = [process.loaded for process in self._processes if process.loaded is not None]
        if not loaded:
            return None
        devices = ", ".join(each.device for each in loaded)
        largest = max(each.largest_batch for each in loaded)
        return loaded[0].model_copy(update={"device": devices, "largest_batch": largest})

    def client(self, place: int) -> SpreadClient:
        """The client of a child, after the fork; `place` is the child's on the board."""
        clients = [EngineClient(process.address, process.authkey) for process in self._processes]
        return SpreadClient(clients, self.board, place)

    def start(self, hub: Hub, worker: Stoppable, on_signal: Callable[[], None]) -> None:
        """Start all engines at once, and wait for them: a worker without a model takes no tasks.

        Where some become ready and others do not, the worker works with the ready ones. The others are started
        again when the consumer starts (`resume`), but not on a device that cannot be used.

        Args:
            hub: the parent's event loop, which does not run yet.
            worker: stopped when an engine cannot be started again.
            on_signal: called after each signal during the wait; raises to end the wait.

        Raises:
            SettingsError, EngineUnavailable: no engine became ready; the error of the first one.
        """
        failures: dict[str, DroplineError] = {}
        started = []
        for keeper, device in zip(self._keepers, self.devices, strict=True):
            try:
                keeper.start(hub, worker)
            except EngineUnavailable as error:
                failures[device] = error
            else:
                started.append((keeper, device))
        failures |= self._wait_ready(started, on_signal)
        if len(failures) == len(self._keepers):
            raise next(iter(failures.values()))
        for device, failure in failures.items():
            log.error("engine_not_ready", device=device, error=str(failure))

    def _wait_ready(
        self, started: list[tuple[EngineKeeper, str]], on_signal: Callable[[], None]
    ) -> dict[str, DroplineError]:
        """The errors of the engines which do not become ready, by device."""
        failures: dict[str, DroplineError] = {}
        deadline = time.monotonic() + self._start_timeout_s
        with signals_readable() as fd:
            for keeper, device in started:
                try:
                    keeper.wait_ready(deadline, fd, on_signal)
                except EngineUnavailable as error:
                    failures[device] = error
                except SettingsError as error:
                    failures[device] = error
                    keeper.retire()
        return failures

    def resume(self) -> None:
        """Watch all engines at a start of the consumer; start the engines which do not run."""
        for keeper in self._keepers:
            keeper.resume()

    def stop(self) -> None:
        """Let the current batches end, all at the same time, then end the engines; no restart follows."""
        deadline = time.monotonic() + self._stop_grace_s
        for keeper in self._keepers:
            keeper.ask_to_stop()
        for keeper in self._keepers:
            keeper.stop(max(0.0, deadline - time.monotonic()))

    def _any_ready(self) -> bool:
        return any(map(self.board.is_ready, range(len(self._processes))))

    def _note_of(self, index: int) -> Callable[[bool], None]:
        return lambda ready: self.board.set_ready(index, ready=ready)

"""Services under one roof: started one by one, stopped in reverse, and a death of any of them is an event."""

import signal
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from types import TracebackType
from typing import Self

from local_emulators.errors import ServiceDiedError, ServiceNotReadyError, StartCancelledError
from local_emulators.guardian import Guardian
from local_emulators.process import Command, ServiceProcess

#: How much of a dead service's log goes into the message.
_SHOWN_LINES = 15


class Supervisor:
    """Starts services, hears of their deaths and leaves none behind."""

    def __init__(self, log_directory: Path) -> None:
        """Starts nothing yet. Service NAME's output is appended to NAME.log in `log_directory`."""
        self.log_directory = log_directory
        self.services: dict[str, Service] = {}
        self.guardian = Guardian()
        self.cancelled = Event()
        self._stopped = False
        self._events: SimpleQueue[Service | None] = SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, command: Command) -> "Service":
        """Starts a service and waits until it says that it is ready.

        Raises:
            MissingBinaryError: its binary is not there.
            ServiceDiedError: it ended before it was ready.
            ServiceNotReadyError: it was not ready within the command's deadline.
            StartCancelledError: `cancel` was called.
        """
        known = self.services.get(command.name)
        assert known is None or not known.alive, f"{command.name} is running already"
        self.log_directory.mkdir(parents=True, exist_ok=True)
        service = Service(self, command)
        self.services[command.name] = service
        service.start()
        return service

    def wait_for_death(self) -> "Service | None":
        """Blocks until a service ends by itself, and returns it; None once `cancel` is called."""
        return self._events.get()

    def report_death(self, service: "Service") -> None:
        """Called by a service that ended without being told to."""
        self._events.put(service)

    def cancel(self) -> None:
        """Ends `wait_for_death`, and makes a start that is under way give up.

        For another thread, not for a signal handler: it takes locks.
        """
        self.cancelled.set()
        self._events.put(None)
        for service in list(self.services.values()):
            service.cancel_start()

    def stop(self) -> None:
        """Stops every service, the latest first; more than once is no error."""
        if self._stopped:
            return
        self._stopped = True
        for service in reversed(list(self.services.values())):
            service.stop()
        self.guardian.close()

    def kill(self) -> None:
        """SIGKILL for everything at once: for those who cannot wait for `stop`."""
        for service in list(self.services.values()):
            service.kill_group()


class Service:
    """A supervised process that can be started again with the same command line."""

    def __init__(self, supervisor: Supervisor, command: Command) -> None:
        self.command = command
        self._supervisor = supervisor
        self._process: ServiceProcess | None = None
        self._end_expected = False

    @property
    def name(self) -> str:
        """What people call the service."""
        return self.command.name

    @property
    def log_path(self) -> Path:
        """Where its output goes."""
        return self._supervisor.log_directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The process id of its latest run, which is the id of its process group too."""
        return self._latest_run().pid

    @property
    def alive(self) -> bool:
        """Whether its process has not ended."""
        return self._process is not None and not self._process.exited.is_set()

    def start(self) -> None:
        """Ends what is left of an earlier run, starts the process and waits until it is ready.

        Raises as `Supervisor.start` does.
        """
        self.stop()
        if self._supervisor.cancelled.is_set():
            raise StartCancelledError(f"{self.name} was not started: the stack is stopping.")
        self._end_expected = False
        process = ServiceProcess(self.command, self.log_path, self._ended)
        self._process = process
        if self._supervisor.cancelled.is_set():
            process.cancel_wait()
        self._supervisor.guardian.watch(process.pid, self.command.stop_signal)
        settled = process.wait_until_settled(self.command.start_deadline_s)
        self._raise_unless_ready(process, settled)

    def stop(self) -> None:
        """Ends it in good order; SIGKILL after its grace. Nothing happens where it has ended already."""
        if self._process is not None:
            self._end_expected = True
            self._process.stop()
            self._supervisor.guardian.release(self._process.pid)

    def kill(self, number: signal.Signals | None = None) -> None:
        """Ends the process as a crash would, waits for its end, and leaves its children alone.

        `number` replaces the command's own crash signal.
        """
        process = self._latest_run()
        self._end_expected = True
        process.signal(number or self.command.crash_signal)
        process.exited.wait()

    def restart(self) -> None:
        """Stops what runs, then starts it again with the same command line; raises as `start` does."""
        self.start()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone, not to its group; its end then counts as a death."""
        self._latest_run().signal(number)

    def wait_for_line(self, text: str, timeout_s: float) -> bool:
        """Waits until a line of the latest run's output has held `text`; False when that never came."""
        return self._latest_run().wait_for_line(text, timeout_s)

    def wait_for_exit(self, timeout_s: float) -> bool:
        """Waits for the process's end; False when the time ran out first."""
        return self._latest_run().exited.wait(timeout_s)

    def last_lines(self, count: int = _SHOWN_LINES) -> list[str]:
        """The latest lines of the latest run's output."""
        return self._latest_run().last_lines(count)

    def describe_death(self) -> str:
        """What happened and where to look, with the last lines of the log."""
        process = self._latest_run()
        lines = "\n".join(f"    {line}" for line in process.last_lines(_SHOWN_LINES)) or "    (it said nothing)"
        ending = _ending(process.exit_status)
        return f"{self.name} {ending}. Its last lines:\n{lines}\nThe whole log: {self.log_path}"

    def kill_group(self) -> None:
        """SIGKILL for the process and its group, without waiting."""
        if self._process is not None:
            self._end_expected = True
            self._process.kill_group()

    def cancel_start(self) -> None:
        """Makes a `start` that is waiting give up."""
        if self._process is not None:
            self._process.cancel_wait()

    def _latest_run(self) -> ServiceProcess:
        assert self._process is not None, f"{self.name} has not been started"
        return self._process

    def _raise_unless_ready(self, process: ServiceProcess, settled: bool) -> None:
        if process.exited.is_set():
            raise ServiceDiedError(self.describe_death())
        if self._supervisor.cancelled.is_set():
            raise StartCancelledError(f"{self.name} was still starting when the stack was told to stop.")
        if not settled:
            raise ServiceNotReadyError(
                f"{self.name} runs but was not ready after {self.command.start_deadline_s:.0f} s. "
                f"Look at its log: {self.log_path}"
            )

    def _ended(self, process: ServiceProcess) -> None:
        if process.ready and not self._end_expected:
            self._supervisor.report_death(self)


def _ending(exit_status: int | None) -> str:
    if exit_status is not None and exit_status < 0:
        return f"was killed by {signal.Signals(-exit_status).name}"
    return f"ended with exit status {exit_status}"

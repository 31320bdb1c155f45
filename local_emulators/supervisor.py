"""Starts services in order, reports an unexpected end of a service, and stops services in reverse order."""

import signal
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from types import TracebackType
from typing import Self

from local_emulators.errors import ServiceDiedError, ServiceNotReadyError, StartCancelledError
from local_emulators.guardian import Guardian
from local_emulators.process import Command, ServiceProcess

#: Log lines of an ended service in the error message.
_SHOWN_LINES = 15


class Supervisor:
    """Starts services, reports unexpected ends, and leaves no process behind."""

    def __init__(self, log_directory: Path) -> None:
        """Starts no service yet. The output of service NAME is appended to NAME.log in `log_directory`."""
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
        """Starts a service and waits until the service is ready.

        Raises:
            MissingBinaryError: the binary does not exist.
            ServiceDiedError: the service ended before being ready.
            ServiceNotReadyError: the service was not ready within the command's deadline.
            StartCancelledError: `cancel` was called.
        """
        existing = self.services.get(command.name)
        assert existing is None or not existing.alive, f"{command.name} is running already"
        self.log_directory.mkdir(parents=True, exist_ok=True)
        service = Service(self, command)
        self.services[command.name] = service
        service.start()
        return service

    def run(self, command: Command) -> "Service":
        """Runs a program to its end, with the same care for signals and the parent's death as for a service.

        Raises:
            MissingBinaryError: the binary does not exist.
            ServiceNotReadyError: the program did not end within the command's deadline.
            StartCancelledError: `cancel` was called.
        """
        self.log_directory.mkdir(parents=True, exist_ok=True)
        program = self.services[command.name] = Service(self, command)
        program.run()
        del self.services[command.name]
        return program

    def wait_for_death(self) -> "Service | None":
        """Blocks until a service ends unexpectedly, and returns the service; None after `cancel`."""
        return self._events.get()

    def report_death(self, service: "Service") -> None:
        """Reports an unexpected end to `wait_for_death`."""
        self._events.put(service)

    def cancel(self) -> None:
        """Ends `wait_for_death` and a running `start`.

        For another thread, not for a signal handler: the method takes locks.
        """
        self.cancelled.set()
        self._events.put(None)
        for service in list(self.services.values()):
            service.cancel_start()

    def stop(self) -> None:
        """Stops all services, the latest first; a second call has no effect."""
        if self._stopped:
            return
        self._stopped = True
        for service in reversed(list(self.services.values())):
            service.stop()
        self.guardian.close()

    def kill(self) -> None:
        """Sends SIGKILL to all services at once, without an orderly stop."""
        for service in list(self.services.values()):
            service.kill_group()


class Service:
    """A supervised process, restartable with the same command line."""

    def __init__(self, supervisor: Supervisor, command: Command) -> None:
        self.command = command
        self._supervisor = supervisor
        self._process: ServiceProcess | None = None
        self._end_expected = False

    @property
    def name(self) -> str:
        """The service's name in messages."""
        return self.command.name

    @property
    def log_path(self) -> Path:
        """The file with the output."""
        return self._supervisor.log_directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The process id of the latest run, equal to the id of the process group."""
        return self._latest_run().pid

    @property
    def exit_status(self) -> int | None:
        """As in `subprocess`, of the latest run: negative for a signal, None while the process runs."""
        return self._latest_run().exit_status

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process is not None and not self._process.exited.is_set()

    def start(self) -> None:
        """Stops an earlier run, starts the process and waits until the process is ready.

        Raises the errors of `Supervisor.start`.
        """
        process, settled = self._start_process()
        self._raise_unless_ready(process, settled)

    def run(self) -> None:
        """Starts the process and waits until the process has ended; raises the errors of `Supervisor.run`."""
        process, settled = self._start_process()
        if not process.exited.is_set():
            self._raise_unless_ready(process, settled)
        self.stop()

    def _start_process(self) -> tuple[ServiceProcess, bool]:
        """The started process, and False if the process was not ready within the deadline and has not ended."""
        self.stop()
        if self._supervisor.cancelled.is_set():
            raise StartCancelledError(f"{self.name} was not started: the stack is stopping.")
        self._end_expected = False
        process = ServiceProcess(self.command, self.log_path, self._ended)
        self._process = process
        if self._supervisor.cancelled.is_set():
            process.cancel_wait()
        self._supervisor.guardian.watch(process.pid, self.command.stop_signal)
        return process, process.wait_until_settled(self.command.start_deadline_s)

    def stop(self) -> None:
        """Sends the stop signal, and SIGKILL after the grace period; no effect on an ended process."""
        if self._process is not None:
            self._end_expected = True
            self._process.stop()
            self._supervisor.guardian.release(self._process.pid)

    def kill(self, number: signal.Signals | None = None) -> None:
        """Sends the crash signal to the process, not to the process group, and waits for the exit.

        `number` replaces the command's crash signal.
        """
        process = self._latest_run()
        self._end_expected = True
        process.signal(number or self.command.crash_signal)
        process.exited.wait()

    def restart(self) -> None:
        """Stops a running process and starts the command line again; raises the errors of `start`."""
        self.start()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process, not to the process group; a later exit counts as unexpected."""
        self._latest_run().signal(number)

    def wait_for_line(self, text: str, timeout_s: float) -> bool:
        """Waits for an output line of the latest run with `text`; False after the exit or `timeout_s`."""
        return self._latest_run().wait_for_line(text, timeout_s)

    def wait_for_exit(self, timeout_s: float) -> bool:
        """Waits for the exit of the process; False after `timeout_s`."""
        return self._latest_run().exited.wait(timeout_s)

    def last_lines(self, count: int = _SHOWN_LINES) -> list[str]:
        """The latest output lines of the latest run."""
        return self._latest_run().last_lines(count)

    def describe_death(self) -> str:
        """A message with the exit status, the last log lines and the path of the log."""
        process = self._latest_run()
        lines = "\n".join(f"    {line}" for line in process.last_lines(_SHOWN_LINES)) or "    (no output)"
        ending = _ending(process.exit_status)
        return f"{self.name} {ending}. Its last lines:\n{lines}\nThe whole log: {self.log_path}"

    def kill_group(self) -> None:
        """Sends SIGKILL to the process group, without waiting."""
        if self._process is not None:
            self._end_expected = True
            self._process.kill_group()

    def cancel_start(self) -> None:
        """Ends a waiting `start`."""
        if self._process is not None:
            self._process.cancel_wait()

    def _latest_run(self) -> ServiceProcess:
        assert self._process is not None, f"{self.name} has not been started"
        return self._process

    def _raise_unless_ready(self, process: ServiceProcess, settled: bool) -> None:
        if process.exited.is_set():
            raise ServiceDiedError(self.describe_death())
        if self._supervisor.cancelled.is_set():
            raise StartCancelledError(f"{self.name} was still starting when the stack was stopped.")
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

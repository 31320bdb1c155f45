"""The engine's process: read the boot line, load the model, say so, serve, end with the parent."""

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable

from dropline.errors import DroplineError, PermanentError, SettingsError
from dropline.log import configure_logging, get_logger
from dropline.settings import EngineSettings
from worker.engine.boot import Boot, Report
from worker.engine.runtime.model import Model
from worker.engine.runtime.server import Server

_PR_SET_PDEATHSIG = 1

_log = get_logger(__name__)


def main(load: Callable[[EngineSettings], Model]) -> None:
    """Serve the model that `load` gives until standard input says stop or ends; exits with 1 when it cannot."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    boot = Boot.model_validate_json(sys.stdin.buffer.readline())
    for fd in (boot.listener_fd, boot.ready_fd, boot.sentinel_fd):
        os.set_inheritable(fd, False)
    configure_logging(boot.log.level, boot.log.format, "engine")
    _raise_file_limit()
    lifeline = Lifeline()
    try:
        server = _prepare(boot, load)
    except Exception as error:  # noqa: BLE001 - the parent is told of whatever went wrong
        _report(boot, _failure(boot.settings, error))
        _leave(1)
    lifeline.at_end(server.stop)
    _report(boot, Report())
    try:
        server.run()
    except Exception:  # noqa: BLE001 - whatever broke it, the log says so and the parent starts another
        _log.exception("engine_broken")
        _leave(1)
    _log.info("engine_stopped")


class Lifeline:
    """Waits for the parent's word to stop, or for its end, which closes our standard input."""

    def __init__(self) -> None:
        self._at_end: Callable[[], None] = _leave
        _die_with_parent()
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def at_end(self, action: Callable[[], None]) -> None:
        """What to do then; until told, the process ends on the spot."""
        self._at_end = action

    def _watch(self) -> None:
        sys.stdin.buffer.read(1)
        self._at_end()


def _leave(code: int = 0) -> None:
    # Without the interpreter's own end: it would crash on the lifeline, whose thread still reads standard input.
    sys.stderr.flush()
    os._exit(code)


def _die_with_parent() -> None:
    # Children that the parent forked hold copies of the pipe, so its end can come late; Linux has a signal for it.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _raise_file_limit() -> None:
    # Two descriptors per child; the usual soft limit of 1024 is too low for 512 of them.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _prepare(boot: Boot, load: Callable[[EngineSettings], Model]) -> Server:
    began = time.monotonic()
    _log.info("engine_loading", checkpoint="stub" if boot.settings.stub else boot.settings.checkpoint)
    model = load(boot.settings)
    model.warmup()
    server = Server(model, boot.settings, boot.listener_fd, bytes.fromhex(boot.authkey))
    _log.info(
        "engine_ready",
        model=model.name,
        revision=model.revision,
        device=model.device,
        dtype=model.dtype,
        input_size=model.input_size,
        seconds=round(time.monotonic() - began, 1),
    )
    return server


def _failure(settings: EngineSettings, error: Exception) -> Report:
    if isinstance(error, DroplineError):
        return Report(error=str(error), permanent=isinstance(error, (SettingsError, PermanentError)))
    _log.error("engine_failed", exc_info=error)
    return Report(
        error=f"the engine cannot load {settings.checkpoint} ({type(error).__name__}: {error}); the lines "
        "before this one say where it broke"
    )


def _report(boot: Boot, report: Report) -> None:
    os.write(boot.ready_fd, report.model_dump_json().encode() + b"\n")

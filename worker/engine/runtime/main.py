"""The engine's process: read the start request, load the model, report, serve, end with the parent."""

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable

from dropline.errors import DroplineError, PermanentError, SettingsError
from dropline.log import configure_process_logging, drain_stderr, get_logger
from dropline.settings import EngineSettings
from worker.engine.process import StartReport, StartRequest
from worker.engine.runtime.checkpoint import find_checkpoint
from worker.engine.runtime.model import Model, StubModel
from worker.engine.runtime.server import Server

_PR_SET_PDEATHSIG = 1

_log = get_logger(__name__)


def load_model(settings: EngineSettings) -> Model:
    """The configured model.

    Raises:
        SettingsError: checkpoint, revision, device or dtype cannot be used.
        EngineUnavailable: the checkpoint cannot be fetched.
    """
    if settings.stub:
        return StubModel(settings.stub_image_ms / 1000, settings.max_batch)
    # Before the import of torch, which takes seconds: a missing checkpoint is reported at once.
    checkpoint = find_checkpoint(settings)
    began = time.monotonic()
    from worker.engine.runtime.loading import load_florence

    _log.info("engine_imported", seconds=_since(began))
    return load_florence(settings, checkpoint)


def main(load: Callable[[EngineSettings], Model]) -> None:
    """Serve the model from `load` until standard input has a line or ends; exit code 1 after an error."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    request = StartRequest.model_validate_json(sys.stdin.buffer.readline())
    for fd in (request.listener_fd, request.ready_fd, request.sentinel_fd):
        os.set_inheritable(fd, False)
    configure_process_logging(request.log.level, request.log.format, "engine")
    _raise_file_limit()
    parent = ParentWatch()
    try:
        server = _load_server(request, load)
    except Exception as error:  # noqa: BLE001 - the parent gets a report of every error
        _report(request, _failure_report(request.settings, error))
        _exit_now(1)
    parent.on_stop(server.stop)
    _report(request, StartReport(loaded=server.loaded))
    try:
        server.run()
    except Exception:  # noqa: BLE001 - every error goes to the log, and the parent starts the next engine
        _log.exception("engine_broken")
        _exit_now(1)
    _log.info("engine_stopped")


class ParentWatch:
    """Waits for the parent's stop line, or for the parent's end, which closes standard input."""

    def __init__(self) -> None:
        self._on_stop: Callable[[], None] = _exit_now
        _die_with_parent()
        threading.Thread(target=self._watch, name="parent-watch", daemon=True).start()

    def on_stop(self, action: Callable[[], None]) -> None:
        """Set the action for the stop; before the first call, the process exits at once."""
        self._on_stop = action

    def _watch(self) -> None:
        sys.stdin.buffer.read(1)
        self._on_stop()


def _exit_now(code: int = 0) -> None:
    # Without the interpreter's shutdown, which would crash while the watching thread reads standard input.
    drain_stderr()
    os._exit(code)


def _die_with_parent() -> None:
    # Forked children hold copies of the pipe and delay the end of file. Linux can signal the parent's death.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _raise_file_limit() -> None:
    # Two descriptors per child: the usual soft limit of 1024 is too low for 512 children.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _load_server(request: StartRequest, load: Callable[[EngineSettings], Model]) -> Server:
    began = time.monotonic()
    settings = request.settings
    _log.info("engine_loading", checkpoint="stub" if settings.stub else settings.checkpoint)
    model = load(settings)
    _log.info("engine_loaded", seconds=_since(began))
    model.warmup()
    server = Server(model, settings, request.listener_fd, bytes.fromhex(request.authkey), request.number)
    _log.info(
        "engine_ready",
        model=model.name,
        revision=model.revision,
        device=model.device,
        dtype=model.dtype,
        input_size=model.input_size,
        largest_batch=server.loaded.largest_batch,
        seconds=_since(began),
    )
    return server


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


def _failure_report(settings: EngineSettings, error: Exception) -> StartReport:
    if isinstance(error, DroplineError):
        return StartReport(error=str(error), permanent=isinstance(error, (SettingsError, PermanentError)))
    _log.error("engine_failed", exc_info=error)
    return StartReport(
        error=f"the engine cannot load {settings.checkpoint} ({type(error).__name__}: {error}); see the traceback "
        "of engine_failed in the log above"
    )


def _report(request: StartRequest, report: StartReport) -> None:
    os.write(request.ready_fd, report.model_dump_json().encode() + b"\n")

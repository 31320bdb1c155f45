"""Lines of foreign libraries on standard error, as records of the logger `stderr`: C libraries, warnings, threads.

Descriptors 1 and 2 become a pipe, and a thread of this process logs each line; forked children share it. Records
go to the real standard error. Last words of a crash (`faulthandler`) stay raw lines there: a dying process has no
thread to read them.
"""

import atexit
import faulthandler
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

#: Longest line, in bytes; the rest of the line is dropped.
LONGEST_LINE = 4096
_DRAIN_S = 1.0
#: Standard output too: Celery prints `worker: Warm shutdown` there.
_CAPTURED = (1, 2)
_LINE_ENDS = re.compile(rb"[\r\n]+")


class RawStream:
    """A text stream on a descriptor, without buffer and lock: safe across a fork, and a line is one write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def write(self, text: str) -> int:
        """Write everything. Without a reader the text is lost: an error here would be logged here again."""
        rest = text.encode(errors="backslashreplace")
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            pass
        return len(text)

    def flush(self) -> None:
        """Nothing is buffered."""


class StderrCapture:
    """Standard output and standard error of this process, replaced by a pipe; one per process."""

    def __init__(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()
        #: The real standard error.
        self.stream = RawStream(os.dup(2))
        self._stdout = os.dup(1)
        self._reader, writer = os.pipe()
        for descriptor in _CAPTURED:
            os.dup2(writer, descriptor)
        os.close(writer)
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._log_lines, name="stderr", daemon=True)
        self._thread.start()
        atexit.register(self.drain)

    def drain(self) -> None:
        """Give the descriptors back, and log what is in the pipe; before the process ends."""
        if self._pid != os.getpid():
            return  # the parent's thread reads the pipe
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(self._stdout, 1)
        os.dup2(self.stream.fileno(), 2)
        # With a child that still holds the pipe, the thread does not end.
        self._thread.join(_DRAIN_S)

    def _log_lines(self) -> None:
        log = logging.getLogger("stderr")
        for line in split_lines(self._reader):
            log.warning("%s", line)


def split_lines(descriptor: int) -> Iterator[str]:
    """The lines of a pipe up to its end, without empty ones; at most `LONGEST_LINE` bytes of each."""
    rest, skipping = b"", False
    while chunk := os.read(descriptor, 65_536):
        *lines, rest = _LINE_ENDS.split(rest + chunk)
        for line in lines:
            if not skipping and line:
                yield _text(line)
            skipping = False
        if len(rest) > LONGEST_LINE:
            if not skipping:
                yield _text(rest)
            rest, skipping = b"", True
    if rest and not skipping:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line[:LONGEST_LINE].decode(errors="backslashreplace")


def install_hooks(stream: RawStream) -> None:
    """Log warnings and uncaught exceptions of main thread, threads and finalizers; name crashes on `stream`."""
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_thread
    sys.unraisablehook = _log_unraisable
    faulthandler.enable(stream.fileno())


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("stderr").critical("uncaught %s", kind.__name__, exc_info=(kind, error, trace))


def _log_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is None:
        return
    name = failure.thread.name if failure.thread else "?"
    trace = (failure.exc_type, failure.exc_value, failure.exc_traceback)
    logging.getLogger("stderr").error("thread %s ended by %s", name, failure.exc_type.__name__, exc_info=trace)


def _log_unraisable(failure: Any) -> None:
    trace = (failure.exc_type, failure.exc_value, failure.exc_traceback)
    where = repr(failure.object)[:200]
    logging.getLogger("stderr").error("%s in %s", failure.err_msg or "ignored exception", where, exc_info=trace)

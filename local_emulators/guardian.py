"""A process that ends the services of a stack after the death of `dropline up`, by `kill -9` too.

The guardian reads standard input until the end of input, the sign of a dead parent: the kernel closes the pipe in
every case. The module runs as a file, with the standard library alone.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

#: Seconds between the stop signal and SIGKILL.
GRACE_S = 5.0


class Guardian:
    """The parent's side: registers the process groups to end after the parent's death."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, pid: int, stop_signal: int) -> None:
        """Registers the group with the leader `pid`, to end by `stop_signal` first and by SIGKILL later.

        Raises:
            OSError: a second Python interpreter could not be started.
        """
        if self._process is None:
            self._process = _start()
        _send(self._process, b"+ %d %d\n" % (pid, stop_signal))

    def release(self, pid: int) -> None:
        """Removes the ended group with the leader `pid` from the registered groups."""
        if self._process is not None:
            _send(self._process, b"- %d 0\n" % pid)

    def close(self) -> None:
        """Ends the guardian process, which first ends all registered groups."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None


def _start() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).resolve())],
        stdin=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )


def _send(process: "subprocess.Popen[bytes]", line: bytes) -> None:
    assert process.stdin is not None
    # Killing the guardian by hand must not stop the stack.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(line)


def read_watched(lines: Iterable[str]) -> dict[int, int]:
    """Reads the parent's lines until the end of input; returns group leader → stop signal of running groups."""
    watched: dict[int, int] = {}
    for line in lines:
        verb, pid, stop_signal = line.split()
        if verb == "+":
            watched[int(pid)] = int(stop_signal)
        else:
            watched.pop(int(pid), None)
    return watched


def end(watched: dict[int, int]) -> None:
    """Sends every group the stop signal, latest group first, and SIGKILL after `GRACE_S`."""
    for pid in reversed(watched):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, watched[pid])
    if watched:
        time.sleep(GRACE_S)
    for pid in watched:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def main() -> None:
    """Waits for the parent's end, then ends the registered groups."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(read_watched(sys.stdin))


if __name__ == "__main__":
    main()

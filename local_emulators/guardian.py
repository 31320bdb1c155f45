"""A watcher that outlives its parent: when `dropline up` is killed outright, nothing it started stays behind.

It reads its standard input and does nothing else. The end of the input means that the parent is gone; the
kernel closes the pipe even after `kill -9`. Run as a file, with the standard library alone.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

#: Seconds between the polite signal and SIGKILL.
GRACE_S = 5.0


class Guardian:
    """The parent's end of the watcher: tell it which process groups must not outlive this process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, pid: int, stop_signal: int) -> None:
        """Has the group led by `pid` ended, first by `stop_signal`, should this process die.

        Raises:
            OSError: the interpreter could not be started again.
        """
        if self._process is None:
            self._process = _start()
        _tell(self._process, b"+ %d %d\n" % (pid, stop_signal))

    def release(self, pid: int) -> None:
        """Forgets the group led by `pid`: it has ended."""
        if self._process is not None:
            _tell(self._process, b"- %d 0\n" % pid)

    def close(self) -> None:
        """Ends the watcher, which ends whatever was not released."""
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


def _tell(process: "subprocess.Popen[bytes]", line: bytes) -> None:
    assert process.stdin is not None
    # A watcher that was killed by hand costs the protection, not the stack.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(line)


def read_watched(lines: Iterable[str]) -> dict[int, int]:
    """Follows the parent's lines to their end; returns group leader → stop signal for what still runs."""
    watched: dict[int, int] = {}
    for line in lines:
        verb, pid, stop_signal = line.split()
        if verb == "+":
            watched[int(pid)] = int(stop_signal)
        else:
            watched.pop(int(pid), None)
    return watched


def end(watched: dict[int, int]) -> None:
    """Stops every watched group, the latest first; what is left after `GRACE_S` is killed."""
    for pid in reversed(watched):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, watched[pid])
    if watched:
        time.sleep(GRACE_S)
    for pid in watched:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def main() -> None:
    """Waits for the parent's end, then ends what it left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(read_watched(sys.stdin))


if __name__ == "__main__":
    main()

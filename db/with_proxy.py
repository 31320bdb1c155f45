"""Runs a command and a proxy in one container. However one of the two ends, both have ended then.

    python -m db.with_proxy --startup=http://127.0.0.1:9801/startup -- cloud-sql-proxy ARGUMENT… -- COMMAND…

The command starts when the proxy answers `--startup` with 200, and Postgres and Redis of the environment answer:
an instance with Direct VPC egress may need a minute or more until its network can be used. SIGTERM goes to the
command, which may finish. The exit code is the command's, or 128 and the number of the signal that ended the
command; 1 if the proxy did not start, or ended before the command, or a server did not answer; 127 if a program
cannot be started.
"""

import argparse
import ctypes
import queue
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from threading import Thread
from typing import NoReturn

from db.reachable import find_silent

#: The sources of events.
_PROXY, _COMMAND, _CANCELLED = "proxy", "command", "cancellation"
#: A source, and the exit status of its process.
_Event = tuple[str, int]
_Process = subprocess.Popen[bytes]

#: Seconds between two questions to the proxy, and to the servers: each of these may be a line in the proxy's log.
_PROBE_S, _SERVER_PROBE_S = 0.1, 2.0
_PR_SET_PDEATHSIG = 1
_FAILED, _NOT_STARTED = 1, 127


class ProxyLost(Exception):
    """The proxy did not start, or ended before the command."""


class ServerSilent(Exception):
    """Postgres or Redis did not answer."""


class Pair:
    """The proxy and the command.

    Args:
        startup: URL that the proxy answers with 200 when it is ready.
        start_s: seconds within which the proxy must be ready.
        answer_s: seconds within which Postgres and Redis must answer, after the proxy is ready.
        grace_s: seconds from SIGTERM to SIGKILL, for the proxy, and for a command without a proxy.
    """

    def __init__(self, startup: str, start_s: float, answer_s: float, grace_s: float) -> None:
        self._startup, self._start_s, self._answer_s, self._grace_s = startup, start_s, answer_s, grace_s
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._started: list[_Process] = []
        self._end_with_parent = _end_with_parent()

    def cancel(self) -> None:
        """Send the command SIGTERM; without a command, end. May be called by a handler of signals."""
        self._events.put((_CANCELLED, signal.SIGTERM))

    def run(self, proxy: Sequence[str], command: Sequence[str]) -> int:
        """Run both to their ends; return the exit code.

        Raises:
            ProxyLost: the proxy did not start, or ended before the command.
            ServerSilent: Postgres or Redis did not answer; the command did not run.
            OSError: one of the programs cannot be started.
        """
        try:
            beside = self._start(proxy)
            if not (self._is_ready(beside) and self._is_answered(beside)):
                return 128 + signal.SIGTERM
            return self._wait(beside, self._start(command))
        finally:
            for process in reversed(self._started):
                self._stop(process)

    def _start(self, arguments: Sequence[str]) -> _Process:
        # The kernel ends the process with this one, so that not even SIGKILL leaves one behind.
        process = subprocess.Popen(arguments, preexec_fn=self._end_with_parent)  # noqa: PLW1509 - no threads yet
        self._started.append(process)
        return process

    def _is_ready(self, proxy: _Process) -> bool:
        """Wait until the proxy is ready; False if a cancellation came first."""
        deadline = time.monotonic() + self._start_s
        while not _answers(self._startup):
            if time.monotonic() > deadline:
                raise ProxyLost(f"the proxy was not ready at {self._startup} within {self._start_s:g} s")
            if self._is_cancelled(proxy, _PROBE_S):
                return False
        return True

    def _is_answered(self, proxy: _Process) -> bool:
        """Wait until Postgres and Redis answer; False if a cancellation came first."""
        deadline, is_first = time.monotonic() + self._answer_s, True
        while silent := find_silent():
            if time.monotonic() > deadline:
                raise ServerSilent(
                    f"{silent} did not answer within {self._answer_s:g} s, so the command did not run: check that "
                    "the server runs, and that the network of this container leads to it"
                )
            if is_first:
                _tell(f"{silent} does not answer yet; asked again for {self._answer_s:g} s")
                is_first = False
            if self._is_cancelled(proxy, _SERVER_PROBE_S):
                return False
        return True

    def _is_cancelled(self, proxy: _Process, pause_s: float) -> bool:
        """Wait for a cancellation, or the end of the pause. Raises ProxyLost if the proxy has ended."""
        if proxy.poll() is not None:
            raise ProxyLost(f"the proxy ended with exit status {proxy.returncode} before the command began")
        try:
            self._events.get(timeout=pause_s)
        except queue.Empty:
            return False
        return True

    def _wait(self, proxy: _Process, command: _Process) -> int:
        for source, process in ((_PROXY, proxy), (_COMMAND, command)):
            Thread(target=self._report, args=(source, process), daemon=True).start()
        while True:
            source, status = self._events.get()
            if source == _COMMAND:
                return status if status >= 0 else 128 - status
            if source == _PROXY:
                raise ProxyLost(f"the proxy ended with exit status {status} while the command ran")
            command.terminate()

    def _report(self, source: str, process: _Process) -> None:
        self._events.put((source, process.wait()))

    def _stop(self, process: _Process) -> None:
        process.terminate()
        try:
            process.wait(self._grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line.

    Raises:
        SystemExit: always, with the exit code.
    """
    options, proxy, command = _parts(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        description="Runs a command and a proxy.", usage="%(prog)s OPTION… -- PROXY ARGUMENT… -- COMMAND ARGUMENT…"
    )
    parser.add_argument("--startup", required=True, metavar="URL", help="answers 200 when the proxy is ready")
    parser.add_argument("--start-s", type=float, default=120, help="seconds within which the proxy must be ready")
    parser.add_argument(
        "--answer-s", type=float, default=180, help="seconds within which Postgres and Redis must answer"
    )
    parser.add_argument("--grace-s", type=float, default=10, help="seconds from SIGTERM to SIGKILL")
    found = parser.parse_args(options)
    if not proxy or not command:
        parser.error("the proxy or the command is missing")
    pair = Pair(found.startup, found.start_s, found.answer_s, found.grace_s)
    signal.signal(signal.SIGTERM, lambda *_: pair.cancel())
    try:
        sys.exit(pair.run(proxy, command))
    except ProxyLost as error:
        _end(_FAILED, f"{error}; the lines above are the proxy's")
    except ServerSilent as error:
        _end(_FAILED, str(error))
    except OSError as error:
        _end(_NOT_STARTED, f"{error}; take an image that contains the proxy and the command")


def _parts(arguments: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The options, the proxy and the command, which the first two `--` separate; a missing part is empty."""
    parts: list[list[str]] = [[], [], []]
    number = 0
    for argument in arguments:
        if argument == "--" and number < len(parts) - 1:
            number += 1
        else:
            parts[number].append(argument)
    options, proxy, command = parts
    return options, proxy, command


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - from the job's own arguments
            return bool(answer.status == 200)
    except OSError:
        return False


def _end_with_parent() -> Callable[[], None] | None:
    """What a forked process calls so that the kernel kills it when its parent ends; None on other systems."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(code: int, message: str) -> NoReturn:
    _tell(message)
    sys.exit(code)


def _tell(message: str) -> None:
    sys.stderr.write(f"dropline: {message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()

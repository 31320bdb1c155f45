"""`python -m worker.health`: exit code 0 if an engine of a worker is ready, else 1 and the reason.

For a container's health check. The engine greets every connection once its model is loaded. Before that, and after
the engine's death, the connection waits in the parent's backlog. An engine does not outlive its parent, so one
greeting proves both alive. Redis and Postgres are not checked: a restart of the container would not repair either.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

from worker.engine.sockets import connect, find_addresses

#: Longest wait for the greeting, in seconds: shorter than the health check's timeout in the Dockerfile.
_TIMEOUT_S = 10.0
#: In bytes; the challenge of `multiprocessing.connection` is far shorter.
_MAX_GREETING_BYTES = 1024
_NOT_READY = "the engine is not ready; look for engine_ready in the worker's log"


def main(arguments: list[str]) -> int:
    """Check the engines in the given directory, by default that for temporary files; returns the exit code."""
    directory = Path(arguments[0]) if arguments else Path(tempfile.gettempdir())
    problem = find_problem(directory, _TIMEOUT_S)
    if problem:
        sys.stderr.write(f"unhealthy: {problem}\n")
    return 1 if problem else 0


def find_problem(directory: Path, timeout_s: float) -> str:
    """The reason why no engine answers; empty if an engine answers.

    Args:
        directory: the workers' directory for temporary files, with the engines' sockets.
        timeout_s: longest wait for all engines together, in seconds.
    """
    addresses = find_addresses(directory)
    if not addresses:
        return (
            f"no worker runs, or its directory for temporary files is not {directory}: start `python -m worker`, "
            "or give the worker's directory for temporary files (TMPDIR) as the argument"
        )
    return greeting_problem(addresses, timeout_s)


def greeting_problem(addresses: Sequence[Path], timeout_s: float) -> str:
    """The reason why no engine greets; empty if an engine greets.

    Args:
        addresses: the engines' sockets.
        timeout_s: longest wait for all engines together, in seconds.
    """
    if not addresses:
        return _NOT_READY
    problems: list[str] = []
    abandoned = 0
    with contextlib.ExitStack() as cleanup:
        waiting: dict[Connection, Path] = {}
        for address in addresses:
            try:
                waiting[cleanup.enter_context(connect(address, timeout_s))] = address
            except ConnectionRefusedError:
                abandoned += 1
            except OSError as error:
                problems.append(f"{address}: {error}")
        if _greets(waiting, problems, timeout_s):
            return ""
    problems += [f"{address}: {_NOT_READY}" for address in waiting.values()]
    if abandoned:
        problems.append(f"sockets of killed workers in {addresses[0].parent.parent}: {abandoned}")
    return "; ".join(problems)


def _greets(waiting: dict[Connection, Path], problems: list[str], timeout_s: float) -> bool:
    """Wait for the first greeting of all engines: a loading engine must not take the time of a ready engine."""
    deadline = time.monotonic() + timeout_s
    while waiting and (greeted := wait(list(waiting), max(0.0, deadline - time.monotonic()))):
        for connection in greeted:
            assert isinstance(connection, Connection)
            try:
                connection.recv_bytes(_MAX_GREETING_BYTES)
            except (EOFError, OSError) as error:
                problems.append(f"{waiting.pop(connection)}: {str(error) or 'the engine has just died'}")
            else:
                return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

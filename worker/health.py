"""`python -m worker.health`: exit code 0 if a worker's engine is ready, else 1 and the reason.

For a container's health check. The engine greets every connection once its model is loaded. Before that, and after
the engine's death, the connection waits in the parent's backlog. An engine does not outlive its parent, so one
greeting proves both alive. Redis and Postgres are not checked: a restart of the container would not repair either.
"""

import sys
import tempfile
import time
from pathlib import Path

from worker.engine.sockets import connect, find_addresses

#: Longest wait for the greeting, in seconds: shorter than the health check's timeout in the Dockerfile.
_TIMEOUT_S = 10.0
#: In bytes; the challenge of `multiprocessing.connection` is far shorter.
_MAX_GREETING_BYTES = 1024


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
    deadline = time.monotonic() + timeout_s
    problems: list[str] = []
    abandoned = 0
    for address in addresses:
        try:
            _wait_for_greeting(address, deadline)
        except ConnectionRefusedError:
            abandoned += 1
        except (EOFError, OSError) as error:
            problems.append(f"{address}: {str(error) or 'the engine has just died'}")
        else:
            return ""
    if abandoned:
        problems.append(f"sockets of killed workers in {directory}: {abandoned}")
    return "; ".join(problems)


def _wait_for_greeting(address: Path, deadline: float) -> None:
    with connect(address, max(0.0, deadline - time.monotonic())) as connection:
        if not connection.poll(max(0.0, deadline - time.monotonic())):
            raise TimeoutError("the engine is not ready; look for engine_ready in the worker's log")
        connection.recv_bytes(_MAX_GREETING_BYTES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

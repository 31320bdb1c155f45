"""`python -m worker.health`: exit code 0 where a worker's engine is ready, else 1 and why.

For a container's health check. The engine greets whoever connects, once its model is loaded; until then, and after
its death, the connection waits in the parent's queue. An engine does not outlive its parent, so a greeting tells
of both. Nothing outside this machine is asked: neither Redis nor Postgres, whose absence no restart would mend.
"""

import sys
import tempfile
import time
from pathlib import Path

from worker.engine.sockets import connect, find_addresses

#: Longest wait for the greeting, in seconds: shorter than the health check's timeout in the Dockerfile.
_TIMEOUT_S = 10.0
#: In bytes; the challenge of `multiprocessing.connection` is far shorter.
_LONGEST_GREETING = 1024


def main(arguments: list[str]) -> int:
    """Look for the engines of this machine's workers, or in the given directory; the program's exit code."""
    directory = Path(arguments[0]) if arguments else Path(tempfile.gettempdir())
    complaint = find_complaint(directory, _TIMEOUT_S)
    if complaint:
        sys.stderr.write(f"unhealthy: {complaint}\n")
    return 1 if complaint else 0


def find_complaint(directory: Path, timeout_s: float) -> str:
    """Why no engine answers, or nothing where one does.

    Args:
        directory: where workers keep their engines' sockets: their directory for temporary files.
        timeout_s: longest wait for all of them, in seconds.
    """
    addresses = find_addresses(directory)
    if not addresses:
        return (
            f"no worker runs, or it keeps its files elsewhere than in {directory}: start `python -m worker`, or "
            "give its directory for temporary files (TMPDIR) as the argument"
        )
    deadline = time.monotonic() + timeout_s
    complaints: list[str] = []
    abandoned = 0
    for address in addresses:
        try:
            _wait_for_greeting(address, deadline)
        except ConnectionRefusedError:
            abandoned += 1
        except (EOFError, OSError) as error:
            complaints.append(f"{address}: {error or 'the engine has just died'}")
        else:
            return ""
    if abandoned:
        complaints.append(
            f"sockets in {directory} that killed workers have left, with nobody behind them: {abandoned}"
        )
    return "; ".join(complaints)


def _wait_for_greeting(address: Path, deadline: float) -> None:
    with connect(address, max(0.0, deadline - time.monotonic())) as connection:
        if not connection.poll(max(0.0, deadline - time.monotonic())):
            raise TimeoutError("the engine is not ready; its worker's log says engine_ready once it is")
        connection.recv_bytes(_LONGEST_GREETING)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

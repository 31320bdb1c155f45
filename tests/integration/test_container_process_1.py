"""The worker as process 1, like in the image: no init process forwards signals or reaps processes."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.contained_worker import NAMESPACE
from tests.support.processes import children
from tests.support.worker_rig import DEADLINE_S, Rig, png


@pytest.fixture(autouse=True)
def namespaces() -> None:
    """Skip if process namespaces are missing or refused."""
    refused = shutil.which(NAMESPACE[0]) is None or subprocess.run([*NAMESPACE, "true"], check=False).returncode
    if refused:
        pytest.skip(f"{' '.join(NAMESPACE)} is refused here")


def test_it_stops_on_sigterm_and_reaps_what_it_started(rig: Rig) -> None:
    """Killed children are replaced and reaped; SIGTERM ends the worker by a warm shutdown, with exit code 0."""
    rig.module = "tests.support.contained_worker"
    worker = rig.worker()
    # If children die before the event loop runs, Celery concludes that the pool cannot start, and exits.
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    (process_1,) = children(worker.pid)
    assert Path(f"/proc/{process_1}/status").read_text().split("NSpid:")[1].split()[1] == "1"
    for pid, child in children(process_1).items():
        if "engine" not in child.command_line:
            os.kill(pid, signal.SIGKILL)
    (row,) = rig.wait_settled([rig.drop("a.png", png((1, 2, 3)))])
    assert row["status"] == "captioned"
    deadline = time.monotonic() + DEADLINE_S
    while any(child.state == "Z" for child in children(process_1).values()):
        assert time.monotonic() < deadline, "nobody reaps the children"
        time.sleep(0.1)
    os.kill(process_1, signal.SIGTERM)
    assert worker.wait_for_exit(DEADLINE_S)
    assert "ended with exit status 0" in worker.describe_death()

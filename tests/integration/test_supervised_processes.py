"""Supervised processes: how they get ready, how they die, and that nothing of them is left."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_emulators import redis
from local_emulators.errors import (
    MissingBinaryError,
    ServiceDiedError,
    ServiceNotReadyError,
    StartCancelledError,
)
from local_emulators.ports import free_ports
from local_emulators.process import Command, process_environment
from local_emulators.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def supervisor(state_directory: Path) -> Iterator[Supervisor]:
    with Supervisor(state_directory / "logs") as running:
        yield running


def python_service(source: str, *arguments: str, name: str = "sample", **manners: float) -> Command:
    """A service that is a few lines of Python."""
    return Command(
        name=name,
        argv=(sys.executable, "-c", source, *arguments),
        ready_lines=("ready",),
        environment=process_environment(),
        start_deadline_s=manners.get("start_deadline_s", 60),
        stop_grace_s=manners.get("stop_grace_s", 60),
    )


@pytest.fixture
def fifo(state_directory: Path) -> Path:
    path = state_directory / "fifo"
    os.mkfifo(path)
    return path


#: Holds a FIFO open for as long as it lives: its reader sees the end when the last holder has ended.
HOLDER = "import sys, time; f = open(sys.argv[1], 'w'); print('ready', flush=True); time.sleep(3600)"


def test_a_binary_that_cannot_be_run_is_named(supervisor: Supervisor, state_directory: Path) -> None:
    """A path that is no program gives an error that holds the path."""
    path = str(state_directory / "nothing")
    command = Command(name="sample", argv=(path,), ready_lines=(), environment={})
    with pytest.raises(MissingBinaryError, match=path):
        supervisor.start(command)


def test_a_service_that_dies_is_reported_with_its_last_lines(
    supervisor: Supervisor, state_directory: Path
) -> None:
    """A death from outside wakes the one who waits, and says how it died, its last words and its log."""
    server = redis.start(supervisor, state_directory / "redis", free_ports(1)[0], "secret")
    os.kill(server.service.pid, signal.SIGKILL)
    assert supervisor.wait_for_death() is server.service
    told = server.service.describe_death()
    assert "redis was killed by SIGKILL" in told
    assert "Ready to accept connections" in told
    assert str(server.service.log_path) in told


def test_a_wanted_death_is_not_reported(supervisor: Supervisor, state_directory: Path) -> None:
    """`kill` and `restart` on purpose are no news; the next unwanted death is."""
    server = redis.start(supervisor, state_directory / "redis", free_ports(1)[0], "secret")
    other = supervisor.start(python_service(HOLDER, os.devnull))
    server.service.kill()
    server.service.restart()
    other.signal(signal.SIGTERM)
    assert supervisor.wait_for_death() is other


def test_a_service_that_ends_before_it_is_ready_gives_its_words(supervisor: Supervisor) -> None:
    """The error holds the exit status and what the service said."""
    with pytest.raises(ServiceDiedError, match=r"(?s)sample ended with exit status 3.*no such luck"):
        supervisor.start(python_service("print('no such luck'); raise SystemExit(3)"))


def test_a_service_that_never_gets_ready_is_named(supervisor: Supervisor) -> None:
    """A service that runs but never says that it is ready gives an error with its log."""
    command = python_service("import time; time.sleep(3600)", start_deadline_s=0.5)
    with pytest.raises(ServiceNotReadyError, match=r"sample runs but was not ready.*sample\.log"):
        supervisor.start(command)


def test_a_start_under_way_can_be_cancelled(supervisor: Supervisor) -> None:
    """`cancel` wakes a start that waits, and no later service starts."""
    source = "import time; print('loading', flush=True); time.sleep(3600)"
    outcome: list[BaseException] = []

    def start() -> None:
        try:
            supervisor.start(python_service(source))
        except StartCancelledError as error:
            outcome.append(error)

    starting = threading.Thread(target=start)
    starting.start()
    supervisor.cancel()
    starting.join(60)
    assert len(outcome) == 1
    with pytest.raises(StartCancelledError):
        supervisor.start(python_service(HOLDER, os.devnull, name="later"))


def test_a_service_that_ignores_sigterm_is_killed(supervisor: Supervisor, fifo: Path) -> None:
    """After its grace a service that will not end is ended."""
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HOLDER
    with _reading(fifo) as reader:
        supervisor.start(python_service(stubborn, str(fifo), stop_grace_s=0.5)).stop()
        assert reader.communicate(timeout=60)[0] == ""


def test_nothing_of_a_service_outlives_its_stop(supervisor: Supervisor, fifo: Path) -> None:
    """A grandchild that its parent forgot ends with the service."""
    parent = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[2], sys.argv[1]])\n"
        "time.sleep(3600)"
    )
    with _reading(fifo) as reader:
        service = supervisor.start(python_service(parent, str(fifo), HOLDER))
        service.stop()
        assert reader.communicate(timeout=60)[0] == ""


def test_nothing_outlives_a_supervisor_that_is_killed(state_directory: Path, fifo: Path) -> None:
    """After `kill -9` of the process that started it, a service is ended all the same."""
    source = (
        "import sys; from pathlib import Path; from local_emulators.process import *\n"
        "from local_emulators.supervisor import Supervisor\n"
        "s = Supervisor(Path(sys.argv[1]))\n"
        "argv = (sys.executable, '-c', sys.argv[3], sys.argv[2])\n"
        "s.start(Command('sample', argv, ('ready',), process_environment()))\n"
        "print('started', flush=True); s.wait_for_death()"
    )
    argv = [sys.executable, "-c", source, str(state_directory), str(fifo), HOLDER]
    with (
        _reading(fifo) as reader,
        subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent,
    ):
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        parent.kill()
        assert reader.communicate(timeout=60)[0] == ""


def _reading(fifo: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE, text=True)

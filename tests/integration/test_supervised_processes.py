"""Supervised processes: readiness, unexpected ends, and no process left behind."""

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


def python_service(source: str, *arguments: str, name: str = "sample", **deadlines: float) -> Command:
    """A service from a few lines of Python."""
    return Command(
        name=name,
        argv=(sys.executable, "-c", source, *arguments),
        ready_lines=("ready",),
        environment=process_environment(),
        start_deadline_s=deadlines.get("start_deadline_s", 60),
        stop_grace_s=deadlines.get("stop_grace_s", 60),
    )


@pytest.fixture
def fifo(state_directory: Path) -> Path:
    path = state_directory / "fifo"
    os.mkfifo(path)
    return path


#: Keeps a FIFO open until the exit: the reader sees the end of the FIFO after the last holder's exit.
HOLDER = "import sys, time; f = open(sys.argv[1], 'w'); print('ready', flush=True); time.sleep(3600)"


def test_a_missing_binary_is_reported_by_path(supervisor: Supervisor, state_directory: Path) -> None:
    """A path without a program gives an error with the path."""
    path = str(state_directory / "nothing")
    command = Command(name="sample", argv=(path,), ready_lines=(), environment={})
    with pytest.raises(MissingBinaryError, match=path):
        supervisor.start(command)


def test_an_unexpected_end_is_reported_with_the_last_lines(supervisor: Supervisor, state_directory: Path) -> None:
    """A service killed from outside ends `wait_for_death`; the message has signal, last lines and log path."""
    server = redis.start(supervisor, state_directory / "redis", free_ports(1)[0], "secret")
    os.kill(server.service.pid, signal.SIGKILL)
    assert supervisor.wait_for_death() is server.service
    message = server.service.describe_death()
    assert "redis was killed by SIGKILL" in message
    assert "Ready to accept connections" in message
    assert str(server.service.log_path) in message


def test_an_expected_end_is_not_reported(supervisor: Supervisor, state_directory: Path) -> None:
    """`kill` and `restart` are not reported; the next unexpected end is."""
    server = redis.start(supervisor, state_directory / "redis", free_ports(1)[0], "secret")
    other = supervisor.start(python_service(HOLDER, os.devnull))
    server.service.kill()
    server.service.restart()
    other.signal(signal.SIGTERM)
    assert supervisor.wait_for_death() is other


def test_an_end_before_readiness_is_reported_with_the_output(supervisor: Supervisor) -> None:
    """The error has the exit status and the service's output."""
    with pytest.raises(ServiceDiedError, match=r"(?s)sample ended with exit status 3.*no such luck"):
        supervisor.start(python_service("print('no such luck'); raise SystemExit(3)"))


def test_a_service_without_readiness_is_reported(supervisor: Supervisor) -> None:
    """A running service without the ready line gives an error with the path of the log."""
    command = python_service("import time; time.sleep(3600)", start_deadline_s=0.5)
    with pytest.raises(ServiceNotReadyError, match=r"sample runs but was not ready.*sample\.log"):
        supervisor.start(command)


def test_a_running_start_can_be_cancelled(supervisor: Supervisor) -> None:
    """`cancel` ends a waiting start, and no later service starts."""
    source = "import time; print('loading', flush=True); time.sleep(3600)"
    errors: list[BaseException] = []

    def start() -> None:
        try:
            supervisor.start(python_service(source))
        except StartCancelledError as error:
            errors.append(error)

    starting = threading.Thread(target=start)
    starting.start()
    supervisor.cancel()
    starting.join(60)
    assert len(errors) == 1
    with pytest.raises(StartCancelledError):
        supervisor.start(python_service(HOLDER, os.devnull, name="later"))


def test_a_service_that_ignores_sigterm_is_killed(supervisor: Supervisor, fifo: Path) -> None:
    """After the grace period a service with an ignored stop signal is killed."""
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HOLDER
    with _reading(fifo) as reader:
        supervisor.start(python_service(stubborn, str(fifo), stop_grace_s=0.5)).stop()
        assert reader.communicate(timeout=60)[0] == ""


def test_no_process_of_a_service_outlives_the_stop(supervisor: Supervisor, fifo: Path) -> None:
    """An orphaned subprocess of a service ends with the service."""
    parent = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[2], sys.argv[1]])\n"
        "time.sleep(3600)"
    )
    with _reading(fifo) as reader:
        service = supervisor.start(python_service(parent, str(fifo), HOLDER))
        service.stop()
        assert reader.communicate(timeout=60)[0] == ""


def test_no_process_outlives_a_killed_supervisor(state_directory: Path, fifo: Path) -> None:
    """After `kill -9` of the supervisor's process the services end too."""
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

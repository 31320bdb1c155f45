"""`python -m worker.health` against real engines."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dropline.contract import Dimensions, TaskPrompt, TaskRequest
from dropline.settings import EngineSettings, LogSettings
from tests.support.scripted_engine import SIZE, image
from worker.engine.client import EngineClient
from worker.engine.process import EngineProcess
from worker.engine.sockets import address_in, make_directory
from worker.engine.wire import CaptionRequest
from worker.health import find_problem, main

DEADLINE_S = 120.0
#: Long enough to read a sent greeting, and short where no greeting is sent.
BRIEF_S = 0.5


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory for temporary files; the path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="health-") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


@pytest.fixture
def engine(temporary: Path) -> Iterator[EngineProcess]:
    """An engine that is not started."""
    settings = EngineSettings(checkpoint=str(temporary))
    engine = EngineProcess(settings, LogSettings(), module="tests.support.scripted_engine")
    try:
        yield engine
    finally:
        engine.close()


def start(engine: EngineProcess) -> None:
    engine.start()
    engine.wait_ready(DEADLINE_S)


def test_a_machine_without_a_worker_is_unhealthy(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a worker, the exit code is 1 and the reason is on standard error."""
    assert main([]) == 1
    assert "no worker runs" in capsys.readouterr().err


def test_a_ready_engine_is_healthy(engine: EngineProcess, temporary: Path) -> None:
    """A ready engine is healthy; the program has exit code 0 and no output."""
    start(engine)
    assert main([]) == 0
    finished = subprocess.run(
        [sys.executable, "-m", "worker.health", temporary], capture_output=True, text=True, check=False, timeout=60
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_a_worker_without_a_ready_engine_is_unhealthy(engine: EngineProcess, temporary: Path) -> None:
    """Before the start of the engine the check fails: the connection waits without a greeting."""
    assert "not ready" in find_problem(temporary, BRIEF_S)
    start(engine)
    assert not find_problem(temporary, DEADLINE_S)


def test_the_death_and_the_restart_of_an_engine_are_detected(engine: EngineProcess, temporary: Path) -> None:
    """A killed engine is unhealthy, and a restarted engine is healthy."""
    start(engine)
    assert not find_problem(temporary, DEADLINE_S)
    assert engine.pid
    os.kill(engine.pid, signal.SIGKILL)
    engine.stop(DEADLINE_S)
    assert find_problem(temporary, BRIEF_S)
    start(engine)
    assert not find_problem(temporary, DEADLINE_S)


def test_a_worker_that_was_killed_does_not_count(engine: EngineProcess, temporary: Path) -> None:
    """The socket of a killed worker refuses connections, and the reason counts such sockets."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(address_in(make_directory())))
        left.listen()
    engine.close()
    assert f"sockets of killed workers in {temporary}: 1" in find_problem(temporary, BRIEF_S)


def test_one_ready_engine_is_enough(engine: EngineProcess, temporary: Path) -> None:
    """One ready engine is healthy, although a restarted container has the socket of the earlier worker."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(address_in(make_directory())))
        left.listen()
    start(engine)
    assert not find_problem(temporary, DEADLINE_S)


def test_an_engine_that_loads_does_not_hide_a_ready_one(engine: EngineProcess, temporary: Path) -> None:
    """A worker with two engines is healthy while one of them is started again, whichever has the first address."""
    starting = [
        EngineProcess(EngineSettings(), LogSettings(), module="tests.support.scripted_engine") for _ in "ab"
    ]
    try:
        start(engine)
        assert not find_problem(temporary, DEADLINE_S)
    finally:
        for each in starting:
            each.close()


def test_health_checks_do_not_disturb_an_engine(engine: EngineProcess, temporary: Path) -> None:
    """The engine captions images between health checks."""
    start(engine)
    with EngineClient(engine.address, engine.authkey) as client:
        for number in range(20):
            assert not find_problem(temporary, DEADLINE_S)
            request = CaptionRequest(image(number), TaskRequest(TaskPrompt.CAPTION), Dimensions(SIZE, SIZE))
            caption = client.caption(request, timeout_s=DEADLINE_S)
            assert caption.text == f"<CAPTION> {number}"


def test_a_health_check_is_cheap() -> None:
    """The check imports only the standard library, because a container runs the check twice a minute."""
    script = "import sys, worker.health; print([name for name in sys.modules if name in set(sys.argv[1:])])"
    heavy = ["pydantic", "celery", "numpy", "torch", "sqlalchemy", "redis", "dropline.settings"]
    finished = subprocess.run(
        [sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True, timeout=60
    )
    assert finished.stdout.strip() == "[]"

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
from worker.health import find_complaint, main

DEADLINE_S = 120.0
#: Long enough for a greeting that is there to be read, and no wait for one that never comes.
BRIEF_S = 0.5


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory for temporary files, empty; with a short path, as it is for sockets."""
    with tempfile.TemporaryDirectory(prefix="health-") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


@pytest.fixture
def engine(temporary: Path) -> Iterator[EngineProcess]:
    """One that is not started yet."""
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
    """Exit code 1, and a sentence that says what is missing."""
    assert main([]) == 1
    assert "no worker runs" in capsys.readouterr().err


def test_a_ready_engine_is_healthy(engine: EngineProcess, temporary: Path) -> None:
    """As a program too: exit code 0, not a word."""
    start(engine)
    assert main([]) == 0
    finished = subprocess.run(
        [sys.executable, "-m", "worker.health", temporary], capture_output=True, text=True, check=False, timeout=60
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_a_worker_whose_engine_is_not_there_yet_is_unhealthy(engine: EngineProcess, temporary: Path) -> None:
    """The parent's queue takes the connection, but nobody greets."""
    assert "not ready" in find_complaint(temporary, BRIEF_S)
    start(engine)
    assert not find_complaint(temporary, DEADLINE_S)


def test_the_death_of_an_engine_is_seen_and_so_is_the_next(engine: EngineProcess, temporary: Path) -> None:
    """Healthy, unhealthy, healthy."""
    start(engine)
    assert not find_complaint(temporary, DEADLINE_S)
    assert engine.pid
    os.kill(engine.pid, signal.SIGKILL)
    engine.stop(DEADLINE_S)
    assert find_complaint(temporary, BRIEF_S)
    start(engine)
    assert not find_complaint(temporary, DEADLINE_S)


def test_a_worker_that_was_killed_does_not_count(engine: EngineProcess, temporary: Path) -> None:
    """What it left refuses connections; another worker beside it is healthy all the same."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(address_in(make_directory())))
        left.listen()
    engine.close()
    assert "nobody behind them: 1" in find_complaint(temporary, BRIEF_S)


def test_it_is_enough_that_one_engine_answers(engine: EngineProcess, temporary: Path) -> None:
    """A container that was started again still holds what its former worker left."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(address_in(make_directory())))
        left.listen()
    start(engine)
    assert not find_complaint(temporary, DEADLINE_S)


def test_being_asked_does_an_engine_no_harm(engine: EngineProcess, temporary: Path) -> None:
    """It goes on answering its children; they do not notice."""
    start(engine)
    with EngineClient(engine.address, engine.authkey) as client:
        for number in range(20):
            assert not find_complaint(temporary, DEADLINE_S)
            request = CaptionRequest(image(number), TaskRequest(TaskPrompt.CAPTION), Dimensions(SIZE, SIZE))
            caption = client.caption(request, timeout_s=DEADLINE_S)
            assert caption.text == f"<CAPTION> {number}"


def test_asking_is_cheap() -> None:
    """It is done twice a minute for as long as a container lives: the standard library is enough."""
    script = "import sys, worker.health; print([name for name in sys.modules if name in set(sys.argv[1:])])"
    heavy = ["pydantic", "celery", "numpy", "torch", "sqlalchemy", "redis", "dropline.settings"]
    finished = subprocess.run(
        [sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True, timeout=60
    )
    assert finished.stdout.strip() == "[]"

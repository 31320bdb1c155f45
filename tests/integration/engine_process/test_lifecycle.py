"""Start, stop and death of a real engine."""

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dropline.errors import DroplineError, EngineLost, EngineUnavailable, SettingsError
from dropline.settings import EngineSettings, LogSettings
from tests.support.engines import DEADLINE_S, caption, client_of, readable, running
from tests.support.scripted_engine import DIE, GATE, image
from worker.engine.process import EngineProcess


def test_a_dead_engine_is_noticed_and_started_again_at_the_same_address(scripted: EngineProcess) -> None:
    """The sentinel is readable at the death, not before; clients reconnect to the next engine by themselves."""
    with client_of(scripted) as client:
        assert caption(client, image(1)).text == "<CAPTION> 1"
        assert not readable(scripted.sentinel, 0)
        with pytest.raises(EngineLost):
            caption(client, image(2, DIE))
        assert readable(scripted.sentinel)
        with pytest.raises(EngineUnavailable):
            caption(client, image(3))
        scripted.start()
        assert readable(scripted.ready_fd)
        scripted.wait_ready(0)
        assert not readable(scripted.ready_fd, 0)
        assert caption(client, image(4)).text == "<CAPTION> 4"


def test_stop_lets_the_current_batch_end(scripted: EngineProcess, tmp_path: Path) -> None:
    """A warm shutdown finishes the current batch; SIGTERM and SIGINT, sent to whole groups, are ignored."""
    with ThreadPoolExecutor() as pool, client_of(scripted) as client:
        answer = pool.submit(caption, client, image(1, GATE))
        (tmp_path / "reached").read_bytes()
        assert scripted.pid
        os.kill(scripted.pid, signal.SIGTERM)
        os.kill(scripted.pid, signal.SIGINT)
        stopping = pool.submit(scripted.stop, DEADLINE_S)
        (tmp_path / "go").open("w").close()
        assert answer.result(DEADLINE_S).text == "<CAPTION> 1"
        stopping.result(DEADLINE_S)
    assert not scripted.alive


def test_stop_works_although_forked_children_live(
    scripted: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine ends without a kill, although prefork children hold copies of the standard input."""
    killed = []
    kill = subprocess.Popen.kill

    def note_and_kill(process: subprocess.Popen[bytes]) -> None:
        killed.append(process.pid)
        kill(process)

    monkeypatch.setattr(subprocess.Popen, "kill", note_and_kill)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        scripted.stop(DEADLINE_S)
        assert not killed
    finally:
        os.close(reader)
        os.close(writer)
        os.waitpid(child, 0)


def test_stop_kills_after_the_grace_period(scripted: EngineProcess, tmp_path: Path) -> None:
    """After the grace period the process is gone, and after close the directory too."""
    with ThreadPoolExecutor() as pool, client_of(scripted) as client:
        answer = pool.submit(caption, client, image(1, GATE))
        (tmp_path / "reached").read_bytes()
        scripted.close()
        with pytest.raises(EngineLost):
            answer.result(DEADLINE_S)
    assert not Path(scripted.address).parent.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_environment_decides_how_the_engines_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either variable of the operator is left alone; the engine's own has an effect without both alone."""
    for variable, value in ((None, None), ("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "PASSIVE")):
        with monkeypatch.context() as patch:
            for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
                patch.delenv(name, raising=False)
            if variable and value:
                patch.setenv(variable, value)
            with running("worker.engine.runtime", stub=True) as engine:
                entries = Path(f"/proc/{engine.pid}/environ").read_text().split("\0")
        found = [each for each in entries if each.startswith(("GOMP_SPINCOUNT=", "OMP_WAIT_POLICY="))]
        assert found == [f"{variable}={value}" if variable else "GOMP_SPINCOUNT=10000"]


_SHORT_LIVED_PARENT = """
import os, signal, sys
from dropline.settings import EngineSettings, LogSettings
from worker.engine.process import EngineProcess
engine = EngineProcess(EngineSettings(stub=True), LogSettings())
engine.start()
engine.wait_ready()
if os.fork() == 0:
    signal.pause()
print(engine.pid, flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process descriptor is the event to wait for")
def test_the_engine_dies_with_its_parent() -> None:
    """The engine ends with a killed parent, although a forked child holds copies of the descriptors."""
    # A killed parent cannot remove the directory of the socket.
    with tempfile.TemporaryDirectory() as directory:
        parent = subprocess.Popen(
            [sys.executable, "-c", _SHORT_LIVED_PARENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TMPDIR": directory},
            start_new_session=True,
        )
        _check_that_the_engine_ends(parent)


def _check_that_the_engine_ends(parent: subprocess.Popen[bytes]) -> None:
    assert parent.stdin
    assert parent.stdout
    try:
        engine = os.pidfd_open(int(parent.stdout.readline()))
        parent.stdin.close()
        assert readable(engine)
        os.close(engine)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()


def test_an_unreachable_hub_gives_a_one_line_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the checkpoint, the command to fetch the checkpoint beforehand, and the demo model."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(EngineUnavailable) as caught, running("worker.engine.runtime"):
        pass
    message = str(caught.value)
    assert "florence-community/Florence-2-base-ft" in message
    assert "hf download florence-community/Florence-2-base-ft --revision " in message
    assert "DROPLINE_ENGINE__CHECKPOINT=demo" in message
    assert "\n" not in message


def test_unusable_settings_are_a_settings_error(tmp_path: Path) -> None:
    """The engine's SettingsError is a SettingsError in the parent too."""
    with (
        pytest.raises(SettingsError, match="safetensors"),
        running("worker.engine.runtime", checkpoint=str(tmp_path)),
    ):
        pass


def test_an_engine_that_dies_while_it_loads_is_reported() -> None:
    """The error names the exit code of an engine that died without a report."""
    with pytest.raises(EngineUnavailable, match="exit code 1"), running("tests.support.no_such_module"):
        pass


def test_an_engine_is_used_in_the_right_order() -> None:
    """Waiting before the start, a second start, and too short a wait are errors that name the remedy."""
    engine = EngineProcess(EngineSettings(stub=True), LogSettings())
    try:
        with pytest.raises(EngineUnavailable, match=r"call start\(\)"):
            engine.wait_ready()
        engine.start()
        with pytest.raises(EngineUnavailable, match="START_TIMEOUT_S"):
            engine.wait_ready(0)
        with pytest.raises(EngineUnavailable, match="already running"):
            engine.start()
        engine.wait_ready(DEADLINE_S)
        engine.wait_ready(0)
    finally:
        engine.close()
    with pytest.raises(DroplineError):
        client_of(engine).announce()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names TMPDIR, and the directory is removed."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(SettingsError, match="TMPDIR"):
        EngineProcess(EngineSettings(stub=True), LogSettings())
    assert not list(long.iterdir())

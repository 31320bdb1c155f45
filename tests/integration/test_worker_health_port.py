"""The worker's port for probes, with real engines."""

import http.client
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dropline.errors import SettingsError
from dropline.settings import EngineSettings, LogSettings
from local_emulators.ports import free_ports
from tests.support.worker_rig import Rig, png
from worker import health_port
from worker.engine.process import EngineProcess
from worker.health_port import EngineHealth, HealthPort

DEADLINE_S = 120.0
START_TIMEOUT_S = 100.0
#: Long enough to read a sent greeting, and short where no greeting is sent.
BRIEF_S = 0.5


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine that is not started."""
    settings = EngineSettings(checkpoint=str(tmp_path))
    engine = EngineProcess(settings, LogSettings(), module="tests.support.scripted_engine")
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture
def port(engine: EngineProcess, clock: Clock) -> HealthPort:
    """A port that listens."""
    port = HealthPort(0, EngineHealth(lambda: [Path(engine.address)], START_TIMEOUT_S, clock, BRIEF_S))
    port.start()
    return port


def get(port: HealthPort, path: str = "/healthz") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port.port, timeout=DEADLINE_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_a_start_may_take_its_time_and_no_longer(engine: EngineProcess, port: HealthPort, clock: Clock) -> None:
    """Before the engine is ready a worker is healthy for the time of a start; then the reason is in the answer."""
    clock.now_s = START_TIMEOUT_S
    assert get(port)[0] == 200
    clock.now_s += 1
    status, text = get(port)
    assert status == 503
    assert "the engine is not ready" in text
    engine.start()
    engine.wait_ready(DEADLINE_S)
    assert get(port) == (200, "healthy\n")


def test_a_dead_engine_has_the_time_of_another_start(
    engine: EngineProcess, port: HealthPort, clock: Clock
) -> None:
    """The time begins again with each greeting: a restart of the engine is no reason to restart the container."""
    engine.start()
    engine.wait_ready(DEADLINE_S)
    clock.now_s = 10 * START_TIMEOUT_S
    assert get(port)[0] == 200
    engine.stop(0)
    clock.now_s += START_TIMEOUT_S
    assert get(port)[0] == 200
    clock.now_s += 1
    assert get(port)[0] == 503


def test_a_caller_that_says_nothing_holds_up_nobody_for_ever(port: HealthPort) -> None:
    """Other paths are not found, and a connection that is closed without a request does not end the port."""
    connection = http.client.HTTPConnection("127.0.0.1", port.port, timeout=DEADLINE_S)
    connection.connect()
    connection.close()
    assert get(port, "/ready")[0] == 404
    assert [thread.name for thread in threading.enumerate()].count("health-port") >= 1


def test_a_slow_caller_holds_up_no_other(
    engine: EngineProcess, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe is answered while another connection says nothing."""
    monkeypatch.setattr(health_port, "_REQUEST_S", 100 * DEADLINE_S)
    port = HealthPort(0, EngineHealth(lambda: [Path(engine.address)], START_TIMEOUT_S, clock, BRIEF_S))
    port.start()
    silent = http.client.HTTPConnection("127.0.0.1", port.port, timeout=DEADLINE_S)
    silent.connect()
    assert get(port)[0] == 200
    silent.close()


def test_before_any_engine_is_ready_none_is_asked(clock: Clock) -> None:
    """A connection to an engine that does not run would wait for it."""
    health = EngineHealth(list, START_TIMEOUT_S, clock, BRIEF_S)
    assert health.problem() == ""
    clock.now_s = START_TIMEOUT_S + 1
    assert "the engine is not ready" in health.problem()


def test_a_port_that_is_taken_is_an_error_of_the_settings(port: HealthPort, engine: EngineProcess) -> None:
    """The message names the setting."""
    other = HealthPort(port.port, EngineHealth(lambda: [Path(engine.address)], START_TIMEOUT_S))
    with pytest.raises(SettingsError, match="DROPLINE_WORKER__HEALTH_PORT"):
        other.start()


def test_a_worker_answers_beside_its_work(rig: Rig) -> None:
    """A real worker listens at the port of the setting, and goes on with it while it captions."""
    (number,) = free_ports(1)
    worker = rig.worker(DROPLINE_WORKER__HEALTH_PORT=str(number))
    (row,) = rig.wait_settled([rig.drop("a.png", png((1, 2, 3)))])
    assert row["status"] == "captioned"
    with urllib.request.urlopen(f"http://127.0.0.1:{number}/healthz", timeout=DEADLINE_S) as answer:
        assert answer.read() == b"healthy\n"
    worker.signal(signal.SIGTERM)
    assert worker.wait_for_exit(DEADLINE_S)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{number}/healthz", timeout=DEADLINE_S)

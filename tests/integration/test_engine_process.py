"""The engine as a real process: spawned, asked, crashed, hung, stopped."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Client, answer_challenge, deliver_challenge
from multiprocessing.reduction import recv_handle
from pathlib import Path

import numpy as np
import pytest

from dropline.contract import Caption, ImageInfo, TaskPrompt, TaskRequest
from dropline.errors import DroplineError, EngineLost, EngineUnavailable, InferenceFailed, SettingsError
from dropline.settings import EngineSettings, LogSettings
from tests.support.scripted_engine import DIE, GATE, HANG, RAISE, REFUSE, RUIN, SIZE, image
from worker.engine import slot
from worker.engine.client import EngineClient
from worker.engine.process import EngineProcess
from worker.engine.slot import Pixels

CAPTION = TaskRequest(TaskPrompt.CAPTION)
ORIGINAL = ImageInfo(SIZE, SIZE)
DEADLINE_S = 120.0


@contextlib.contextmanager
def _running(module: str, **settings: object) -> Iterator[EngineProcess]:
    engine = EngineProcess(EngineSettings.model_validate(settings), LogSettings(level="DEBUG"), module=module)
    try:
        engine.start()
        engine.wait_ready(DEADLINE_S)
        yield engine
    finally:
        engine.close()


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine whose images tell it what to do."""
    os.mkfifo(tmp_path / "reached")
    os.mkfifo(tmp_path / "go")
    with _running("tests.support.scripted_engine", checkpoint=str(tmp_path), max_batch=16) as engine:
        yield engine


def _client(engine: EngineProcess) -> EngineClient:
    return EngineClient(engine.address, engine.authkey)


def _ask(
    client: EngineClient, pixels: Pixels, *, isolated: bool = False, timeout_s: float = DEADLINE_S
) -> Caption:
    return client.caption(pixels, CAPTION, ORIGINAL, isolated=isolated, timeout_s=timeout_s)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _readable(fd: int, timeout_s: float = DEADLINE_S) -> bool:
    return bool(select.select([fd], [], [], timeout_s)[0])


def test_fifty_children_each_get_their_own_answer(scripted: EngineProcess) -> None:
    """Fifty at a time, in batches that do not even fit the device's memory: nobody gets another one's caption."""

    def child(number: int) -> list[str]:
        with _client(scripted) as client:
            captions = []
            for round_ in range(5):
                client.announce()
                captions.append(_ask(client, image(number * 10 + round_), isolated=round_ == 3).text)
            return captions

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(child, range(50)))
    for number, captions in enumerate(answers):
        assert captions == [f"<CAPTION> {number * 10 + round_}" for round_ in range(5)]


def test_a_poisonous_image_fails_alone(scripted: EngineProcess) -> None:
    """Images the model raises on fail with a reason; those that arrived with them are captioned."""

    def child(number: int) -> str:
        poison = {3: RAISE, 7: REFUSE}.get(number % 10, 0)
        with _client(scripted) as client:
            client.announce()
            try:
                return _ask(client, image(number, poison)).text
            except InferenceFailed as error:
                return str(error)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(child, range(20)))
    for number, text in enumerate(answers):
        match number % 10:
            case 3:
                assert "a poisonous image" in text
            case 7:
                assert text == "too long a prompt"
            case _:
                assert text == f"<CAPTION> {number}"
    assert scripted.alive


def test_the_image_under_way_is_lost_and_the_next_is_not_reached(scripted: EngineProcess, tmp_path: Path) -> None:
    """kill -9: who was in the batch hears EngineLost, who still waited hears EngineUnavailable, at once."""
    with ThreadPoolExecutor() as pool, _client(scripted) as running, _client(scripted) as waiting:
        lost = pool.submit(_ask, running, image(1, GATE))
        (tmp_path / "reached").read_bytes()
        assert waiting.input_size == SIZE
        unreached = pool.submit(_ask, waiting, image(2))
        assert scripted.pid
        os.kill(scripted.pid, signal.SIGKILL)
        with pytest.raises(EngineLost):
            lost.result(DEADLINE_S)
        with pytest.raises(EngineUnavailable):
            unreached.result(DEADLINE_S)


def test_a_dead_engine_is_noticed_and_started_again_at_the_same_address(scripted: EngineProcess) -> None:
    """The sentinel is readable at its death, not before; clients reach the next engine without being told."""
    with _client(scripted) as client:
        assert _ask(client, image(1)).text == "<CAPTION> 1"
        assert not _readable(scripted.sentinel, 0)
        with pytest.raises(EngineLost):
            _ask(client, image(2, DIE))
        assert _readable(scripted.sentinel)
        with pytest.raises(EngineUnavailable):
            _ask(client, image(3))
        scripted.start()
        assert _readable(scripted.ready_fd)
        scripted.wait_ready(0)
        assert not _readable(scripted.ready_fd, 0)
        assert _ask(client, image(4)).text == "<CAPTION> 4"


def test_a_ruined_device_blames_no_image(scripted: EngineProcess) -> None:
    """When the model fails without the image too, the engine ends, and the image can be tried again."""
    with _client(scripted) as client, pytest.raises(EngineLost):
        _ask(client, image(1, RUIN))
    assert _readable(scripted.sentinel)


def test_an_inference_that_hangs_ends_the_engine(tmp_path: Path) -> None:
    """Nothing can interrupt a hanging kernel, so the process ends and the child hears EngineLost."""
    with (
        _running("tests.support.scripted_engine", checkpoint=str(tmp_path), request_timeout_s=2) as engine,
        _client(engine) as client,
    ):
        with pytest.raises(EngineLost):
            _ask(client, image(1, HANG))
        assert _readable(engine.sentinel)


def test_a_late_answer_is_not_taken_for_the_next(scripted: EngineProcess, tmp_path: Path) -> None:
    """After a child gave up waiting, its next request gets its own answer."""
    with ThreadPoolExecutor() as pool, _client(scripted) as client:
        late = pool.submit(_ask, client, image(1, GATE), timeout_s=3)
        (tmp_path / "reached").read_bytes()
        with pytest.raises(EngineUnavailable, match="no answer within"):
            late.result(DEADLINE_S)
        (tmp_path / "go").open("w").close()
        assert _ask(client, image(2)).text == "<CAPTION> 2"


class _SoftLimit(Exception):
    """What Celery raises in a task that takes too long."""


def test_a_soft_time_limit_leaves_a_usable_client(scripted: EngineProcess, tmp_path: Path) -> None:
    """An exception out of a signal handler, anywhere in a request, does not mix up the following answers."""

    def interrupt(*_: object) -> None:
        raise _SoftLimit

    def interrupt_once_under_way() -> None:
        (tmp_path / "reached").read_bytes()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ThreadPoolExecutor() as pool, _client(scripted) as client:
            pool.submit(interrupt_once_under_way)
            with pytest.raises(_SoftLimit):
                _ask(client, image(1, GATE))
            (tmp_path / "go").open("w").close()
            assert _ask(client, image(2)).text == "<CAPTION> 2"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_stop_lets_the_batch_under_way_end(scripted: EngineProcess, tmp_path: Path) -> None:
    """A warm shutdown answers what runs; SIGTERM and SIGINT, which whole groups get, do not disturb it."""
    with ThreadPoolExecutor() as pool, _client(scripted) as client:
        answer = pool.submit(_ask, client, image(1, GATE))
        (tmp_path / "reached").read_bytes()
        assert scripted.pid
        os.kill(scripted.pid, signal.SIGTERM)
        os.kill(scripted.pid, signal.SIGINT)
        stopping = pool.submit(scripted.stop, DEADLINE_S)
        (tmp_path / "go").open("w").close()
        assert answer.result(DEADLINE_S).text == "<CAPTION> 1"
        stopping.result(DEADLINE_S)
    assert not scripted.alive


def test_stop_is_heard_although_forked_children_live(
    scripted: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool's children hold copies of the engine's standard input; it ends by itself all the same."""
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


def test_stop_kills_what_does_not_end(scripted: EngineProcess, tmp_path: Path) -> None:
    """After the grace period nothing is left of the engine, nor, after close, of its directory."""
    with ThreadPoolExecutor() as pool, _client(scripted) as client:
        answer = pool.submit(_ask, client, image(1, GATE))
        (tmp_path / "reached").read_bytes()
        scripted.close()
        with pytest.raises(EngineLost):
            answer.result(DEADLINE_S)
    assert not Path(scripted.address).parent.exists()


def _descriptors(engine: EngineProcess) -> int:
    return len(list(Path(f"/proc/{engine.pid}/fd").iterdir()))


_DYING_CHILD = """
import os, signal, sys
from worker.engine.client import EngineClient
client = EngineClient(sys.argv[1], bytes.fromhex(sys.argv[2]))
client.announce()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_dead_child_leaves_nothing_behind(scripted: EngineProcess) -> None:
    """Children killed in the middle of a request cost the engine neither memory, nor a wait, nor a descriptor."""
    with _client(scripted) as client:
        _ask(client, image(1))
        before, shared = _descriptors(scripted), sorted(Path("/dev/shm").glob("dropline*"))
        arguments = [sys.executable, "-c", _DYING_CHILD, scripted.address, scripted.authkey.hex()]
        for _ in range(3):
            assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
        _wait_until(lambda: _descriptors(scripted) == before)
        assert sorted(Path("/dev/shm").glob("dropline*")) == shared
        assert _ask(client, image(2)).text == "<CAPTION> 2"


def test_strangers_and_nonsense_are_turned_away(scripted: EngineProcess) -> None:
    """A wrong key gets no line; a child that sends nonsense loses its line; the others notice nothing."""
    with pytest.raises(EngineUnavailable), EngineClient(scripted.address, b"wrong") as stranger:
        stranger.announce()
    with Client(scripted.address, "AF_UNIX") as raw:
        answer_challenge(raw, scripted.authkey)
        deliver_challenge(raw, scripted.authkey)
        raw.recv_bytes()
        raw.send_bytes(b'{"op": "ask", "id": "x"}')
        os.close(recv_handle(raw))
        with pytest.raises((EOFError, OSError)):
            raw.recv_bytes()
    with _client(scripted) as client:
        assert _ask(client, image(1)).text == "<CAPTION> 1"


def test_pixels_of_another_shape_are_refused(scripted: EngineProcess) -> None:
    """Only what the model takes is put into the slot."""
    with _client(scripted) as client, pytest.raises(ValueError, match="pixels must be"):
        _ask(client, np.zeros((SIZE, SIZE + 1, 3), np.uint8))


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
    """However the parent ends, and whoever still holds copies of its descriptors."""
    # A parent that is killed cannot remove the socket's directory.
    with tempfile.TemporaryDirectory() as directory:
        parent = subprocess.Popen(
            [sys.executable, "-c", _SHORT_LIVED_PARENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TMPDIR": directory},
            start_new_session=True,
        )
        _check_that_the_engine_follows(parent)


def _check_that_the_engine_follows(parent: subprocess.Popen[bytes]) -> None:
    assert parent.stdin
    assert parent.stdout
    try:
        engine = os.pidfd_open(int(parent.stdout.readline()))
        parent.stdin.close()
        assert _readable(engine)
        os.close(engine)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()


def test_the_stub_answers_without_a_model() -> None:
    """The stub takes images of the released checkpoints' size and imports no torch."""
    with _running("worker.engine", stub=True) as engine, _client(engine) as client:
        assert client.input_size == 768
        task = TaskRequest.parse("<OPEN_VOCABULARY_DETECTION>a car")
        answer = client.caption(
            np.zeros((768, 768, 3), np.uint8), task, ImageInfo(4000, 3000), timeout_s=DEADLINE_S
        )
        assert answer == Caption(f"stub {task}", None, "stub", "stub")
        if sys.platform == "linux":
            assert "libtorch" not in Path(f"/proc/{engine.pid}/maps").read_text()


def test_an_unreachable_hub_gives_one_clear_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It says which checkpoint, how to fetch it beforehand, and how to do without."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(EngineUnavailable) as caught, _running("worker.engine"):
        pass
    message = str(caught.value)
    assert "florence-community/Florence-2-base-ft" in message
    assert "hf download florence-community/Florence-2-base-ft --revision " in message
    assert "DROPLINE_ENGINE__CHECKPOINT=demo" in message
    assert "\n" not in message


def test_settings_that_cannot_work_say_so(tmp_path: Path) -> None:
    """What only a change of settings can help is a SettingsError, in the parent too."""
    with pytest.raises(SettingsError, match="safetensors"), _running("worker.engine", checkpoint=str(tmp_path)):
        pass


def test_an_engine_that_dies_while_it_loads_is_reported() -> None:
    """A death without a word becomes a sentence."""
    with pytest.raises(EngineUnavailable, match="exit code 1"), _running("tests.support.no_such_module"):
        pass


def test_an_engine_is_used_in_the_right_order() -> None:
    """Waiting before the start, starting twice, and waiting too briefly are errors with a way out."""
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
        _client(engine).announce()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable that shortens it, and nothing is left behind."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(SettingsError, match="TMPDIR"):
        EngineProcess(EngineSettings(stub=True), LogSettings())
    assert not list(long.iterdir())


def test_the_slot_refuses_less_than_an_image() -> None:
    """A slot that a broken child cut short gives an error, not a crash."""
    fd = slot.create()
    try:
        slot.write(fd, image(77))
        os.truncate(fd, 5)
        with pytest.raises(OSError, match="5 bytes"):
            slot.read(fd, image(0))
    finally:
        os.close(fd)


def test_children_and_parent_import_no_torch() -> None:
    """What runs in the worker's parent and children loads no model library."""
    code = "import sys, worker.engine.client, worker.engine.process; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

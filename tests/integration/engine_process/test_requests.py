"""Requests to a real engine: captions, and errors when the engine crashes, hangs or gets bad messages."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Client, answer_challenge, deliver_challenge
from multiprocessing.reduction import recv_handle
from pathlib import Path

import numpy as np
import pytest

from dropline.contract import Caption, Dimensions, TaskPrompt, TaskRequest
from dropline.errors import EngineLost, EngineUnavailable, InferenceFailed
from tests.support.engines import DEADLINE_S, ORIGINAL, caption, client_of, readable, running, wait_until
from tests.support.scripted_engine import (
    BREAK,
    FITS,
    GATE,
    HANG,
    OVERFLOW,
    OVERFLOW_ALL,
    RAISE,
    REFUSE,
    RUIN,
    SIZE,
    image,
)
from worker.engine import slot
from worker.engine.client import EngineClient
from worker.engine.process import EngineProcess
from worker.engine.wire import CaptionRequest


def test_fifty_children_each_get_their_own_captions(scripted: EngineProcess) -> None:
    """Fifty children at once, in batches too large for the device's memory: no child gets another's caption."""

    def child(number: int) -> list[str]:
        with client_of(scripted) as client:
            captions = []
            for round_ in range(5):
                client.announce()
                captions.append(caption(client, image(number * 10 + round_), isolated=round_ == 3).text)
            return captions

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(child, range(50)))
    for number, captions in enumerate(answers):
        assert captions == [f"<CAPTION> {number * 10 + round_}" for round_ in range(5)]


def test_the_tasks_of_one_image_are_one_request(scripted: EngineProcess) -> None:
    """More tasks than fit into a batch too, each with its own answer in order; an error is that of each task."""
    tasks = [TaskRequest(prompt) for prompt in list(TaskPrompt)[: FITS + 1]]
    with client_of(scripted) as client:
        pixels = image(7)
        requests = [CaptionRequest(pixels, task, ORIGINAL) for task in tasks]
        outcomes = client.caption_all(requests, timeout_s=DEADLINE_S)
        assert [each.text for each in outcomes if isinstance(each, Caption)] == [f"{task} 7" for task in tasks]
        refused = [CaptionRequest(image(7, REFUSE), task, ORIGINAL) for task in tasks[:2]]
        outcomes = client.caption_all(refused, timeout_s=DEADLINE_S)
        assert [str(each) for each in outcomes] == ["too long a prompt"] * 2


def test_a_poisonous_image_fails_alone(scripted: EngineProcess) -> None:
    """Images on which the model raises fail with a reason; other images of the batch are captioned."""

    def child(number: int) -> str:
        poison = {3: RAISE, 7: REFUSE}.get(number % 10, 0)
        with client_of(scripted) as client:
            client.announce()
            try:
                return caption(client, image(number, poison)).text
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


def test_a_killed_engine_loses_only_the_current_batch(scripted: EngineProcess, tmp_path: Path) -> None:
    """After kill -9 a request of the batch gets EngineLost; a queued one is sent once more, to the next engine."""
    with ThreadPoolExecutor() as pool, client_of(scripted) as current, client_of(scripted) as queued:
        lost = pool.submit(caption, current, image(1, GATE))
        (tmp_path / "reached").read_bytes()
        assert queued.input_size == SIZE
        repeated = pool.submit(caption, queued, image(2))
        assert scripted.pid
        os.kill(scripted.pid, signal.SIGKILL)
        with pytest.raises(EngineLost):
            lost.result(DEADLINE_S)
        scripted.stop(0)
        scripted.start()
        assert repeated.result(DEADLINE_S).text == "<CAPTION> 2"


def test_a_stale_connection_costs_no_attempt(scripted: EngineProcess) -> None:
    """A child that was idle during a restart of the engine announces and captions without an error."""
    with client_of(scripted) as announcing, client_of(scripted) as asking:
        for client in (announcing, asking):
            assert caption(client, image(1)).text == "<CAPTION> 1"
        assert scripted.pid
        os.kill(scripted.pid, signal.SIGKILL)
        scripted.stop(0)
        scripted.start()
        announcing.announce()
        for client in (announcing, asking):
            assert caption(client, image(2)).text == "<CAPTION> 2"


def test_a_broken_device_fails_no_image(scripted: EngineProcess) -> None:
    """When the model fails on the test image too, the engine ends, and the image can be tried again."""
    with client_of(scripted) as client, pytest.raises(EngineLost):
        caption(client, image(1, RUIN))
    assert readable(scripted.sentinel)


def test_a_device_that_is_unusable_ends_the_engine(scripted: EngineProcess) -> None:
    """The test image is not tried, which would succeed here: the error itself names the broken context."""
    with client_of(scripted) as client, pytest.raises(EngineLost):
        caption(client, image(1, BREAK))
    assert readable(scripted.sentinel)


def test_an_image_without_finite_logits_fails_with_its_code(scripted: EngineProcess) -> None:
    """The code of the error reaches the child, and the next image is captioned."""
    with client_of(scripted) as client:
        with pytest.raises(InferenceFailed, match="not finite") as caught:
            caption(client, image(1, OVERFLOW))
        assert caught.value.code == "non_finite_logits"
        assert caption(client, image(2)).text == "<CAPTION> 2"


def test_a_model_without_finite_logits_fails_no_image(scripted: EngineProcess) -> None:
    """If a test image has no finite logits either, the engine ends, and the request may be repeated."""
    with client_of(scripted) as client, pytest.raises(EngineLost):
        caption(client, image(1, OVERFLOW_ALL))


def test_a_hanging_inference_ends_the_engine(tmp_path: Path) -> None:
    """A hanging kernel cannot be interrupted, so the process ends and the child gets EngineLost."""
    with (
        running("tests.support.scripted_engine", checkpoint=str(tmp_path), request_timeout_s=2) as engine,
        client_of(engine) as client,
    ):
        with pytest.raises(EngineLost):
            caption(client, image(1, HANG))
        assert readable(engine.sentinel)


def test_a_late_caption_is_not_taken_for_the_next(scripted: EngineProcess, tmp_path: Path) -> None:
    """After a child's request timed out, the child's next request gets its own caption."""
    with ThreadPoolExecutor() as pool, client_of(scripted) as client:
        late = pool.submit(caption, client, image(1, GATE), timeout_s=3)
        (tmp_path / "reached").read_bytes()
        with pytest.raises(EngineUnavailable, match="no answer in time"):
            late.result(DEADLINE_S)
        (tmp_path / "go").open("w").close()
        assert caption(client, image(2)).text == "<CAPTION> 2"


class _SoftLimit(Exception):
    """Stands for Celery's soft time limit."""


def test_a_soft_time_limit_leaves_a_usable_client(scripted: EngineProcess, tmp_path: Path) -> None:
    """An exception from a signal handler during a request does not mix up the following captions."""

    def interrupt(*_: object) -> None:
        raise _SoftLimit

    def interrupt_the_inference() -> None:
        (tmp_path / "reached").read_bytes()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ThreadPoolExecutor() as pool, client_of(scripted) as client:
            pool.submit(interrupt_the_inference)
            with pytest.raises(_SoftLimit):
                caption(client, image(1, GATE))
            (tmp_path / "go").open("w").close()
            assert caption(client, image(2)).text == "<CAPTION> 2"
    finally:
        signal.signal(signal.SIGALRM, before)


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
    """Children killed after an announcement cost the engine no memory, no wait and no descriptor."""
    with client_of(scripted) as client:
        caption(client, image(1))
        before, shared = _descriptors(scripted), sorted(Path("/dev/shm").glob("dropline*"))
        arguments = [sys.executable, "-c", _DYING_CHILD, scripted.address, scripted.authkey.hex()]
        for _ in range(3):
            assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
        wait_until(lambda: _descriptors(scripted) == before)
        assert sorted(Path("/dev/shm").glob("dropline*")) == shared
        assert caption(client, image(2)).text == "<CAPTION> 2"


def test_wrong_keys_and_bad_messages_are_refused(scripted: EngineProcess) -> None:
    """A wrong key or a bad message closes the connection; other children are served."""
    with pytest.raises(EngineUnavailable), EngineClient(scripted.address, b"wrong") as stranger:
        stranger.announce()
    with Client(scripted.address, "AF_UNIX") as raw:
        answer_challenge(raw, scripted.authkey)
        deliver_challenge(raw, scripted.authkey)
        raw.recv_bytes()
        raw.send_bytes(b'{"op": "request", "id": "x"}')
        os.close(recv_handle(raw))
        with pytest.raises((EOFError, OSError)):
            raw.recv_bytes()
    with client_of(scripted) as client:
        assert caption(client, image(1)).text == "<CAPTION> 1"


def test_pixels_of_another_shape_are_refused(scripted: EngineProcess) -> None:
    """Only pixels of the model's input size are written to the slot."""
    with client_of(scripted) as client, pytest.raises(ValueError, match="pixels must be"):
        caption(client, np.zeros((SIZE, SIZE + 1, 3), np.uint8))


def test_the_stub_captions_without_a_model() -> None:
    """The stub takes images of the released checkpoints' size and imports no torch."""
    with running("worker.engine.runtime", stub=True) as engine, client_of(engine) as client:
        assert client.input_size == 768
        task = TaskRequest.parse("<OPEN_VOCABULARY_DETECTION>a car")
        request = CaptionRequest(np.zeros((768, 768, 3), np.uint8), task, Dimensions(4000, 3000))
        answer = client.caption(request, timeout_s=DEADLINE_S)
        assert answer == Caption(f"stub {task}", None, "stub", "stub")
        if sys.platform == "linux":
            assert "libtorch" not in Path(f"/proc/{engine.pid}/maps").read_text()


def test_the_slot_refuses_less_than_an_image() -> None:
    """A slot shortened by a broken child gives an error, not a crash."""
    fd = slot.create()
    try:
        slot.write(fd, image(77))
        os.truncate(fd, 5)
        with pytest.raises(OSError, match="5 bytes"):
            slot.read(fd, image(0))
    finally:
        os.close(fd)


def test_children_and_parent_import_no_torch() -> None:
    """The modules of the worker's parent and children load no model library."""
    code = "import sys, worker.app, worker.health; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

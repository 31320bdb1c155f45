"""The start of an engine in the sizes of graphs, on a device without graphs."""

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dropline.contract import Dimensions, TaskPrompt, TaskRequest
from dropline.errors import InferenceFailed
from dropline.settings import EngineSettings
from tests.support.tiny_florence import SIZE, save_checkpoint
from worker.engine.runtime.checkpoint import find_checkpoint
from worker.engine.runtime.florence import FlorenceModel
from worker.engine.runtime.loading import load_weights
from worker.engine.runtime.model import BatchTooLarge, StubModel
from worker.engine.runtime.network.form import Form, Part, SameLane, Work
from worker.engine.runtime.network.generation import Network
from worker.engine.runtime.server import Server
from worker.engine.wire import CaptionRequest

#: No power of two: a last graph of another size than the others.
MOST = 6
REGION = "<loc_1><loc_22><loc_333><loc_999>"


class Captures:
    """Counts the captures."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _part: Part, work: Work) -> Work:
        self.count += 1
        return work


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a checkpoint whose prompts have several widths."""
    return save_checkpoint(tmp_path_factory.mktemp("tiny-florence"))


def load(checkpoint: Path, captures: Captures, beams: int = 1) -> FlorenceModel:
    """The checkpoint as on a GPU, without graphs."""
    settings = EngineSettings(
        checkpoint=str(checkpoint),
        dtype="float32",
        device="cpu",
        max_batch=MOST,
        num_beams=beams,
        max_new_tokens=6,
        threads=1,
    )
    loaded = load_weights(settings, find_checkpoint(settings))
    form = Form(captures, captures, SameLane(), exact=False, tokens_per_look=4)
    return FlorenceModel(loaded.model, loaded.processor, loaded.checkpoint, settings, form)


def requests_of(prompts: Sequence[TaskPrompt]) -> list[CaptionRequest]:
    random = np.random.default_rng(5)
    return [
        CaptionRequest(
            random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
            TaskRequest(prompt, REGION if prompt.takes_region else ""),
            Dimensions(SIZE, SIZE),
        )
        for prompt in prompts
    ]


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("captured_before", [False, True])
def test_nothing_is_captured_after_the_warm_up(checkpoint: Path, beams: int, captured_before: bool) -> None:
    """All tasks without a text, in batches of each size: a capture takes a GPU the time of hundreds of images.

    The kernels that are compiled for an image are those of `capture_all`, so the warm-up needs no others.
    """
    captures = Captures()
    model = load(checkpoint, captures, beams)
    if captured_before:
        model.capture_all()
        assert captures.count
        captures.count = 0
    model.warmup()
    assert (model.largest_batch, captures.count > 0) == (MOST, not captured_before)
    warm = captures.count
    longest = replace(requests_of([TaskPrompt.CAPTION])[0], task=longest_task(model))
    model.caption([longest])
    assert captures.count == warm, "the longest text needs the most memory"
    tasks = [prompt for prompt in TaskPrompt if not prompt.takes_text]
    widths = {len(model._prompt_ids(request.task)) // 16 for request in requests_of(tasks)}
    assert len(widths) > 1, "prompts of one width would prove little"
    for size in range(1, MOST + 1):
        for start in range(0, len(tasks), size):
            model.caption(requests_of(tasks[start : start + size]))
    if model.stream:
        waiting = requests_of(tasks)
        left = len(waiting)
        while left:
            if wanted := model.stream.wanted(len(waiting)):
                model.stream.add(waiting[:wanted])
                del waiting[:wanted]
            left -= len(model.stream.advance())
    assert captures.count == warm


def test_the_largest_batch_that_fits_is_found(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With memory for three images: batches of two. Later, with memory for all, a larger batch may be tried."""
    model = load(checkpoint, Captures())
    network: Any = model._generator._network
    vision, room = network.vision, [3]

    def within_memory(pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > room[0]:
            raise torch.OutOfMemoryError("no room")
        seen: torch.Tensor = vision(pixels)
        return seen

    monkeypatch.setattr(network, "vision", within_memory)
    model.warmup()
    assert (model.largest_batch, model.may_grow) == (2, True)
    room[0] = MOST
    assert len(model.caption(requests_of([TaskPrompt.CAPTION] * MOST))) == MOST
    room[0] = 0
    with pytest.raises(BatchTooLarge):
        model.warmup()


def longest_task(model: FlorenceModel) -> TaskRequest:
    """A text with as many tokens as the model reads, or almost as many: of the widest graphs."""
    tasks = [TaskRequest(TaskPrompt.CAPTION_TO_PHRASE_GROUNDING, "é" * length) for length in range(1, 200)]
    return max((task for task in tasks if fits(model, task)), key=lambda task: len(model._prompt_ids(task)))


def fits(model: FlorenceModel, task: TaskRequest) -> bool:
    try:
        model._prompt_ids(task)
    except InferenceFailed:
        return False
    return True


@pytest.mark.parametrize("beams", [1, 2])
def test_memory_for_a_smaller_batch_is_reserved_where_the_largest_does_not_fit(
    checkpoint: Path, beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an engine whose checkpoint is large, or has many beams, would never start."""
    reserve, room = Network.own_caches, [3 * beams]

    def within_memory(network: Network, rows: int, positions: int) -> Any:
        if rows > room[0]:
            raise torch.OutOfMemoryError("no room")
        return reserve(network, rows, positions)

    monkeypatch.setattr(Network, "own_caches", within_memory)
    model = load(checkpoint, Captures(), beams)
    model.warmup()
    assert model.largest_batch == 3
    assert len(model.caption(requests_of([TaskPrompt.CAPTION] * MOST))) == MOST
    room[0] = 0
    with pytest.raises(BatchTooLarge):
        load(checkpoint, Captures(), beams)


@pytest.mark.parametrize(("may_grow", "largest"), [(True, 8), (False, 2)])
def test_only_a_limit_of_memory_grows_beyond_the_start(may_grow: bool, largest: int) -> None:
    """The time of a batch on a CPU does not change when memory becomes free."""
    model = StubModel()
    model.largest_batch, model.may_grow = 2, may_grow
    listener, other = socket.socketpair()
    with other:
        server = Server(model, EngineSettings(max_batch=8), listener.detach(), b"key", 1)
        assert server.loaded.largest_batch == 2
        for _ in range(64):
            server._batcher.did_fit(server.loaded.largest_batch)
        assert server.loaded.largest_batch == largest
        server._listener.close()

"""Two passes of the vision tower at the same time, on a CPU with two threads."""

import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dropline.settings import EngineSettings
from tests.support.tiny_florence import save_checkpoint
from worker.engine.runtime.checkpoint import Checkpoint
from worker.engine.runtime.florence import cpu_operations, normalisation
from worker.engine.runtime.loading import load_weights
from worker.engine.runtime.network.form import form_of
from worker.engine.runtime.network.onednn_operations import has_onednn
from worker.engine.runtime.network.pairs import Pairs
from worker.engine.runtime.network.vision import VisionTower

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_pieces_run_at_the_same_time_with_a_thread_each() -> None:
    """Each waits for the other; the caller, and a thread that begins later, have both threads."""
    barrier, seen = threading.Barrier(2), list[tuple[int, bool]]()

    def piece() -> None:
        barrier.wait(timeout=60)
        torch.ones(1000, 1000).sum()
        seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))

    pairs = Pairs()
    pairs.run([piece] * 4)
    assert seen == [(1, True)] * 4
    assert torch.get_num_threads() == 2
    assert _threads_of_a_new_thread() == 2


def test_a_piece_without_another_has_both_threads() -> None:
    """Three pieces: two at the same time, and the last one by itself."""
    seen = list[int]()
    Pairs().run([lambda: seen.append(torch.get_num_threads())] * 3)
    assert seen == [1, 1, 2]


def test_an_error_is_raised_after_the_end_of_the_other_piece() -> None:
    """The memory of a piece at work must not be used by others; the next pieces run as usual."""
    begun, ended = threading.Event(), threading.Event()

    def breaks() -> None:
        begun.set()
        raise MemoryError("no memory for this image")

    def goes_on() -> None:
        assert begun.wait(timeout=60)
        # An error that did not wait would be raised in this time.
        time.sleep(0.2)
        ended.set()

    pairs = Pairs()
    for pieces in ([breaks, goes_on], [goes_on, breaks]):
        begun.clear()
        ended.clear()
        with pytest.raises(MemoryError, match="for this image"):
            pairs.run(pieces)
        assert ended.is_set()
    pairs.run([goes_on, goes_on])


def test_the_memory_of_a_failed_piece_is_free_after_its_error() -> None:
    """Without the collector of cycles: the images run again at once, with less memory."""
    tensors = list[weakref.ref[torch.Tensor]]()

    def breaks() -> None:
        tensor = torch.ones(10)
        tensors.append(weakref.ref(tensor))
        raise MemoryError

    pairs = Pairs()
    gc.collect()
    gc.disable()
    try:
        for pieces in ([breaks, lambda: None], [lambda: None, breaks]):
            with contextlib.suppress(MemoryError):
                pairs.run(pieces)
    finally:
        gc.enable()
    assert [each() for each in tensors] == [None, None]


def test_an_engine_with_two_threads_sees_two_images_at_the_same_time() -> None:
    """With more threads, and with one, it sees one after the other."""
    form = form_of(CPU, 768)
    assert [form.worthwhile(waiting) for waiting in (1, 2, 1000)] == [1, 2, 2]
    barrier = threading.Barrier(2)

    def meets_the_other() -> None:
        barrier.wait(timeout=60)

    form.run_all([meets_the_other] * 2)
    for threads in (1, 3, 4):
        torch.set_num_threads(threads)
        assert form_of(CPU, 768).worthwhile(1000) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_passes_at_the_same_time_see_the_same_as_one_after_the_other(dtype: str, tmp_path: Path) -> None:
    """With the operations of a CPU, on the same weights; in bfloat16 those that share blocks of weights."""
    if dtype == "bfloat16" and not has_onednn():
        pytest.skip("this CPU does not multiply in bfloat16")
    tower, size = _tower(dtype, tmp_path)
    pixels = torch.randint(
        0, 255, (8, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    seen: list[torch.Tensor | None] = [None] * len(pixels)

    def see(place: int) -> None:
        seen[place] = tower(pixels[place : place + 1])

    with torch.inference_mode():
        expected = [tower(pixels[place : place + 1]) for place in range(len(pixels))]
    pairs = Pairs()
    for _ in range(3):
        pairs.run([lambda place=place: see(place) for place in range(len(pixels))])  # type: ignore[misc]
        for found, other in zip(seen, expected, strict=True):
            assert found is not None
            torch.testing.assert_close(found, other)


def _tower(dtype: str, directory: Path) -> tuple[VisionTower, int]:
    settings = EngineSettings.model_validate({"device": "cpu", "dtype": dtype})
    loaded = load_weights(settings, Checkpoint("tiny", save_checkpoint(directory), "none"))
    images = loaded.processor.image_processor
    scale, shift = normalisation(images.image_mean, images.image_std, images.rescale_factor, CPU)
    with torch.inference_mode():
        tower = VisionTower(loaded.model.model, scale, shift, cpu_operations(loaded.model.dtype))
    return tower, images.size["height"]


def _threads_of_a_new_thread() -> int:
    found = list[int]()
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join(timeout=60)
    return found[0]

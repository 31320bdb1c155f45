"""An engine whose model follows the code in the first pixel: `python -m tests.support.scripted_engine`."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dropline.contract import Caption
from dropline.errors import InferenceFailed
from dropline.settings import EngineSettings
from worker.engine.runtime.main import main
from worker.engine.runtime.model import NON_FINITE_LOGITS, BatchTooLarge, DeviceBroken
from worker.engine.slot import Pixels
from worker.engine.wire import CaptionRequest

#: Pixels per side.
SIZE = 8
#: First byte of an image: the model's action. Images with other first bytes are captioned.
BREAK, OVERFLOW_ALL, OVERFLOW, RUIN, RAISE, DIE, HANG, GATE, REFUSE = 247, 248, 249, 250, 251, 252, 253, 254, 255
#: Images that fit into the device's memory.
FITS = 4


class ScriptedModel:
    """Captions an image with the number in the second and third byte."""

    input_size = SIZE
    name = "scripted"
    revision = "test"
    largest_batch = sys.maxsize
    may_grow = False
    device = "none"
    dtype = "none"
    stream = None

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ruined = False

    def allocate(self) -> Pixels:
        """Plain memory for one image."""
        return np.empty((SIZE, SIZE, 3), np.uint8)

    def caption(self, batch: Sequence[CaptionRequest]) -> list[Caption | InferenceFailed]:
        """Act on each code, then caption with the numbers."""
        if len(batch) > FITS:
            raise BatchTooLarge(f"{len(batch)} images")
        for request in batch:
            self._act(int(request.pixels[0, 0, 0]))
        return [self._outcome(request) for request in batch]

    def _outcome(self, request: CaptionRequest) -> Caption | InferenceFailed:
        if request.pixels[0, 0, 0] in (OVERFLOW, OVERFLOW_ALL):
            return InferenceFailed("not finite", code=NON_FINITE_LOGITS)
        return Caption(f"{request.task} {label(request.pixels)}", None, self.name, self.revision)

    def warmup(self) -> None:
        """No work."""

    def probe(self) -> None:
        """Fails after a `RUIN` or an `OVERFLOW_ALL`."""
        if self._ruined:
            raise RuntimeError("the device is ruined")

    def _act(self, code: int) -> None:
        if code in (RUIN, OVERFLOW_ALL):
            self._ruined = True
        if code == RAISE or (self._ruined and code != OVERFLOW_ALL):
            raise RuntimeError("a poisonous image")
        if code == BREAK:
            raise DeviceBroken("CUDA error: an illegal memory access was encountered")
        if code == REFUSE:
            raise InferenceFailed("too long a prompt")
        if code == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        if code == HANG:
            threading.Event().wait()
        if code == GATE:
            # Opening a FIFO blocks until the test opens the other end.
            (self._directory / "reached").open("w").close()
            (self._directory / "go").open("r").close()


def label(pixels: Pixels) -> int:
    """The number in an image."""
    return int(pixels[0, 0, 1]) * 256 + int(pixels[0, 0, 2])


def image(number: int, code: int = 0) -> Pixels:
    """An image with a number and a code, uint8 `[SIZE, SIZE, 3]`."""
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[0, 0] = (code, number // 256, number % 256)
    return pixels


def _load(settings: EngineSettings) -> ScriptedModel:
    return ScriptedModel(Path(settings.checkpoint))


if __name__ == "__main__":
    main(_load)

"""The engine of a worker under test: a stub that counts, crashes and hangs by the colour of the pixels.

The label of an image is the first pixel, as `RRGGBB`. Images labelled `ff0000` kill the engine each time.
"""

import os
import time
from collections.abc import Sequence

import numpy as np

from dropline.contract import Caption
from dropline.errors import InferenceFailed
from dropline.settings import EngineSettings
from tests.support import failpoints
from worker.engine.runtime.main import main
from worker.engine.slot import Pixels
from worker.engine.wire import CaptionRequest

#: The colour of an image that kills the engine.
POISON = "ff0000"


class CountingModel:
    """Captions an image with the image's label."""

    input_size = 32
    device = "none"
    dtype = "none"
    stream = None
    name = "counting"
    revision = "test"
    largest_batch = 64
    may_grow = False

    def allocate(self) -> Pixels:
        """Plain memory for one image."""
        return np.empty((self.input_size, self.input_size, 3), np.uint8)

    def caption(self, batch: Sequence[CaptionRequest]) -> list[Caption | InferenceFailed]:
        """One label per request; each inference is counted, and each look at an image."""
        labels = [bytes(request.pixels[0, 0]).hex() for request in batch]
        failpoints.note_engine()
        for pixels in {id(request.pixels): request.pixels for request in batch}.values():
            failpoints.note_image(bytes(pixels[0, 0]).hex())
        if failpoints.are_engines_dying():
            failpoints.end_engine()
        for label in labels:
            failpoints.note_inference(label)
        if POISON in labels:
            failpoints.end_engine([label for label in labels if label != POISON])
        failpoints.hit("inference")
        time.sleep(float(os.environ.get(failpoints.INFERENCE_VARIABLE, "0")))
        return [Caption(label, None, self.name, self.revision) for label in labels]

    def warmup(self) -> None:
        """No work."""

    def probe(self) -> None:
        """No work."""


def _load(_settings: EngineSettings) -> CountingModel:
    failpoints.hit("loading")
    return CountingModel()


if __name__ == "__main__":
    main(_load)

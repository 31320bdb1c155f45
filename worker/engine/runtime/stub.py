"""An engine without a model, to measure the path of the events alone."""

import sys
from collections.abc import Sequence

import numpy as np

from worker.engine.runtime.model import ImageTask, ModelAnswer
from worker.engine.slot import Pixels


class StubModel:
    """Answers `stub <task>` at once, whatever the image."""

    input_size = 768
    name = "stub"
    revision = "stub"
    largest_batch = sys.maxsize
    device = "none"
    dtype = "none"

    def allocate(self) -> Pixels:
        """Plain memory for one image."""
        return np.empty((self.input_size, self.input_size, 3), np.uint8)

    def answer(self, batch: Sequence[ImageTask]) -> list[ModelAnswer]:
        """The same words for everybody."""
        return [ModelAnswer(f"stub {item.task}", None) for item in batch]

    def warmup(self) -> None:
        """Nothing is cold."""

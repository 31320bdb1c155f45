"""An engine without a model, to measure the path of the events alone."""

import sys
from collections.abc import Sequence

import numpy as np

from dropline.contract import Caption
from worker.engine.slot import Pixels
from worker.engine.wire import CaptionRequest


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

    def caption(self, batch: Sequence[CaptionRequest]) -> list[Caption]:
        """The same words for everybody."""
        return [Caption(f"stub {item.task}", None, self.name, self.revision) for item in batch]

    def warmup(self) -> None:
        """Nothing is cold."""

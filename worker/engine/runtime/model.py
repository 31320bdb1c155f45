"""What the server asks of a model, and what a model answers."""

from collections.abc import Sequence
from typing import Protocol

from dropline.contract import Caption
from worker.engine.slot import Pixels
from worker.engine.wire import CaptionRequest


class BatchTooLarge(Exception):
    """The device's memory does not hold a batch of this size."""


class Model(Protocol):
    """A loaded model; used by one thread, but for `allocate`."""

    #: Pixels per side of the square it takes.
    input_size: int
    #: Checkpoint as configured.
    name: str
    #: Commit of the checkpoint, or a digest of its weights.
    revision: str
    #: The largest batch that ends well before a child gives up waiting; known after `warmup`.
    largest_batch: int
    #: Where it runs and in which arithmetic, for the log.
    device: str
    dtype: str

    def allocate(self) -> Pixels:
        """Memory for one image, uint8 `[input_size, input_size, 3]`, of the kind the device reads fastest."""
        ...

    def caption(self, batch: Sequence[CaptionRequest]) -> list[Caption]:
        """Caption all of a batch, in its order.

        Raises:
            BatchTooLarge: the device's memory ran out; it is usable again.
            InferenceFailed: an input that no attempt can answer is among them.
        """
        ...

    def warmup(self) -> None:
        """Run once through everything; raises whatever is broken."""
        ...

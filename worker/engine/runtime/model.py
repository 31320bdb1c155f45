"""What the server asks of a model, and what a model answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dropline.contract import ImageInfo, TaskRequest
from worker.engine.slot import Pixels


@dataclass(frozen=True, slots=True, eq=False)
class ImageTask:
    """One image and what is asked about it."""

    #: uint8 `[input_size, input_size, 3]`, RGB.
    pixels: Pixels
    task: TaskRequest
    #: Size of the upright original, in pixels.
    original: ImageInfo


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What the model says about one image."""

    #: A caption or text read; for structured tasks the labels, comma separated. May be empty.
    text: str
    #: Boxes, polygons and labels in pixels of the upright original; None for plain text tasks.
    result: dict[str, Any] | None


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

    def answer(self, batch: Sequence[ImageTask]) -> list[ModelAnswer]:
        """Answer all of a batch, in its order.

        Raises:
            BatchTooLarge: the device's memory ran out; it is usable again.
            InferenceFailed: an input that no attempt can answer is among them.
        """
        ...

    def warmup(self) -> None:
        """Run once through everything; raises whatever is broken."""
        ...

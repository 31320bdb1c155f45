"""Runs a batch so that one bad image fails alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from dropline.errors import DroplineError, EngineUnavailable, InferenceFailed
from worker.engine.runtime.model import BatchTooLarge

T = TypeVar("T")
A = TypeVar("A")


def answer_each(
    batch: Sequence[T], run: Callable[[Sequence[T]], Sequence[A]], probe: Callable[[], None]
) -> Iterator[tuple[T, A | DroplineError]]:
    """Every item once, in order, with its answer or its error.

    Args:
        batch: what to run; not empty.
        run: answers all items, or raises; `BatchTooLarge` blames no item.
        probe: raises if the model itself is broken, so that no image is blamed for that.

    Raises:
        Exception: what `probe` raised; the rest of the batch has no answer then.
    """
    try:
        answers = run(batch)
    except Exception as error:  # noqa: BLE001 - whatever a model raises concerns this batch only
        if len(batch) == 1:
            yield batch[0], _verdict(error, probe)
            return
    else:
        yield from zip(batch, answers, strict=True)
        return
    # Out of the handler: the error's frames hold the failed attempt's tensors.
    middle = len(batch) // 2
    yield from answer_each(batch[:middle], run, probe)
    yield from answer_each(batch[middle:], run, probe)


def _verdict(error: Exception, probe: Callable[[], None]) -> DroplineError:
    if isinstance(error, BatchTooLarge):
        return EngineUnavailable(
            f"the device's memory does not hold even one image ({error}); end what else uses the device, or lower "
            "DROPLINE_ENGINE__NUM_BEAMS"
        )
    if isinstance(error, InferenceFailed):
        return error
    probe()
    return InferenceFailed(
        f"the model fails on this image and task, though not on others ({type(error).__name__}: {error}); "
        "look at the image, or try another task"
    )

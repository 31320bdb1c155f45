"""The sizes that an engine tries at its start: the largest batch that memory holds, and a prompt of each width."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from dropline.contract import TaskPrompt, TaskRequest
from dropline.errors import InferenceFailed
from worker.engine.runtime.model import BatchTooLarge
from worker.engine.wire import CaptionRequest

#: The whole image.
_REGION = "<loc_0><loc_0><loc_999><loc_999>"


def tasks_of_all_widths(width_of: Callable[[TaskRequest], int]) -> list[TaskRequest]:
    """A task for each width of the prompts without a free text: the first of the width, since captions are short.

    Args:
        width_of: tokens of a padded prompt; raises `InferenceFailed` for one that the model cannot read.
    """
    found: dict[int, TaskRequest] = {}
    for prompt in TaskPrompt:
        if not prompt.takes_text:
            task = TaskRequest(prompt, _REGION if prompt.takes_region else "")
            with contextlib.suppress(InferenceFailed):
                found.setdefault(width_of(task), task)
    return list(found.values())


def largest_batch(
    run: Callable[[list[CaptionRequest]], object],
    tasks: Sequence[TaskRequest],
    image: Callable[[], CaptionRequest],
    most: int,
) -> int:
    """Run batches of 1, 2, 4 and so on up to `most` images with each task; the largest that memory holds.

    Args:
        run: captions a batch.
        tasks: of the batches.
        image: a new image, with any task: the tasks of one image see it once.
        most: images in the largest batch.

    Raises:
        BatchTooLarge: the device's memory does not hold one image.
    """
    fits, size = 0, 1
    while size > fits:
        images = [image() for _ in range(size)]
        try:
            for task in tasks:
                run([replace(each, task=task) for each in images])
        except BatchTooLarge:
            if not fits:
                raise
            break
        fits, size = size, min(2 * size, most)
    return fits

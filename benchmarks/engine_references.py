"""Other ways to caption with the same weights, for comparison in the same run as the engine.

They answer without the engine's rules for the contents of a task: less work than the engine's.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from transformers import Florence2Processor

from dropline.contract import TaskRequest
from worker.engine.runtime.florence import normalisation

#: Captions images, uint8 `[size, size, 3]` each; returns the tokens of the longest answer.
Reference = Callable[[Sequence[np.ndarray[Any, np.dtype[np.uint8]]]], int]


class ReferenceName(StrEnum):
    """The ways."""

    #: `generate` of transformers with the batch and the beams of the engine, untuned.
    GENERATE = "generate"
    #: The same, greedy, with a static cache and a compiled forward pass.
    TUNED = "tuned"
    #: The program before Dropline: one image at a time, float32, three beams.
    PREDECESSOR = "predecessor"


class _Generate:
    """`generate` with the pixels normalised on the device, as the engine does."""

    def __init__(self, model: Any, processor: Florence2Processor, task: TaskRequest, **options: Any) -> None:
        self._model = model
        self._options = {"do_sample": False, "max_length": None} | options
        images: Any = processor.image_processor
        self._scale, self._shift = normalisation(
            images.image_mean, images.image_std, images.rescale_factor, model.device
        )
        blank = np.zeros((images.size["height"], images.size["width"], 3), np.uint8)
        self._ids = processor(text=str(task), images=blank, return_tensors="pt").input_ids.to(model.device)

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> int:
        device = self._model.device
        pixels = torch.stack([torch.from_numpy(image).to(device, non_blocking=True) for image in images])
        values = (pixels * self._scale + self._shift).permute(0, 3, 1, 2).to(self._model.dtype)
        ids = self._ids.expand(len(images), -1)
        answers = self._model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=values, **self._options
        )
        return len(answers[0].tolist()) - 1


def reference(
    name: ReferenceName, model: Any, processor: Florence2Processor, task: TaskRequest, *, beams: int, tokens: int
) -> Reference:
    """A way; the model is changed where the way asks for a change, so build a new model for each."""
    match name:
        case ReferenceName.GENERATE:
            early = beams > 1 and bool(model.generation_config.early_stopping)
            return _Generate(model, processor, task, num_beams=beams, early_stopping=early, max_new_tokens=tokens)
        case ReferenceName.TUNED:
            model.forward = torch.compile(model.forward)
            return _Generate(
                model, processor, task, num_beams=1, early_stopping=False, max_new_tokens=tokens,
                cache_implementation="static",
            )  # fmt: skip
        case ReferenceName.PREDECESSOR:
            one = _Generate(model.float(), processor, task, num_beams=3, max_new_tokens=tokens)
            return lambda images: max(one([image]) for image in images)

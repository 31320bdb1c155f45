"""Other ways to caption with the same weights, for comparison in the same run as the engine.

They answer without the engine's rules of what a task may contain: less work than the engine's.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from transformers import Florence2Processor

from dropline.contract import TaskRequest

#: Captions images, uint8 `[size, size, 3]` each; returns the tokens of the longest answer.
Reference = Callable[[Sequence[np.ndarray[Any, np.dtype[np.uint8]]]], int]


class ReferenceName(StrEnum):
    """The ways."""

    #: `generate` of transformers with the batch and the beams of the engine, untuned.
    GENERATE = "generate"
    #: The same, greedy, with a static cache and a compiled forward pass.
    TUNED = "tuned"
    #: The program that Dropline grew out of: one image at a time, float32, three beams.
    PREDECESSOR = "predecessor"


class _Generate:
    def __init__(self, model: Any, processor: Florence2Processor, task: TaskRequest, **options: Any) -> None:
        self._model, self._processor, self._task = model, processor, task
        self._options = {"do_sample": False, "max_length": None} | options

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> int:
        inputs = self._processor(text=[str(self._task)] * len(images), images=list(images), return_tensors="pt")
        inputs = inputs.to(self._model.device, self._model.dtype)
        return len(self._model.generate(**inputs, **self._options)[0].tolist()) - 1


def reference(
    name: ReferenceName, model: Any, processor: Florence2Processor, task: TaskRequest, *, beams: int, tokens: int
) -> Reference:
    """One of the ways; the model is changed where the way asks for it, so build it anew for each."""
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

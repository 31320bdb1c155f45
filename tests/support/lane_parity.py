"""Compares captions of images that are seen beside the tokens of others with captions of images seen apart.

    python -m tests.support.lane_parity [--checkpoint random] [--images 256]

On a GPU both kinds of work are at the device at the same time, in graphs of their own; a tensor or a workspace
that they share spoils captions. Without a GPU both runs see images apart, and the command only shows that it runs.
Exits with an error if fewer than 98 of 100 captions agree: in bfloat16 a product depends on the number of rows,
and so on the answers that happen to run together.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from benchmarks.engine import random_weights
from dropline.contract import Caption, Dimensions, TaskPrompt, TaskRequest
from dropline.settings import EngineSettings
from worker.engine.runtime.checkpoint import find_checkpoint
from worker.engine.runtime.florence import FlorenceModel
from worker.engine.runtime.loading import LoadedCheckpoint, load_weights
from worker.engine.runtime.network.form import SameLane, form_of
from worker.engine.wire import CaptionRequest

_TASKS = (TaskPrompt.CAPTION, TaskPrompt.OD, TaskPrompt.DETAILED_CAPTION)
_LEAST_AGREEMENT = 0.98


def main() -> None:
    """Caption noise with both kinds of lanes."""
    parser = argparse.ArgumentParser(description="Compares captions with and without overlap.")
    parser.add_argument("--checkpoint", default="random")
    parser.add_argument("--images", type=int, default=256)
    chosen = parser.parse_args()
    settings = EngineSettings(checkpoint=chosen.checkpoint, max_batch=16, max_new_tokens=24)
    is_random = chosen.checkpoint == "random"
    weights = random_weights(settings) if is_random else load_weights(settings, find_checkpoint(settings))
    beside = answers(weights, settings, chosen.images, apart=False)
    apart = answers(weights, settings, chosen.images, apart=True)
    same = sum(one == other for one, other in zip(beside, apart, strict=True))
    words = f"{same} of {len(apart)} captions agree on {weights.model.device}, {len(set(apart))} different ones"
    if same < _LEAST_AGREEMENT * len(apart):
        raise SystemExit(words)
    print(words)


def answers(weights: LoadedCheckpoint, settings: EngineSettings, count: int, *, apart: bool) -> list[str]:
    """The captions in the order of the images."""
    form = form_of(weights.model.device, weights.processor.image_processor.size["height"])
    form = replace(form, lane=SameLane()) if apart else form
    model = FlorenceModel(weights.model, weights.processor, weights.checkpoint, settings, form)
    requests = noise(model, count)
    found: dict[int, str] = {}
    stream, waiting = model.stream, list(requests)
    assert stream
    while len(found) < count:
        if wanted := stream.wanted(len(waiting)):
            stream.add(waiting[:wanted])
            del waiting[:wanted]
        for request, outcome in stream.advance():
            found[id(request)] = (
                f"{outcome.text} {outcome.result}" if isinstance(outcome, Caption) else str(outcome)
            )
    return [found[id(request)] for request in requests]


def noise(model: FlorenceModel, count: int) -> Sequence[CaptionRequest]:
    """Images of noise, with tasks of several lengths."""
    random, size = np.random.default_rng(3), model.input_size
    made: list[CaptionRequest] = []
    for number in range(count):
        pixels = model.allocate()
        pixels[:] = random.integers(0, 256, pixels.shape, dtype=np.uint8)
        made.append(CaptionRequest(pixels, TaskRequest(_TASKS[number % len(_TASKS)]), Dimensions(size, size)))
    return made


if __name__ == "__main__":
    with torch.inference_mode():
        main()

"""Tasks of all lengths in one engine: the time of a mixture beside the times of the tasks alone.

    python -m benchmarks.engine_mix [--device cuda] [--images 64] [--max-batch 64]

Random weights in the shape of Florence-2-base, with answers as long as the limits of the tasks.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.cpu import CpuReading, contention_between
from benchmarks.engine import random_weights
from benchmarks.figures import Figure, section, shown
from benchmarks.provenance import Provenance
from dropline.contract import Dimensions, TaskPrompt, TaskRequest
from dropline.settings import EngineSettings
from worker.engine.runtime.florence import FlorenceModel
from worker.engine.wire import CaptionRequest

#: Tokens of an answer, by task.
_LENGTHS = {TaskPrompt.CAPTION: 12, TaskPrompt.DETAILED_CAPTION: 40, TaskPrompt.MORE_DETAILED_CAPTION: 100}

Way = Callable[[Sequence[CaptionRequest]], None]


def main(
    device: Annotated[str, typer.Option(help="As DROPLINE_ENGINE__DEVICE.")] = "auto",
    dtype: Annotated[str, typer.Option(help="As DROPLINE_ENGINE__DTYPE.")] = "auto",
    threads: Annotated[int, typer.Option(help="As DROPLINE_ENGINE__THREADS.", min=0)] = 0,
    images: Annotated[int, typer.Option(help="For each task.", min=1)] = 8,
    max_batch: Annotated[int, typer.Option(help="As DROPLINE_ENGINE__MAX_BATCH.", min=1)] = 32,
) -> None:
    """Measure each task alone, then all of them in turn, in a stream and in batches."""
    provenance = Provenance.gather("benchmarks.engine_mix", sys.argv[1:], ("torch", "transformers", "numpy"))
    values = {"device": device, "dtype": dtype, "threads": threads, "max_batch": max_batch}
    settings = EngineSettings.model_validate(values | {"max_new_tokens_by_task": _LENGTHS})
    weights = random_weights(settings)
    model = FlorenceModel(weights.model, weights.processor, weights.checkpoint, settings)
    before = CpuReading.now()
    tasks = {prompt: _noise(model, prompt, images) for prompt in _LENGTHS}
    mixed = [request for each in zip(*tasks.values(), strict=True) for request in each]
    caption = tasks[TaskPrompt.CAPTION]

    def in_stream(requests: Sequence[CaptionRequest]) -> None:
        _stream(model, requests)

    def in_batches(requests: Sequence[CaptionRequest]) -> None:
        for start in range(0, len(requests), max_batch):
            model.generate(requests[start : start + max_batch])

    # The first run of each size is slow: kernels are compiled, and graphs captured.
    for way in (in_stream, in_batches):
        way(mixed if device.startswith("cuda") else mixed[:1])
    in_turns = [_seconds(way, caption) for way in (in_batches, in_stream, in_stream, in_batches)]
    alone = {prompt: _seconds(in_stream, requests) for prompt, requests in tasks.items()}
    together, batched = _seconds(in_stream, mixed), _seconds(in_batches, mixed)
    figures = [
        Figure("device", f"{model.device}, {model.dtype}, {torch.get_num_threads()} threads"),
        *(
            Figure(f"{prompt}, {_LENGTHS[prompt]} tokens, alone", f"{shown(images / took)} images/s")
            for prompt, took in alone.items()
        ),
        Figure("all in turn, in a stream", f"**{shown(len(mixed) / together)} images/s**"),
        Figure("its share of the sum of their own", f"**{sum(alone.values()) / together:.0%}**"),
        Figure("all in turn, in batches", f"{shown(len(mixed) / batched)} images/s"),
        Figure(
            "<CAPTION> alone, stream ÷ batches, two runs each",
            f"{(in_turns[0] + in_turns[3]) / (in_turns[1] + in_turns[2]):.2f}",
        ),
    ]
    figures += contention_between(before, CpuReading.now()).figures()
    typer.echo("\n".join(section(provenance.title, [*provenance.figures(), *figures])))


def _noise(model: FlorenceModel, prompt: TaskPrompt, count: int) -> list[CaptionRequest]:
    random = np.random.default_rng(0)
    requests: list[CaptionRequest] = []
    for _ in range(count):
        pixels = model.allocate()
        pixels[:] = random.integers(0, 256, pixels.shape, dtype=np.uint8)
        size = Dimensions(model.input_size, model.input_size)
        requests.append(CaptionRequest(pixels, TaskRequest(prompt), size))
    return requests


def _stream(model: FlorenceModel, requests: Sequence[CaptionRequest]) -> None:
    stream, waiting, left = model.stream, list(requests), len(requests)
    if stream is None:
        raise ValueError("this model has no stream")
    while left:
        wanted = stream.wanted(len(waiting))
        if wanted:
            stream.add(waiting[:wanted])
            del waiting[:wanted]
        left -= len(stream.advance())


def _seconds(way: Way, requests: Sequence[CaptionRequest]) -> float:
    began = time.perf_counter()
    way(requests)
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)

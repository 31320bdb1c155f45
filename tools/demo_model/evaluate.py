"""Measures a checkpoint on scenes it was never trained on: `python -m tools.demo_model.evaluate`.

A picture goes the real way: full-size pixels, the processor, `generate`, `post_process_generation`.
"""

import argparse
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import Florence2ForConditionalGeneration, Florence2Processor

from tools.demo_model.drawing import draw
from tools.demo_model.scenes import TASKS, Box, Scene, Task, answer, sample_scene

CHECKPOINT = Path(__file__).parents[2] / "local_emulators" / "demo_model"
#: Never one of the seeds in `train.STAGES`.
HELD_OUT_SEED = 20_261_122
_BATCH_SIZE = 50
_HEIGHTS = (240, 360, 480)


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares between 0 and 1 over `scenes` scenes."""

    scenes: int
    #: `<CAPTION>` and `<DETAILED_CAPTION>` equal to the truth, letter for letter.
    exact_captions: float
    exact_detailed_captions: float
    #: `<OD>` names exactly the items, in their order.
    exact_labels: float
    #: True boxes that have a box of the same label with an IoU of at least 0.5, of all true boxes.
    boxes_found: float
    #: The same, of all boxes that the model gave.
    boxes_right: float


def held_out_scenes(count: int, seed: int = HELD_OUT_SEED) -> list[Scene]:
    """The first `count` scenes of a seed that training never uses."""
    rng = random.Random(seed)
    return [sample_scene(rng) for _ in range(count)]


def pictures_of(scenes: list[Scene]) -> list[Image.Image]:
    """The scenes as uploads would have them, in several sizes."""
    return [draw(scene, _HEIGHTS[index % len(_HEIGHTS)], oversample=2) for index, scene in enumerate(scenes)]


@torch.inference_mode()
def read(
    model: Florence2ForConditionalGeneration,
    processor: Florence2Processor,
    pictures: list[Image.Image],
    task: Task,
    beams: int = 1,
) -> Iterator[Any]:
    """What the model says of each picture: a text, or for `<OD>` a dict of `bboxes` (pixels) and `labels`."""
    for start in range(0, len(pictures), _BATCH_SIZE):
        some = pictures[start : start + _BATCH_SIZE]
        inputs = processor(text=[task] * len(some), images=some, return_tensors="pt")
        tokens = model.generate(**inputs, num_beams=beams)  # type: ignore[misc]  # its mixin's own annotation refuses the class
        texts = processor.batch_decode(tokens, skip_special_tokens=False)
        for text, image in zip(texts, some, strict=True):
            said = text.replace("<pad>", "")
            yield processor.post_process_generation(said, task=task, image_size=image.size)[task]


def evaluate(
    model: Florence2ForConditionalGeneration, processor: Florence2Processor, scenes: list[Scene]
) -> Figures:
    """The model's figures over the scenes."""
    pictures = pictures_of(scenes)
    said = {task: list(read(model, processor, pictures, task)) for task in TASKS}
    found = said["<OD>"]
    matches = sum(
        matched_boxes(given, scene, image.size)
        for given, scene, image in zip(found, scenes, pictures, strict=True)
    )
    return Figures(
        scenes=len(scenes),
        exact_captions=_share_exact(said["<CAPTION>"], [answer(scene, "<CAPTION>") for scene in scenes]),
        exact_detailed_captions=_share_exact(
            said["<DETAILED_CAPTION>"], [answer(scene, "<DETAILED_CAPTION>") for scene in scenes]
        ),
        exact_labels=_share_exact(
            [given["labels"] for given in found], [[item.label for item in scene.items] for scene in scenes]
        ),
        boxes_found=matches / sum(len(scene.items) for scene in scenes),
        boxes_right=matches / max(1, sum(len(given["bboxes"]) for given in found)),
    )


def matched_boxes(given: dict[str, Any], scene: Scene, size: tuple[int, int], threshold: float = 0.5) -> int:
    """How many items have a given box of their label with an IoU of at least `threshold`, each box used once."""
    width, height = size
    left = list(zip(given["labels"], given["bboxes"], strict=True))
    count = 0
    for item in scene.items:
        truth = (item.box[0] * width, item.box[1] * height, item.box[2] * width, item.box[3] * height)
        hits = [pair for pair in left if pair[0] == item.label and iou(pair[1], truth) >= threshold]
        if hits:
            left.remove(max(hits, key=lambda pair: iou(pair[1], truth)))
            count += 1
    return count


def iou(a: Box | list[float], b: Box | list[float]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, across) * max(0.0, down)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _share_exact(said: Iterable[object], truth: Iterable[object]) -> float:
    right = [one == other for one, other in zip(said, truth, strict=True)]
    return sum(right) / len(right)


def load(checkpoint: Path) -> tuple[Florence2ForConditionalGeneration, Florence2Processor]:
    """A checkpoint ready to answer on the CPU: its half-precision weights widened to single precision."""
    model = Florence2ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    return model.eval(), Florence2Processor.from_pretrained(checkpoint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED)
    options = parser.parse_args()
    model, processor = load(options.checkpoint)
    figures = evaluate(model, processor, held_out_scenes(options.scenes, options.seed))
    print(json.dumps(asdict(figures), indent=2))


if __name__ == "__main__":
    main()

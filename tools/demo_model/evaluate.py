"""Measure a checkpoint on held-out scenes: `python -m tools.demo_model.evaluate`.

An image takes the path of production: full-size pixels, the processor, `generate`, `post_process_generation`.
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
#: Not a seed of `trainee.STAGES`.
HELD_OUT_SEED = 20_261_122
_BATCH_SIZE = 50
_HEIGHTS = (240, 360, 480)


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares between 0 and 1 over `scenes` scenes."""

    scenes: int
    #: `<CAPTION>` and `<DETAILED_CAPTION>` equal the expected text, letter for letter.
    exact_captions: float
    exact_detailed_captions: float
    #: `<OD>` has exactly the labels of the items, in their order.
    exact_labels: float
    #: Recall: share of the true boxes with a predicted box of the same label and an IoU of at least 0.5.
    boxes_found: float
    #: Precision: the same matches, as a share of the predicted boxes.
    boxes_right: float


def held_out_scenes(count: int, seed: int = HELD_OUT_SEED) -> list[Scene]:
    """The first `count` scenes of a seed that is not used in training."""
    rng = random.Random(seed)
    return [sample_scene(rng) for _ in range(count)]


def images_of(scenes: list[Scene]) -> list[Image.Image]:
    """The scenes as images of several sizes."""
    return [draw(scene, _HEIGHTS[index % len(_HEIGHTS)], oversample=2) for index, scene in enumerate(scenes)]


@torch.inference_mode()
def read(
    model: Florence2ForConditionalGeneration,
    processor: Florence2Processor,
    images: list[Image.Image],
    task: Task,
    beams: int = 1,
) -> Iterator[Any]:
    """The model's answer for each image: a text, or for `<OD>` a dict of `bboxes` (pixels) and `labels`."""
    for start in range(0, len(images), _BATCH_SIZE):
        some = images[start : start + _BATCH_SIZE]
        inputs = processor(text=[task] * len(some), images=some, return_tensors="pt")
        tokens = model.generate(**inputs, num_beams=beams)  # type: ignore[misc]  # its mixin's own annotation refuses the class
        texts = processor.batch_decode(tokens, skip_special_tokens=False)
        for text, image in zip(texts, some, strict=True):
            text_only = text.replace("<pad>", "")
            yield processor.post_process_generation(text_only, task=task, image_size=image.size)[task]


def evaluate(
    model: Florence2ForConditionalGeneration, processor: Florence2Processor, scenes: list[Scene]
) -> Figures:
    """The model's figures over the scenes."""
    images = images_of(scenes)
    answers = {task: list(read(model, processor, images, task)) for task in TASKS}
    found = answers["<OD>"]
    matches = sum(
        matched_boxes(given, scene, image.size) for given, scene, image in zip(found, scenes, images, strict=True)
    )
    return Figures(
        scenes=len(scenes),
        exact_captions=_share_exact(answers["<CAPTION>"], [answer(scene, "<CAPTION>") for scene in scenes]),
        exact_detailed_captions=_share_exact(
            answers["<DETAILED_CAPTION>"], [answer(scene, "<DETAILED_CAPTION>") for scene in scenes]
        ),
        exact_labels=_share_exact(
            [given["labels"] for given in found], [[item.label for item in scene.items] for scene in scenes]
        ),
        boxes_found=matches / sum(len(scene.items) for scene in scenes),
        boxes_right=matches / max(1, sum(len(given["bboxes"]) for given in found)),
    )


def matched_boxes(given: dict[str, Any], scene: Scene, size: tuple[int, int], threshold: float = 0.5) -> int:
    """Items with a predicted box of the same label and an IoU of at least `threshold`; a box counts once."""
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


def _share_exact(answers: Iterable[object], truth: Iterable[object]) -> float:
    right = [answered == expected for answered, expected in zip(answers, truth, strict=True)]
    return sum(right) / len(right)


def load(checkpoint: Path) -> tuple[Florence2ForConditionalGeneration, Florence2Processor]:
    """A checkpoint on the CPU, with the half-precision weights converted to single precision."""
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

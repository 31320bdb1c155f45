"""Draw the sample images of the demonstration: `python -m tools.demo_model.samples`."""

import argparse
import json
import random
from pathlib import Path
from typing import Any

from tools.demo_model.drawing import draw
from tools.demo_model.scenes import Scene, answer, sample_scene

SAMPLES = Path(__file__).parents[2] / "local_emulators" / "samples"
#: Used neither in training nor in the evaluation.
SAMPLES_SEED = 4_244
_HEIGHT = 480
_LANDSCAPE, _PORTRAIT = 4 / 3, 3 / 4
#: Items, aspect and file format of each sample.
_PLAN = (
    (1, _LANDSCAPE, "png"),
    (2, _LANDSCAPE, "jpg"),
    (3, _LANDSCAPE, "png"),
    (2, _PORTRAIT, "jpg"),
    (3, _LANDSCAPE, "jpg"),
    (1, _LANDSCAPE, "png"),
    (3, _LANDSCAPE, "png"),
    (2, _LANDSCAPE, "png"),
)


def write_samples(folder: Path, seed: int = SAMPLES_SEED) -> None:
    """Write the images and `captions.json` with the expected answers."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    records = []
    for count, aspect, suffix in _PLAN:
        scene = sample_scene(rng, count, aspect)
        image = draw(scene, round(_HEIGHT / min(1.0, aspect)))
        name = "-".join(item.label.replace(" ", "-") for item in scene.items) + f".{suffix}"
        image.save(folder / name, quality=92)
        records.append(_record(name, scene, image.size))
    (folder / "captions.json").write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")


def _record(name: str, scene: Scene, size: tuple[int, int]) -> dict[str, Any]:
    width, height = size
    scale = (width, height, width, height)
    return {
        "file": name,
        "width": width,
        "height": height,
        "caption": answer(scene, "<CAPTION>"),
        "detailed_caption": answer(scene, "<DETAILED_CAPTION>"),
        "objects": [
            {
                "label": item.label,
                "box": [round(value * pixels) for value, pixels in zip(item.box, scale, strict=True)],
            }
            for item in scene.items
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=SAMPLES)
    parser.add_argument("--seed", type=int, default=SAMPLES_SEED)
    options = parser.parse_args()
    write_samples(options.folder, options.seed)


if __name__ == "__main__":
    main()

"""Endless batches of freshly drawn scenes: images, answers and dense targets, made in another process."""

import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from transformers import BartTokenizer, Florence2Processor

from tools.demo_model.build import SHAPE
from tools.demo_model.drawing import draw
from tools.demo_model.scenes import COLOURS, SHAPES, SIZES, TASKS, Item, Scene, answer, sample_scene

#: Label of the tokens that the loss ignores.
IGNORED = -100
#: Class index of a cell without an item.
NO_ITEM = -1
_COLOUR_NAMES = tuple(COLOURS)
_DRAWN_HEIGHT = 240


class CellTargets(NamedTuple):
    """`words`: BxTx3 class indices (colour, shape, size), NO_ITEM beside the items; `boxes`: BxTx4 fractions."""

    words: Tensor
    boxes: Tensor


class Batch(NamedTuple):
    """`pixels`: Bx3xSxS, normalised; `labels`: BxL token ids per task; `cells`: the dense targets."""

    pixels: Tensor
    labels: list[Tensor]
    cells: CellTargets


class SceneBatches(IterableDataset[Batch]):
    """Batches of `size` scenes; `seed` determines all of them."""

    def __init__(self, processor: Florence2Processor, size: int, seed: int) -> None:
        self.tokenizer: BartTokenizer = processor.tokenizer
        self.size = size
        self.seed = seed
        self.mean = np.array(processor.image_processor.image_mean, dtype=np.float32)
        self.std = np.array(processor.image_processor.image_std, dtype=np.float32)

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        rng = random.Random(self.seed)
        while True:
            yield self._batch([sample_scene(rng) for _ in range(self.size)])

    def _batch(self, scenes: list[Scene]) -> Batch:
        pixels = np.stack([small_image(scene) for scene in scenes]).astype(np.float32) / 255
        words, boxes = zip(*(cell_targets(scene, SHAPE.grid) for scene in scenes), strict=True)
        return Batch(
            pixels=torch.from_numpy(((pixels - self.mean) / self.std).transpose(0, 3, 1, 2).copy()),
            labels=[self._labels([answer(scene, task) for scene in scenes]) for task in TASKS],
            cells=CellTargets(torch.from_numpy(np.stack(words)), torch.from_numpy(np.stack(boxes))),
        )

    def _labels(self, texts: list[str]) -> Tensor:
        rows = self.tokenizer(texts).input_ids
        labels = torch.full((len(rows), max(map(len, rows))), IGNORED)
        for row, ids in zip(labels, rows, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return labels


def small_image(scene: Scene) -> np.ndarray:
    """The scene as SxSx3 bytes, stretched to the square input of the model."""
    image = draw(scene, _DRAWN_HEIGHT, oversample=1)
    return np.asarray(image.resize((SHAPE.image_size, SHAPE.image_size), Image.Resampling.BICUBIC))


def cell_targets(scene: Scene, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Words and boxes for each of the gridxgrid cells of a scene, row by row."""
    words = np.full((grid, grid, 3), NO_ITEM, dtype=np.int64)
    boxes = np.zeros((grid, grid, 4), dtype=np.float32)
    centres = (np.arange(grid) + 0.5) / grid
    nearest = np.full((grid, grid), np.inf)
    for item in scene.items:
        distance, covered = _distance_and_cover(item, centres)
        chosen = covered & (distance < nearest)
        nearest[chosen] = distance[chosen]
        words[chosen] = _COLOUR_NAMES.index(item.colour), SHAPES.index(item.shape), SIZES.index(item.size)
        boxes[chosen] = item.box
    return words.reshape(-1, 3), boxes.reshape(-1, 4)


def _distance_and_cover(item: Item, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # A cell belongs to an item if its centre lies within half a cell of the item's box.
    x0, y0, x1, y1 = item.box
    slack = 0.5 / len(centres)
    inside_x = (centres > x0 - slack) & (centres < x1 + slack)
    inside_y = (centres > y0 - slack) & (centres < y1 + slack)
    distance = np.hypot(centres[None, :] - (x0 + x1) / 2, centres[:, None] - (y0 + y1) / 2)
    return distance, inside_y[:, None] & inside_x[None, :]


def load_batches(processor: Florence2Processor, size: int, seed: int) -> Iterator[Batch]:
    """`SceneBatches`, drawn ahead by one further process."""
    loader = DataLoader(SceneBatches(processor, size, seed), batch_size=None, num_workers=1, prefetch_factor=8)
    return iter(loader)

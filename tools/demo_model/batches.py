"""Endless batches of freshly drawn scenes, made in another process while the model trains."""

import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from transformers import BartTokenizer, Florence2Processor

from tools.demo_model.build import GRID, IMAGE_SIZE
from tools.demo_model.dense_head import CellTargets, cell_targets, stack_targets
from tools.demo_model.drawing import draw
from tools.demo_model.scenes import TASKS, Scene, answer, sample_scene

IGNORED = -100
_DRAWN_HEIGHT = 240


class Batch(NamedTuple):
    """`pixels` Bx3xSxS normalised, `labels` one BxL of token ids per task, `cells` the dense targets."""

    pixels: Tensor
    labels: list[Tensor]
    cells: CellTargets


class SceneBatches(IterableDataset[Batch]):
    """Batches of `size` scenes, all drawn from one `seed`."""

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
        pixels = np.stack([small_picture(scene) for scene in scenes]).astype(np.float32) / 255
        return Batch(
            pixels=torch.from_numpy(((pixels - self.mean) / self.std).transpose(0, 3, 1, 2).copy()),
            labels=[self._labels([answer(scene, task) for scene in scenes]) for task in TASKS],
            cells=stack_targets([cell_targets(scene, GRID) for scene in scenes]),
        )

    def _labels(self, texts: list[str]) -> Tensor:
        rows = self.tokenizer(texts).input_ids
        labels = torch.full((len(rows), max(map(len, rows))), IGNORED)
        for row, ids in zip(labels, rows, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return labels


def small_picture(scene: Scene) -> np.ndarray:
    """The scene as SxSx3 bytes, stretched to the model's square."""
    picture = draw(scene, _DRAWN_HEIGHT, oversample=1)
    return np.asarray(picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def load_batches(processor: Florence2Processor, size: int, seed: int) -> Iterator[Batch]:
    """`SceneBatches`, drawn ahead by one worker process."""
    loader = DataLoader(SceneBatches(processor, size, seed), batch_size=None, num_workers=1, prefetch_factor=8)
    return iter(loader)

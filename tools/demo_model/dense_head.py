"""The dense head: what every image token has to know about the item it lies on. Thrown away after training.

A caption tells the vision tower little about where it went wrong; a target in every cell tells it at once.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.demo_model.scenes import COLOURS, SHAPES, SIZES, Item, Scene

NOTHING = -1
_COLOUR_NAMES = tuple(COLOURS)
_SPLIT = (1, len(COLOURS), len(SHAPES), len(SIZES), 4)


class CellTargets(NamedTuple):
    """`words` BxTx3 class indices (colour, shape, size), NOTHING off the items; `boxes` BxTx4, fractions."""

    words: Tensor
    boxes: Tensor


def cell_targets(scene: Scene, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Words and boxes for each of the gridxgrid cells of one scene, row by row."""
    words = np.full((grid, grid, 3), NOTHING, dtype=np.int64)
    boxes = np.zeros((grid, grid, 4), dtype=np.float32)
    centres = (np.arange(grid) + 0.5) / grid
    nearest = np.full((grid, grid), np.inf)
    for item in scene.items:
        distance, covered = _reach(item, centres)
        chosen = covered & (distance < nearest)
        nearest[chosen] = distance[chosen]
        words[chosen] = _COLOUR_NAMES.index(item.colour), SHAPES.index(item.shape), SIZES.index(item.size)
        boxes[chosen] = item.box
    return words.reshape(-1, 3), boxes.reshape(-1, 4)


def _reach(item: Item, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # A cell belongs to an item when its centre lies within half a cell of the item's box.
    x0, y0, x1, y1 = item.box
    slack = 0.5 / len(centres)
    inside_x = (centres > x0 - slack) & (centres < x1 + slack)
    inside_y = (centres > y0 - slack) & (centres < y1 + slack)
    distance = np.hypot(centres[None, :] - (x0 + x1) / 2, centres[:, None] - (y0 + y1) / 2)
    return distance, inside_y[:, None] & inside_x[None, :]


def stack_targets(targets: list[tuple[np.ndarray, np.ndarray]]) -> CellTargets:
    """The targets of a batch."""
    words, boxes = zip(*targets, strict=True)
    return CellTargets(torch.from_numpy(np.stack(words)), torch.from_numpy(np.stack(boxes)))


class DenseHead(nn.Module):
    """One linear layer on the image tokens, so that what it learns to read is laid out plainly for the decoder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = nn.Linear(width, sum(_SPLIT))

    def forward(self, tokens: Tensor, cells: CellTargets) -> Tensor:
        """The loss of the image tokens, BxTxwidth, against their targets."""
        presence, *words, boxes = self.read(tokens).split(_SPLIT, dim=-1)
        on_item = cells.words[..., 0] != NOTHING
        loss = functional.binary_cross_entropy_with_logits(presence.squeeze(-1), on_item.float())
        for index, scores in enumerate(words):
            loss = loss + functional.cross_entropy(scores[on_item], cells.words[..., index][on_item])
        return loss + 10 * functional.smooth_l1_loss(boxes[on_item], cells.boxes[on_item], beta=0.05)

    @torch.no_grad()
    def accuracy(self, tokens: Tensor, cells: CellTargets) -> dict[str, float]:
        """How much is read rightly: presence over all cells, the words and the mean box error on the items."""
        presence, *words, boxes = self.read(tokens).split(_SPLIT, dim=-1)
        on_item = cells.words[..., 0] != NOTHING
        figures = {"presence": ((presence.squeeze(-1) > 0) == on_item).float().mean().item()}
        for index, (name, scores) in enumerate(zip(("colour", "shape", "size"), words, strict=True)):
            right = scores[on_item].argmax(-1) == cells.words[..., index][on_item]
            figures[name] = right.float().mean().item()
        figures["box_error"] = (boxes[on_item] - cells.boxes[on_item]).abs().mean().item()
        return figures

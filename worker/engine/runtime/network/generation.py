"""From pixels and prompts to the tokens of the answers."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from worker.engine.runtime.network.operations import Operations
from worker.engine.runtime.network.search import BeamSearch, Search, SearchRules
from worker.engine.runtime.network.text import Caches, Decoder, Encoder
from worker.engine.runtime.network.vision import VisionTower

#: Most tokens of a prompt: as many as Florence-2-base reads. Florence-2-large reads 3,519.
#: The text of a task has 500 bytes at most.
_MOST_PROMPT_TOKENS = 447


@dataclass(frozen=True, slots=True)
class Batch:
    """The input of a batch, on the host: each prompt is asked of one of the images."""

    #: uint8 `[size, size, 3]` each; page-locked where the device is a GPU.
    pixels: Sequence[Tensor]
    #: Place of each prompt's image in `pixels`.
    images: Sequence[int]
    #: Token ids of the prompts, without the image tokens.
    prompts: Sequence[Sequence[int]]
    #: bool, `[B, vocabulary]` on the device: the tokens that an answer cannot contain.
    banned: Tensor
    #: Most tokens of each answer.
    limits: Sequence[int]

    def parts(self, most: int) -> Iterator["Batch"]:
        """The batch in parts of at most `most` prompts, each with the images of its prompts alone."""
        for start in range(0, len(self.prompts), most):
            part = slice(start, start + most)
            shown = list(dict.fromkeys(self.images[part]))
            yield Batch(
                pixels=[self.pixels[image] for image in shown],
                images=[shown.index(image) for image in self.images[part]],
                prompts=self.prompts[part],
                banned=self.banned[part],
                limits=self.limits[part],
            )


@dataclass(frozen=True, slots=True)
class Answers:
    """The output of a batch, on the host."""

    #: Token ids with the start token, padded to one length.
    tokens: list[list[int]]
    #: True for a prompt of which a logit was not finite.
    broken: list[bool]


class Generator(Protocol):
    """Generates the answers of a batch; one implementation per kind of search."""

    def __call__(self, batch: Batch) -> Answers:
        """The answers, in the batch's order."""
        ...

    def capture(self, count: int, widths: Iterable[int]) -> None:
        """Capture the work for so many images, prompts of these padded widths, and answers.

        Only while no answer is under way.
        """
        ...


class Network:
    """The layers of a checkpoint on a device."""

    def __init__(
        self, model: Any, image_tokens: int, scale: Tensor, shift: Tensor, operations: Operations
    ) -> None:
        """Take the tensors of a `Florence2ForConditionalGeneration`.

        Args:
            model: the tensors are not copied where their layout serves.
            image_tokens: of one image.
            scale: see `VisionTower`.
            shift: see `VisionTower`.
            operations: of the device.
        """
        inner = model.model
        self.vision = VisionTower(inner, scale, shift, operations)
        self.encoder = Encoder(inner.language_model.encoder, operations)
        self.decoder = Decoder(inner.language_model.decoder, model.lm_head, operations)
        self.device: torch.device = model.device
        self.operations = operations
        self.image_tokens = image_tokens
        self.positions = most_positions(model, image_tokens)
        self._dtype: torch.dtype = model.dtype
        self._width: int = model.config.text_config.hidden_size

    def read(
        self,
        seen: Tensor,
        images: Tensor,
        prompts: Tensor,
        lengths: Tensor,
        slots: Tensor,
        cross: list[Tensor],
    ) -> None:
        """Fill slots of `cross` with the decoder's view of images and prompts; see `Encoder` and `Decoder.read`.

        Args:
            seen: image tokens of each image, once.
            images: int64 `[B]`, the place of each prompt's image in `seen`.
            prompts: of the batch.
            lengths: of the prompts, with the image tokens.
            slots: int64 `[B]`, of each prompt.
            cross: of all slots.
        """
        encoded = self.encoder(seen.index_select(0, images), prompts, lengths)
        self.decoder.read(encoded, slots, cross)

    def begin(self, search: BeamSearch, caches: Caches) -> None:
        """Start the answers of a search."""
        search.begin(lambda tokens, positions: self.decoder.fill(tokens, positions, caches))

    def step(self, search: Search, caches: Caches) -> None:
        """One more token for every running answer in the rows of the caches."""
        rows = len(caches.ancestry)
        search.advance(self.decoder.step(search.last_tokens(rows), search.positions[:rows], caches))

    def own_caches(self, rows: int, positions: int) -> tuple[list[Tensor], list[Tensor]]:
        """Memory for the keys and the values of generated tokens; see `Caches`."""
        shape = (rows, positions, self._width)
        keys, values = (
            [torch.empty(shape, dtype=self._dtype, device=self.device) for _ in range(self.decoder.layers)]
            for _ in range(2)
        )
        return keys, values

    def cross_caches(self, slots: int) -> list[Tensor]:
        """Memory for the keys and values of images and prompts, all zeros; see `Caches`."""
        shape = (slots, self.positions, 2 * self._width)
        return [zeros(shape, self._dtype, self.device) for _ in range(self.decoder.layers)]

    def image_memory(self, images: int) -> Tensor:
        """Memory for the tokens of images, `[images, image_tokens, C]`."""
        return torch.empty((images, self.image_tokens, self._width), dtype=self._dtype, device=self.device)


def most_positions(model: Any, image_tokens: int) -> int:
    """The most tokens of image and prompt: memory for so many is reserved for each answer."""
    return min(image_tokens + _MOST_PROMPT_TOKENS, model.config.text_config.max_position_embeddings)


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; those of a CPU take no memory before they are written."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # Numpy takes large zeros from the operating system, which shares one page among them; torch writes them.
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)


def padded_prompts(prompts: Sequence[Sequence[int]], width: int, image_tokens: int) -> tuple[Tensor, Tensor]:
    """int64 `[B, width]`, padded with zeros, and the lengths with the image tokens, int32 `[B]`."""
    rows = [[*ids, *[0] * (width - len(ids))] for ids in prompts]
    return torch.tensor(rows), torch.tensor([image_tokens + len(ids) for ids in prompts], dtype=torch.int32)


def limits_within(rules: SearchRules, limits: Sequence[int]) -> Tensor:
    """int64 `[B]`: the limits, none above that of the rules."""
    return torch.tensor([min(limit, rules.limit) for limit in limits])

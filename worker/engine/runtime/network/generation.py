"""From pixels and prompts to the tokens of the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from worker.engine.runtime.network.operations import Operations
from worker.engine.runtime.network.search import Search, SearchRules, search_for
from worker.engine.runtime.network.text import Caches, Decoder, Encoder
from worker.engine.runtime.network.vision import VisionTower


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


@dataclass(frozen=True, slots=True)
class Answers:
    """The output of a batch, on the host."""

    #: Token ids with the start token, padded to one length.
    tokens: list[list[int]]
    #: True for a prompt of which a logit was not finite.
    broken: list[bool]


class Generator(Protocol):
    """Generates the answers of a batch; one implementation per kind of device."""

    def __call__(self, batch: Batch) -> Answers:
        """The answers, in the batch's order."""
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
        #: The most tokens of image and prompt.
        self.positions: int = model.config.text_config.max_position_embeddings
        self._dtype: torch.dtype = model.dtype
        self._width: int = model.config.text_config.hidden_size

    def encode(
        self,
        pixels: Tensor,
        prompts: Tensor,
        lengths: Tensor,
        cross: list[Tensor],
        images: Tensor | None = None,
    ) -> None:
        """Fill `cross` with the decoder's view of images and prompts; see `Encoder` and `Decoder.read`.

        Args:
            pixels: each image once.
            prompts: of the batch.
            lengths: of the prompts, with the image tokens.
            cross: of the batch.
            images: int64 `[B]`, the place of each prompt's image in `pixels`; None: one prompt for each image.
        """
        seen = self.vision(pixels)
        seen = seen if images is None else seen.index_select(0, images)
        self.decoder.read(self.encoder(seen, prompts, lengths), cross)

    def begin(self, search: Search, caches: Caches) -> None:
        """Start the answers of a search."""
        search.begin(lambda tokens, position: self.decoder.fill(tokens, position, caches))

    def step(self, search: Search, caches: Caches) -> None:
        """One more token for every running answer."""
        search.advance(self.decoder.step(search.last_tokens(), search.position, caches))

    def own_caches(self, rows: int, positions: int) -> tuple[list[Tensor], list[Tensor]]:
        """Memory for the keys and the values of generated tokens; see `Caches`."""
        return self._caches(rows, positions, self._width), self._caches(rows, positions, self._width)

    def cross_caches(self, images: int, tokens: int) -> list[Tensor]:
        """Memory for the keys and values of images and prompts; see `Caches`."""
        return self._caches(images, tokens, 2 * self._width)

    def _caches(self, *shape: int) -> list[Tensor]:
        return [torch.empty(shape, dtype=self._dtype, device=self.device) for _ in range(self.decoder.layers)]


class DirectGenerator:
    """Runs layer after layer, as a CPU does best."""

    def __init__(self, network: Network, rules: SearchRules) -> None:
        self._network, self._rules = network, rules

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Answers:
        """See `Generator`."""
        network, rules, answers = self._network, self._rules, len(batch.prompts)
        prompts, lengths = padded_prompts(batch.prompts, max(map(len, batch.prompts)), network.image_tokens)
        search = search_for(rules, network.operations, answers, batch.banned)
        search.limits.copy_(limits_within(rules, batch.limits))
        keys, values = network.own_caches(len(search.tokens), 1 + rules.limit)
        cross = network.cross_caches(answers, network.image_tokens + prompts.shape[1])
        caches = Caches(keys, values, cross, lengths.to(network.device), search.ancestry)
        pixels = torch.stack(list(batch.pixels)).to(network.device)
        places = None if len(pixels) == answers else torch.tensor(batch.images, device=network.device)
        network.encode(pixels, prompts.to(network.device), caches.lengths, cross, places)
        network.begin(search, caches)
        while not search.done:
            network.step(search, caches)
        return on_host(search, answers, int(search.position) + 1)


def padded_prompts(prompts: Sequence[Sequence[int]], width: int, image_tokens: int) -> tuple[Tensor, Tensor]:
    """int64 `[B, width]`, padded with zeros, and the lengths with the image tokens, int32 `[B]`."""
    rows = [[*ids, *[0] * (width - len(ids))] for ids in prompts]
    return torch.tensor(rows), torch.tensor([image_tokens + len(ids) for ids in prompts], dtype=torch.int32)


def limits_within(rules: SearchRules, limits: Sequence[int]) -> Tensor:
    """int64 `[B]`: the limits, none above that of the rules."""
    return torch.tensor([min(limit, rules.limit) for limit in limits])


def on_host(search: Search, images: int, length: int) -> Answers:
    """The answers of the first images, up to a length."""
    return Answers(search.answers()[:images, :length].tolist(), search.broken[:images].tolist())

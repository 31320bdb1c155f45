"""From pixels and prompts to the decoder's caches, from work of static shapes.

Captured work reads and writes the same memory each time, so every tensor has its place from the start, and images
and prompts are padded to the size of their graphs.
"""

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.runtime.network.form import Form, Part, Work
from worker.engine.runtime.network.generation import Network, padded_prompts
from worker.engine.runtime.network.text import Caches


@dataclass(frozen=True, slots=True)
class _Prompts:
    """The input of the work that reads prompts, for one number of prompts and one width."""

    #: int64 `[n, width]`.
    ids: Tensor
    #: int32 `[n]`, with the image tokens.
    lengths: Tensor
    #: int64 `[n]`: the place of each prompt's image.
    images: Tensor
    #: int64 `[n]`: the slot of each prompt.
    slots: Tensor
    #: A captured graph knows addresses and holds no tensor, so the tensors are held here.
    work: Work


class Reader:
    """Sees each image once, and reads prompts about it into slots of the caches."""

    def __init__(self, network: Network, form: Form, slots: int, size: int) -> None:
        """Reserve memory.

        Args:
            network: on the device.
            form: of the device.
            slots: the most prompts at a time; also the most images.
            size: pixels per side of an image.
        """
        self._network, self._form, self._slots = network, form, slots
        device = network.device
        self._pixels = torch.zeros((slots, size, size, 3), dtype=torch.uint8, device=device)
        self._seen = network.image_memory(slots)
        #: Of all slots, and of one more for the padding of a graph.
        self._cross = network.cross_caches(slots + 1)
        #: int32, of the tokens of each slot's image and prompt.
        self._lengths = torch.ones(slots + 1, dtype=torch.int32, device=device)
        self._vision: dict[int, Work] = {}
        self._prompts: dict[tuple[int, int], _Prompts] = {}

    def capture(self, count: int, widths: Iterable[int]) -> None:
        """Capture the work of a size: of so many images, and of as many prompts of each padded width."""
        self._seeing(count)
        for width in widths:
            self._captured(count, width)

    def see(self, pixels: Sequence[Tensor]) -> None:
        """Start to see images beside the main work; replaces the images seen before."""
        self._form.lane.start(lambda: self._see(pixels))

    def _see(self, pixels: Sequence[Tensor]) -> None:
        for place, image in zip(self._pixels, pixels, strict=False):
            place.copy_(image, non_blocking=True)
        self._seeing(self._form.rounded(len(pixels), self._slots))()

    def _seeing(self, count: int) -> Work:
        if count not in self._vision:
            self._vision[count] = self._form.capture_aside(Part.VISION, lambda: self._see_first(count))
        return self._vision[count]

    def _see_first(self, count: int) -> None:
        passes = -(-count // self._form.images_at_once)
        ends = [count * (place + 1) // passes for place in range(passes)]
        parts = [slice(start, end) for start, end in itertools.pairwise([0, *ends])]
        self._form.run_all([functools.partial(self._see_part, part) for part in parts])

    def _see_part(self, part: slice) -> None:
        self._seen[part].copy_(self._network.vision(self._pixels[part]))

    def read(self, prompts: Sequence[Sequence[int]], images: Sequence[int], slots: Sequence[int]) -> None:
        """Fill the slots of prompts about the images seen last; see `Batch` for the prompts and the images."""
        network, form = self._network, self._form
        form.lane.join()
        width = form.padded_width(max(map(len, prompts)), network.positions - network.image_tokens)
        captured = self._captured(form.rounded(len(prompts), self._slots), width)
        more = len(captured.ids) - len(prompts)
        padding: list[list[int]] = [[]] * more
        ids, lengths = padded_prompts([*prompts, *padding], width, network.image_tokens)
        captured.ids.copy_(ids)
        captured.lengths.copy_(lengths)
        captured.images.copy_(torch.tensor([*images, *[0] * more]))
        captured.slots.copy_(torch.tensor([*slots, *[self._slots] * more]))
        captured.work()

    def caches(self, keys: Sequence[Tensor], values: Sequence[Tensor], ancestry: Tensor, images: int) -> Caches:
        """The caches of the first slots, with as many rows as the ancestry."""
        rows = len(ancestry)
        return Caches(
            [part[:rows] for part in keys],
            [part[:rows] for part in values],
            [part[:images] for part in self._cross],
            self._lengths[:images],
            ancestry,
        )

    def clear(self, slot: int) -> None:
        """Zero a slot after an answer with a broken logit: a masked NaN is still NaN."""
        for part in self._cross:
            part[slot].zero_()

    def _captured(self, count: int, width: int) -> _Prompts:
        if (count, width) not in self._prompts:
            device, network = self._network.device, self._network
            ids = torch.zeros((count, width), dtype=torch.int64, device=device)
            lengths = torch.ones(count, dtype=torch.int32, device=device)
            images, slots = (torch.zeros(count, dtype=torch.int64, device=device) for _ in range(2))
            # The capture runs the work: it must not touch the slots of others.
            slots.fill_(self._slots)

            def work() -> None:
                self._lengths.index_copy_(0, slots, lengths)
                network.read(self._seen, images, ids, lengths, slots, self._cross)

            captured = self._form.capture(Part.ENCODER, work)
            self._prompts[count, width] = _Prompts(ids, lengths, images, slots, captured)
        return self._prompts[count, width]

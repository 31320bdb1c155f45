"""Generation from captured graphs: the host starts one graph for the images and one for every token.

A graph reads and writes the same memory each time, so every tensor has its place from the start, and a batch is
padded to the size of its graph.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.runtime.network.generation import (
    Answers,
    Batch,
    Network,
    limits_within,
    on_host,
    padded_prompts,
)
from worker.engine.runtime.network.search import SearchRules, search_for
from worker.engine.runtime.network.text import Caches

#: Tokens between two looks of the host at the search's end: each look makes the device wait for the host.
_TOKENS_PER_LOOK = 4
#: Prompts are padded to a multiple of so many tokens, so that few lengths need a graph.
_PROMPT_STEP = 16

Work = Callable[[], None]
#: Turns work on a device into work that does the same again, on the same memory.
Capture = Callable[[Work], Work]


def cuda_graphs(device: torch.device) -> Capture:
    """Captures work on a GPU as CUDA graphs, which share one pool of memory."""
    pool = torch.cuda.graph_pool_handle()

    def capture(work: Work) -> Work:
        # Once outside of the graph: kernels are compiled, and libraries reserve their memory.
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may reserve page-locked memory for a new child meanwhile.
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                work()
        except RuntimeError as error:
            # The end of a broken capture raises an error of its own, which hides that the memory ran out.
            if isinstance(error.__context__, torch.OutOfMemoryError):
                raise error.__context__ from None
            raise
        replay: Work = graph.replay
        return replay

    return capture


@dataclass(frozen=True, slots=True)
class _Memory:
    """Tensors of the largest batch; smaller batches use the first rows."""

    pixels: Tensor
    banned: Tensor
    lengths: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    #: Of the longest prompts.
    cross: list[Tensor]

    def cross_of(self, images: int, tokens: int) -> list[Tensor]:
        """`[images, tokens, 2C]` for each layer, over the same memory for every shape."""
        return [part.view(-1, part.shape[-1])[: images * tokens].view(images, tokens, -1) for part in self.cross]


@dataclass(frozen=True, slots=True)
class _Captured:
    """The work for one batch size and one width of the padded prompts."""

    #: int64 `[images, width]`, read by `encode`.
    prompts: Tensor
    #: Read by `add_token`. A captured graph knows addresses and holds no tensor, so the tensors are held here.
    caches: Caches
    #: Encodes the images and begins their answers.
    encode: Work
    #: Adds a token to every answer.
    add_token: Work


class _Bucket:
    """The search of one batch size, and its captured work."""

    def __init__(
        self, network: Network, rules: SearchRules, memory: _Memory, images: int, capture: Capture
    ) -> None:
        rows = images * rules.beams
        self.images = images
        self.search = search_for(rules, network.operations, images, memory.banned[:images])
        self._network, self._memory, self._capture = network, memory, capture
        self._pixels, self._lengths = memory.pixels[:images], memory.lengths[:images]
        self._keys = [part[:rows] for part in memory.keys]
        self._values = [part[:rows] for part in memory.values]
        self._captured: dict[int, _Captured] = {}

    def captured(self, width: int) -> _Captured:
        """The work for prompts of this width; captured at the first call."""
        if width not in self._captured:
            self._captured[width] = self._capture_both(width)
        return self._captured[width]

    def _capture_both(self, width: int) -> _Captured:
        network, search = self._network, self.search
        prompts = torch.zeros((self.images, width), dtype=torch.int64, device=network.device)
        cross = self._memory.cross_of(self.images, network.image_tokens + width)
        caches = Caches(self._keys, self._values, cross, self._lengths, search.ancestry)

        def encode() -> None:
            network.encode(self._pixels, prompts, self._lengths, cross)
            network.begin(search, caches)

        add_token = self._capture(lambda: network.step(search, caches))
        return _Captured(prompts, caches, self._capture(encode), add_token)


class CapturedGenerator:
    """See `Generator`."""

    def __init__(
        self, network: Network, rules: SearchRules, max_images: int, size: int, vocabulary: int, capture: Capture
    ) -> None:
        """Reserve memory for the largest batch.

        Args:
            network: on the device.
            rules: of the search.
            max_images: in a batch.
            size: pixels per side of an image.
            vocabulary: length of the logits.
            capture: of the device.
        """
        self._network, self._rules, self._max_images, self._capture = network, rules, max_images, capture
        device = network.device
        with torch.inference_mode():
            keys, values = network.own_caches(max_images * rules.beams, 1 + rules.limit)
            self._memory = _Memory(
                pixels=torch.zeros((max_images, size, size, 3), dtype=torch.uint8, device=device),
                banned=torch.zeros((max_images, vocabulary), dtype=torch.bool, device=device),
                lengths=torch.ones(max_images, dtype=torch.int32, device=device),
                keys=keys,
                values=values,
                cross=network.cross_caches(max_images, network.positions),
            )
        self._buckets: dict[int, _Bucket] = {}

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Answers:
        """See `Generator`."""
        count = len(batch.prompts)
        bucket = self._bucket(count)
        search = bucket.search
        captured = bucket.captured(self._padded_width(max(map(len, batch.prompts))))
        self._fill(batch, bucket, captured.prompts)
        captured.encode()
        length = self._rules.first_length
        longest_answer = min(max(batch.limits), self._rules.limit)
        while length <= longest_answer and not (length > self._rules.first_length and search.done):
            for _ in range(min(_TOKENS_PER_LOOK, longest_answer + 1 - length)):
                captured.add_token()
                length += 1
        return on_host(search, count, length)

    def _padded_width(self, longest: int) -> int:
        """Tokens of the padded prompts: few widths, and none beyond the positions of the encoder."""
        steps = -(-longest // _PROMPT_STEP)
        return min(steps * _PROMPT_STEP, self._network.positions - self._network.image_tokens)

    def _fill(self, batch: Batch, bucket: _Bucket, prompts: Tensor) -> None:
        """Copy a batch to the memory that the captured work reads; the device does not wait for the host."""
        memory, count = self._memory, len(batch.prompts)
        # A graph sees one image for each prompt: the image of several prompts is copied, and seen, for each.
        for place, image in zip(memory.pixels, batch.images, strict=False):
            place.copy_(batch.pixels[image], non_blocking=True)
        memory.banned[:count].copy_(batch.banned)
        bucket.search.limits[:count].copy_(limits_within(self._rules, batch.limits))
        bucket.search.unused[:count] = False
        bucket.search.unused[count:] = True
        padding: list[list[int]] = [[]] * (bucket.images - count)
        ids, lengths = padded_prompts([*batch.prompts, *padding], prompts.shape[1], self._network.image_tokens)
        prompts.copy_(ids)
        memory.lengths[: bucket.images].copy_(lengths)

    def _bucket(self, count: int) -> _Bucket:
        """The smallest bucket that holds a batch: a power of two, or the largest batch."""
        images = min(1 << (count - 1).bit_length(), self._max_images)
        if images not in self._buckets:
            self._buckets[images] = _Bucket(self._network, self._rules, self._memory, images, self._capture)
        return self._buckets[images]

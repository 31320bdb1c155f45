"""Beam search in plain batches: all answers of a batch begin together, and it ends with the last one."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from worker.engine.runtime.network.form import Form, Part, Work
from worker.engine.runtime.network.generation import Answers, Batch, Network, limits_within
from worker.engine.runtime.network.reading import Reader
from worker.engine.runtime.network.search import BeamSearch, SearchRules
from worker.engine.runtime.network.text import Caches


@dataclass(frozen=True, slots=True)
class _Captured:
    """The search of one batch size, and its captured work."""

    search: BeamSearch
    #: A captured graph knows addresses and holds no tensor, so the tensors are held here.
    caches: Caches
    begin: Work
    add_token: Work


class BeamBatches:
    """See `Generator`."""

    def __init__(
        self, network: Network, rules: SearchRules, images: int, size: int, vocabulary: int, form: Form
    ) -> None:
        """Reserve memory for the largest batch.

        Args:
            network: on the device.
            rules: of the search.
            images: the most prompts in a batch.
            size: pixels per side of an image.
            vocabulary: length of the logits.
            form: of the device.
        """
        self._network, self._rules, self._images, self._form = network, rules, images, form
        with torch.inference_mode():
            self._reader = Reader(network, form, images, size)
            self._banned = torch.zeros((images, vocabulary), dtype=torch.bool, device=network.device)
            self._keys, self._values = network.own_caches(images * rules.beams, 1 + rules.limit)
        self._captured_of: dict[int, _Captured] = {}

    def __call__(self, batch: Batch) -> Answers:
        """See `Generator`."""
        parts = [self._answer(part) for part in batch.parts(self._images)]
        return Answers(
            [row for part in parts for row in part.tokens], [flag for part in parts for flag in part.broken]
        )

    @torch.inference_mode()
    def capture(self, count: int, widths: Iterable[int]) -> None:
        """See `Generator`."""
        self._reader.capture(count, widths)
        self._captured(count)

    @torch.inference_mode()
    def _answer(self, batch: Batch) -> Answers:
        count = len(batch.prompts)
        self._reader.see(batch.pixels)
        self._reader.read(batch.prompts, batch.images, range(count))
        captured = self._captured(self._form.rounded(count, self._images))
        search = captured.search
        self._banned[:count].copy_(batch.banned)
        search.limits[:count].copy_(limits_within(self._rules, batch.limits))
        search.unused[:count] = False
        search.unused[count:] = True
        captured.begin()
        longest = min(max(batch.limits), self._rules.limit)
        length = self._rules.first_length
        while length <= longest and not (length > self._rules.first_length and self._is_done(search)):
            for _ in range(min(self._form.tokens_per_look, longest + 1 - length)):
                captured.add_token()
                length += 1
        self._form.settle()
        found = Answers(search.answers()[:count, :length].tolist(), search.broken[:count].tolist())
        for place, broken in enumerate(found.broken):
            if broken:
                self._reader.clear(place)
        return found

    def _is_done(self, search: BeamSearch) -> bool:
        self._form.settle()
        return bool(search.done)

    def _captured(self, images: int) -> _Captured:
        if images not in self._captured_of:
            network, reader = self._network, self._reader
            search = BeamSearch(self._rules, network.operations, images, self._banned[:images])
            caches = reader.caches(self._keys, self._values, search.ancestry, images)
            begin = self._form.capture(Part.DECODER, lambda: network.begin(search, caches))
            add_token = self._form.capture(Part.DECODER, lambda: network.step(search, caches))
            self._captured_of[images] = _Captured(search, caches, begin, add_token)
        return self._captured_of[images]

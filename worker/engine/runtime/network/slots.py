"""Greedy answers in slots: an ended answer leaves the slot, and the next answer begins there."""

import heapq
import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import torch

from worker.engine.runtime.network.form import Form, Part, Work
from worker.engine.runtime.network.generation import Answers, Batch, Network, limits_within
from worker.engine.runtime.network.reading import Reader
from worker.engine.runtime.network.search import GreedySearch, SearchRules
from worker.engine.runtime.network.text import Caches

#: Prompts wait until all of a group have room, or one in so many slots is free, unless the slots are empty: few
#: prompts at a time use a GPU badly.
_SLOTS_PER_START = 8


@dataclass(frozen=True, slots=True)
class Ended:
    """An answer that has ended."""

    #: From `prepare`.
    number: int
    #: Token ids with the start token.
    tokens: list[int]
    #: True if a logit was not finite.
    broken: bool


@dataclass(slots=True)
class _Prepared:
    """Prompts with images in the lane."""

    batch: Batch
    numbers: list[int]
    #: Prompts that have begun.
    begun: int = 0

    @property
    def left(self) -> int:
        return len(self.numbers) - self.begun


@dataclass(slots=True)
class _Occupied:
    """The numbers of the answers by slot, and the free slots."""

    slots: int
    numbers: dict[int, int] = field(default_factory=dict)
    free: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.free = list(range(self.slots))

    def take(self, numbers: Sequence[int]) -> list[int]:
        """The lowest free slots: a step runs all rows up to the highest one."""
        slots = [heapq.heappop(self.free) for _ in numbers]
        self.numbers.update(zip(slots, numbers, strict=True))
        return slots

    def leave(self, slot: int) -> int:
        heapq.heappush(self.free, slot)
        return self.numbers.pop(slot)


class GreedySlots:
    """See `Generator`; takes prompts in mid-flight too."""

    def __init__(
        self, network: Network, rules: SearchRules, slots: int, size: int, vocabulary: int, form: Form
    ) -> None:
        """Reserve memory.

        Args:
            network: on the device.
            rules: of the search.
            slots: the most answers at a time.
            size: pixels per side of an image.
            vocabulary: length of the logits.
            form: of the device.
        """
        self._network, self._rules, self._slots, self._form = network, rules, slots, form
        with torch.inference_mode():
            self._reader = Reader(network, form, slots, size)
            banned = torch.zeros((slots, vocabulary), dtype=torch.bool, device=network.device)
            self._search = GreedySearch(rules, network.operations, slots, banned)
            self._keys, self._values = network.own_caches(slots, 1 + rules.limit)
        #: By rows. A captured graph knows addresses and holds no tensor, so the tensors are held here.
        self._steps: dict[int, tuple[Caches, Work]] = {}
        self._numbers = itertools.count()
        self._occupied = _Occupied(slots)
        self._prepared: _Prepared | None = None
        #: Ended while a batch ran, see `__call__`.
        self._kept: list[Ended] = []

    @property
    def most(self) -> int:
        """The most answers at a time."""
        return self._slots

    @property
    def busy(self) -> bool:
        """Whether an answer has been asked for and not returned."""
        return bool(self._occupied.numbers or self._prepared or self._kept)

    @torch.inference_mode()
    def capture(self, count: int, widths: Iterable[int]) -> None:
        """See `Generator`."""
        self._reader.capture(count, widths)
        self._step(count)

    def wanted(self, waiting: int) -> int:
        """Prompts that `prepare` takes now, by the number of waiting ones; 0: none before the next `advance`."""
        return 0 if self._prepared or not waiting else min(self._form.worthwhile(waiting), self._slots)

    @torch.inference_mode()
    def prepare(self, batch: Batch) -> list[int]:
        """Start to see the images of a batch; returns a number for each prompt.

        Only after a positive `wanted`. At most as many prompts as there are slots.
        """
        if self._prepared or len(batch.prompts) > self._slots:
            raise ValueError(f"{len(batch.prompts)} prompts for {self._slots} slots, or before others have begun")
        numbers = [next(self._numbers) for _ in batch.prompts]
        self._prepared = _Prepared(batch, numbers)
        self._reader.see(batch.pixels)
        return numbers

    def advance(self) -> list[Ended]:
        """Begin the prepared answers that have room, add some tokens, and return the answers that have ended."""
        kept, self._kept = self._kept, []
        return kept + self._advance()

    def drop(self, numbers: Collection[int]) -> None:
        """End answers under way; `advance` returns them as they are. Those that have not begun yet run on."""
        slots = [slot for slot, number in self._occupied.numbers.items() if number in numbers]
        with torch.inference_mode():
            places = torch.tensor(slots, dtype=torch.int64, device=self._network.device)
            self._search.ended.index_fill_(0, places, value=True)

    def reset(self) -> None:
        """Forget all answers, after an error."""
        with torch.inference_mode():
            self._form.lane.join()
            self._search.ended.fill_(value=True)
            self._search.positions.zero_()
            # No others: memory of a slot that was never used is not resident.
            for slot in self._occupied.numbers:
                self._reader.clear(slot)
        self._occupied, self._prepared, self._kept = _Occupied(self._slots), None, []

    def __call__(self, batch: Batch) -> Answers:
        """See `Generator`. Answers that are under way go on meanwhile; an error ends them too."""
        try:
            return self._answers_of(batch)
        except BaseException:
            # What is left of the batch would run again with the next one.
            self.reset()
            raise

    def _answers_of(self, batch: Batch) -> Answers:
        found: dict[int, Ended] = {}
        order: list[int] = []
        for part in batch.parts(self._slots):
            while self._prepared:
                self._kept += self._advance()
            numbers = self.prepare(part)
            order += numbers
            missing = {*numbers}
            while missing:
                for ended in self._advance():
                    if ended.number in missing:
                        missing.remove(ended.number)
                        found[ended.number] = ended
                    else:
                        self._kept.append(ended)
        answers = [found[number] for number in order]
        return Answers([each.tokens for each in answers], [each.broken for each in answers])

    @torch.inference_mode()
    def _advance(self) -> list[Ended]:
        self._begin()
        if not self._occupied.numbers:
            return []
        rows = self._form.rounded(max(self._occupied.numbers) + 1, self._slots)
        step = self._step(rows)
        for _ in range(self._form.tokens_per_look):
            step()
        return self._leave(rows)

    def _begin(self) -> None:
        prepared, free = self._prepared, len(self._occupied.free)
        if prepared is None:
            return
        count = min(prepared.left, free)
        if self._occupied.numbers and (
            count < min(prepared.left, max(1, self._slots // _SLOTS_PER_START)) or not self._form.lane.ready()
        ):
            return
        part = slice(prepared.begun, prepared.begun + count)
        batch = prepared.batch
        slots = self._occupied.take(prepared.numbers[part])
        self._reader.read(batch.prompts[part], batch.images[part], slots)
        device = self._network.device
        limits = limits_within(self._rules, batch.limits[part]).to(device)
        self._search.begin(torch.tensor(slots, device=device), batch.banned[part], limits)
        prepared.begun += count
        if not prepared.left:
            self._prepared = None

    def _leave(self, rows: int) -> list[Ended]:
        """The answers that have ended; the host waits for the device."""
        search = self._search
        ends = torch.stack([search.ended[:rows], search.broken[:rows]])
        self._form.settle()
        looked = ends.tolist()
        slots = [slot for slot in self._occupied.numbers if looked[0][slot]]
        if not slots:
            return []
        places = torch.tensor(slots, device=self._network.device)
        longest = int(search.positions.index_select(0, places).max()) + 1
        answers = search.tokens[:, :longest].index_select(0, places).tolist()
        # A free row runs along, and is short.
        search.positions.index_fill_(0, places, 0)
        for slot in slots:
            if looked[1][slot]:
                self._reader.clear(slot)
        return [
            Ended(self._occupied.leave(slot), tokens, looked[1][slot])
            for slot, tokens in zip(slots, answers, strict=True)
        ]

    def _step(self, rows: int) -> Work:
        if rows not in self._steps:
            search, reader = self._search, self._reader
            caches = reader.caches(self._keys, self._values, search.ancestry[:rows], rows)
            step = self._form.capture(Part.DECODER, lambda: self._network.step(search, caches))
            self._steps[rows] = caches, step
        return self._steps[rows][1]

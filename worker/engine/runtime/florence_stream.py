"""Florence-2 as a stream of greedy answers."""

import math
import time
from collections.abc import Callable, Sequence

from dropline.contract import Caption
from dropline.errors import InferenceFailed
from worker.engine.runtime.network.generation import Batch
from worker.engine.runtime.network.slots import Ended, GreedySlots
from worker.engine.wire import CaptionRequest


class FlorenceStream:
    """See `worker.engine.runtime.model.Stream`."""

    def __init__(
        self,
        slots: GreedySlots,
        *,
        largest: Callable[[], int],
        patience_s: float,
        batch_of: Callable[[Sequence[CaptionRequest]], Batch],
        check: Callable[[CaptionRequest], object],
        guarded: Callable[[Callable[[], list[Ended]]], list[Ended]],
        caption: Callable[[Ended, CaptionRequest], Caption | InferenceFailed],
    ) -> None:
        """Take the parts of a loaded model.

        Args:
            slots: of the network.
            largest: the most tasks under way, of which each is answered well before the children's time limit.
            patience_s: no task is taken while the oldest one is under way for longer: on a CPU, each image that is
                seen meanwhile makes it wait.
            batch_of: the input of the network for requests.
            check: raises `InferenceFailed` for a request that the model cannot read.
            guarded: turns errors of the device into errors of `Model`.
            caption: the caption of an answer, or an error.
        """
        self._slots, self._batch_of, self._check = slots, batch_of, check
        self._largest, self._patience_s = largest, patience_s
        self._guarded, self._caption = guarded, caption
        #: By number, the oldest first; with the time of the begin.
        self._requests: dict[int, tuple[CaptionRequest, float]] = {}
        self._refused: list[tuple[CaptionRequest, InferenceFailed]] = []
        self.most = slots.most

    def wanted(self, waiting: int) -> int:
        """See `Stream`."""
        oldest = next((began for _, began in self._requests.values()), math.inf)
        if time.monotonic() - oldest > self._patience_s:
            return 0
        return max(0, min(self._slots.wanted(waiting), self._largest() - len(self._requests)))

    def add(self, requests: Sequence[CaptionRequest]) -> None:
        """See `Stream`."""
        kept: list[CaptionRequest] = []
        for request in requests:
            try:
                self._check(request)
            except InferenceFailed as error:
                self._refused.append((request, error))
            else:
                kept.append(request)
        if kept:
            self._guarded(lambda: self._prepare(kept))

    def advance(self) -> list[tuple[CaptionRequest, Caption | InferenceFailed]]:
        """See `Stream`."""
        refused, self._refused = self._refused, []
        found: list[tuple[CaptionRequest, Caption | InferenceFailed]] = [*refused]
        for ended in self._guarded(self._slots.advance):
            if ended.number in self._requests:
                request, _ = self._requests.pop(ended.number)
                found.append((request, self._caption(ended, request)))
        return found

    def drop(self, requests: Sequence[CaptionRequest]) -> None:
        """See `Stream`."""
        dropped = {id(each) for each in requests}
        numbers = {number for number, (request, _) in self._requests.items() if id(request) in dropped}
        for number in numbers:
            del self._requests[number]
        self._guarded(lambda: self._drop(numbers))

    def reset(self) -> None:
        """See `Stream`."""
        self._requests.clear()
        self._refused.clear()
        self._guarded(self._reset)

    def _prepare(self, requests: list[CaptionRequest]) -> list[Ended]:
        numbers = self._slots.prepare(self._batch_of(requests))
        began = time.monotonic()
        self._requests |= {number: (request, began) for number, request in zip(numbers, requests, strict=True)}
        return []

    def _drop(self, numbers: set[int]) -> list[Ended]:
        self._slots.drop(numbers)
        return []

    def _reset(self) -> list[Ended]:
        self._slots.reset()
        return []

"""Florence-2 as a stream of greedy answers."""

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
        batch_of: Callable[[Sequence[CaptionRequest]], Batch],
        check: Callable[[CaptionRequest], object],
        guarded: Callable[[Callable[[], list[Ended]]], list[Ended]],
        caption: Callable[[Ended, CaptionRequest], Caption | InferenceFailed],
    ) -> None:
        """Take the parts of a loaded model.

        Args:
            slots: of the network.
            largest: the most tasks under way, of which each is answered well before the children's time limit.
            batch_of: the input of the network for requests.
            check: raises `InferenceFailed` for a request that the model cannot read.
            guarded: turns errors of the device into errors of `Model`.
            caption: the caption of an answer, or an error.
        """
        self._slots, self._batch_of, self._check = slots, batch_of, check
        self._largest = largest
        self._guarded, self._caption = guarded, caption
        self._requests: dict[int, CaptionRequest] = {}
        self._refused: list[tuple[CaptionRequest, InferenceFailed]] = []
        self.most = slots.most

    def wanted(self, waiting: int) -> int:
        """See `Stream`."""
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
            request = self._requests.pop(ended.number)
            found.append((request, self._caption(ended, request)))
        return found

    def reset(self) -> None:
        """See `Stream`."""
        self._requests.clear()
        self._refused.clear()
        self._guarded(self._reset)

    def _prepare(self, requests: list[CaptionRequest]) -> list[Ended]:
        numbers = self._slots.prepare(self._batch_of(requests))
        self._requests |= dict(zip(numbers, requests, strict=True))
        return []

    def _reset(self) -> list[Ended]:
        self._slots.reset()
        return []

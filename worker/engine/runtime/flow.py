"""Answers requests through a stream: a request begins when there is room, and ends with the last task."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from dropline.contract import Caption
from dropline.errors import DroplineError, InferenceFailed
from dropline.log import get_logger
from worker.engine.runtime.batcher import Batchable, Batcher, BatchLimit
from worker.engine.runtime.model import NON_FINITE_LOGITS, BatchTooLarge, DeviceBroken, Stream
from worker.engine.wire import CaptionRequest

_log = get_logger(__name__)


class Pending(Batchable, Protocol):
    """A request in the queue or under way."""

    @property
    def requests(self) -> list[CaptionRequest]:
        """One for each task; all have the same pixels."""
        ...


P = TypeVar("P", bound=Pending)


@dataclass(slots=True, eq=False)
class _Flight(Generic[P]):
    """A request under way, with the outcomes so far, by the place of the task."""

    pending: P
    outcomes: dict[int, Caption | DroplineError] = field(default_factory=dict)


class Flow(Generic[P]):
    """Feeds a stream from the queue, and answers ended requests."""

    def __init__(
        self,
        stream: Stream,
        batcher: Batcher[P],
        *,
        watched: Callable[[], AbstractContextManager[None]],
        probe: Callable[[], None],
        started: Callable[[P], None],
        answer: Callable[[P, Sequence[Caption | DroplineError]], None],
        in_batches: Callable[[list[P]], None],
        is_gone: Callable[[P], bool],
    ) -> None:
        """Join a stream and a queue.

        Args:
            stream: of the model.
            batcher: the queue.
            watched: ends the process if one call of the stream hangs.
            probe: raises if the model itself is broken.
            started: called once for each request, before it begins.
            answer: called with the outcomes of all tasks of a request.
            in_batches: answers requests in plain batches, and finds a failing one; for isolated requests, requests
                with more tasks than the stream holds, and all requests under way at an error.
            is_gone: whether the sender of a request waits no more.
        """
        self._stream, self._batcher, self._watched = stream, batcher, watched
        self._probe, self._started, self._answer, self._in_batches = probe, started, answer, in_batches
        self._is_gone = is_gone
        #: Of tasks under way: lowered where the device's memory holds fewer than the stream has room for.
        self._limit = BatchLimit(stream.most)
        #: By the identity of a task's request, in the order of their begin.
        self._flights: dict[int, tuple[_Flight[P], int]] = {}

    def run(self) -> None:
        """Answer requests until the queue is closed, then the requests under way.

        Raises:
            Exception: the model is broken for every image.
        """
        while True:
            group = self._batcher.take(self._wanted) if self._flights else self._batcher.next_batch(self._wanted)
            if not group and not self._flights:
                return
            if group and (group[0].isolated or sum(each.size for each in group) > self._limit.value):
                while self._flights:
                    self._turn([])
                self._in_batches(group)
            else:
                self._turn(group)

    def _wanted(self, waiting: int) -> int:
        room = max(0, self._limit.value - len(self._flights))
        return min(self._stream.wanted(waiting), self._batcher.max_batch, room)

    def _turn(self, group: list[P]) -> None:
        """Begin a group, which may be empty, and let all answers grow."""
        self._drop_gone()
        for pending in group:
            self._started(pending)
            flight = _Flight(pending)
            self._flights |= {id(request): (flight, place) for place, request in enumerate(pending.requests)}
        if self._has_advanced(group):
            return
        # Outside the handlers: the frames of the error hold the tensors of the failed attempt.
        self._stream.reset()
        flights = list(dict.fromkeys(flight for flight, _ in self._flights.values()))
        self._flights.clear()
        self._in_batches([flight.pending for flight in flights])

    def _has_advanced(self, group: list[P]) -> bool:
        try:
            with self._watched():
                if group:
                    self._stream.add([request for pending in group for request in pending.requests])
                ended = self._stream.advance()
        except DeviceBroken:
            raise
        except Exception as error:  # noqa: BLE001 - in batches, the request at fault fails alone
            self._failed(error)
            return False
        if group:
            self._batcher.did_fit(sum(pending.size for pending in group))
            self._limit.did_fit(len(self._flights))
        try:
            for request, outcome in ended:
                self._note(request, outcome)
        except BatchTooLarge as error:
            # Of the probe, which has ended all answers under way.
            self._failed(error)
            return False
        return True

    def _failed(self, error: Exception) -> None:
        if isinstance(error, BatchTooLarge):
            self._limit.did_not_fit(len(self._flights))
        _log.warning("stream_failed", size=len(self._flights), error=f"{type(error).__name__}: {error}")

    def _drop_gone(self) -> None:
        """End the tasks of senders that have closed their connection: their answers would slow the others."""
        gone = [
            flight
            for flight in dict.fromkeys(each for each, _ in self._flights.values())
            if self._is_gone(flight.pending)
        ]
        if gone:
            requests = [request for flight in gone for request in flight.pending.requests]
            self._flights = {key: value for key, value in self._flights.items() if value[0] not in gone}
            self._stream.drop(requests)

    def _note(self, request: CaptionRequest, outcome: Caption | InferenceFailed) -> None:
        if isinstance(outcome, InferenceFailed) and outcome.code == NON_FINITE_LOGITS:
            # A model whose weights or device are broken has no finite logits for any image.
            self._probe()
        flight, place = self._flights[id(request)]
        flight.outcomes[place] = outcome
        pending = flight.pending
        if len(flight.outcomes) == pending.size:
            for each in pending.requests:
                del self._flights[id(each)]
            self._answer(pending, [flight.outcomes[place] for place in range(pending.size)])

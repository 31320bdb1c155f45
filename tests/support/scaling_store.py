"""The content of Redis for scale to zero: the mark and the queue."""

from typing import Protocol

from dropline.scaling.protocol import SLEEPING, Admission, BeginScaleToZero, ConfirmMark, ReplaceMark


class Store(Protocol):
    """The mark and the queue."""

    def read(self) -> str | None: ...
    def replace(self, swap: ReplaceMark) -> bool: ...
    def begin(self, claim: BeginScaleToZero) -> Admission: ...
    def confirm(self, renewal: ConfirmMark) -> bool: ...
    def push(self, row: int) -> None: ...
    def pop(self) -> int | None: ...
    def queued(self) -> list[int]: ...
    def expire(self) -> None: ...
    def flush(self) -> None: ...


class MemoryStore:
    """Reference model of the mark and the queue; the Redis scripts are compared with this model."""

    def __init__(self) -> None:
        self.mark: str | None = None
        self.queue: list[int] = []
        #: Marks and queues since the last confirmation, oldest first: a replica may have any of them.
        self.past: list[tuple[str | None, list[int]]] = []

    def _change(self) -> None:
        self.past.append((self.mark, list(self.queue)))

    def read(self) -> str | None:
        return self.mark

    def replace(self, swap: ReplaceMark) -> bool:
        if self.mark != swap.expected:
            return False
        self._change()
        self.mark = swap.new
        return True

    def begin(self, claim: BeginScaleToZero) -> Admission:
        if self.mark is not None and self.mark.startswith(SLEEPING):
            return Admission.TAKEN
        if self.queue and not claim.even_if_queued:
            return Admission.QUEUED
        self._change()
        self.mark = claim.mark
        return Admission.GRANTED

    def confirm(self, renewal: ConfirmMark) -> bool:
        if self.mark != renewal.mark:
            return False
        self.past.clear()
        return True

    def fail_over(self, moment: int) -> None:
        """The replica with a past state becomes the primary."""
        self.mark, self.queue = self.past[moment]
        del self.past[moment:]

    def push(self, row: int) -> None:
        self._change()
        self.queue.append(row)

    def pop(self) -> int | None:
        self._change()
        return self.queue.pop(0) if self.queue else None

    def queued(self) -> list[int]:
        return list(self.queue)

    def expire(self) -> None:
        # The replicas have the same times of expiry.
        self.past = [(None if mark == self.mark else mark, queue) for mark, queue in self.past]
        self.mark = None

    def flush(self) -> None:
        self.mark, self.queue = None, []

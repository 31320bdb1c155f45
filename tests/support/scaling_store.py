"""The content of Redis for scale to zero: the mark and the queue."""

from typing import Protocol

from dropline.scaling.protocol import SLEEPING, Admission, BeginScaleToZero, ReplaceMark


class Store(Protocol):
    """The mark and the queue."""

    def read(self) -> str | None: ...
    def replace(self, swap: ReplaceMark) -> bool: ...
    def begin(self, claim: BeginScaleToZero) -> Admission: ...
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

    def read(self) -> str | None:
        return self.mark

    def replace(self, swap: ReplaceMark) -> bool:
        if self.mark != swap.expected:
            return False
        self.mark = swap.new
        return True

    def begin(self, claim: BeginScaleToZero) -> Admission:
        if self.mark is not None and self.mark.startswith(SLEEPING):
            return Admission.TAKEN
        if self.queue:
            return Admission.QUEUED
        self.mark = claim.mark
        return Admission.GRANTED

    def push(self, row: int) -> None:
        self.queue.append(row)

    def pop(self) -> int | None:
        return self.queue.pop(0) if self.queue else None

    def queued(self) -> list[int]:
        return list(self.queue)

    def expire(self) -> None:
        self.mark = None

    def flush(self) -> None:
        self.mark, self.queue = None, []

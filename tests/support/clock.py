"""A clock moved by hand in a test."""

from collections.abc import Callable


class ManualClock:
    """A clock that moves on `advance` and runs the due calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[float, _Call]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> "_Call":
        call = _Call(callback)
        self.calls.append((when, call))
        return call

    @property
    def pending(self) -> int:
        return sum(not call.cancelled for _, call in self.calls)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [item for item in self.calls if item[0] <= end and not item[1].cancelled]:
            earliest = min(due, key=lambda item: item[0])
            self.calls.remove(earliest)
            self.now = max(self.now, earliest[0])
            earliest[1].callback()
        self.now = end


class _Call:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

"""Signals of edits in the worker's parent: a scripted connection and event loop."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dropline.errors import DatabaseUnavailable, DroplineError, SettingsError
from worker.edit_signals import EditSignals

_AWAY = DatabaseUnavailable("away")


@dataclass
class Timer:
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Loop:
    """Keeps the readers, and the callback of the latest timer."""

    readers: dict[int, Callable[[], None]] = field(default_factory=dict)
    timers: list[tuple[float, Timer]] = field(default_factory=list)
    again: Callable[[], None] = lambda: None

    def add_reader(self, descriptor: int, callback: Callable[..., None], *arguments: Any) -> None:
        self.readers[descriptor] = lambda: callback(*arguments)

    def remove_reader(self, descriptor: int) -> None:
        del self.readers[descriptor]

    def call_later(self, delay_s: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        self.timers.append((delay_s, Timer()))
        self.again = lambda: callback(*arguments)
        return self.timers[-1][1]


@dataclass
class Signals:
    """Raises or returns the planned results of `connect` and `have_arrived`."""

    connections: list[int | DroplineError]
    arrivals: list[bool | DroplineError] = field(default_factory=list)
    closed: int = 0

    def connect(self) -> int:
        return int(_planned(self.connections))

    def have_arrived(self) -> bool:
        return bool(_planned(self.arrivals))

    def close(self) -> None:
        self.closed += 1


def _planned(results: list[Any]) -> Any:
    result = results.pop(0)
    if isinstance(result, DroplineError):
        raise result
    return result


def started(signals: Signals) -> tuple[EditSignals, Loop, list[str]]:
    """Edit signals that have started, their loop, and the looks."""
    looks: list[str] = []
    edit_signals, loop = EditSignals(signals, lambda: looks.append("look")), Loop()
    edit_signals.start(loop)  # type: ignore[arg-type]
    return edit_signals, loop, looks


def test_a_signal_is_a_look_and_other_bytes_are_none() -> None:
    """The start is no look: the alarm looks right after."""
    _, loop, looks = started(Signals([7], [False, True]))
    loop.readers[7]()
    assert looks == []
    loop.readers[7]()
    assert looks == ["look"]


def test_a_lost_connection_is_made_again_after_growing_pauses() -> None:
    """Then a look: signals may be lost. The dead descriptor has no reader; the pauses begin anew."""
    _, loop, looks = started(Signals([7, *[_AWAY] * 8, 8, 9], [_AWAY, _AWAY]))
    loop.readers[7]()
    for _ in range(8):
        assert loop.readers == {}
        loop.again()
    assert looks == []
    loop.again()
    assert (looks, list(loop.readers)) == (["look"], [8])
    loop.readers[8]()
    assert [delay_s for delay_s, _ in loop.timers] == [1, 2, 4, 8, 16, 32, 64, 64, 64, 1]


def test_through_a_pooler_nothing_is_heard_nor_tried_again() -> None:
    """The worker works all the same."""
    _, loop, looks = started(Signals([SettingsError("a pooler is between")]))
    assert (loop.readers, loop.timers, looks) == ({}, [], [])


def test_a_stop_closes_the_connection_and_cancels_the_next_attempt() -> None:
    """Also at each new start of the consumer."""
    signals = Signals([_AWAY, 7])
    edit_signals, loop, _ = started(signals)
    edit_signals.start(loop)  # type: ignore[arg-type]
    assert loop.timers[0][1].cancelled
    before = signals.closed
    edit_signals.stop()
    assert signals.closed == before + 1

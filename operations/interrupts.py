"""SIGINT and SIGTERM as KeyboardInterrupt, deferred while a change is committed but cannot be undone yet."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Raises KeyboardInterrupt in the main thread on SIGINT or SIGTERM, or later if the signal is deferred."""

    def __init__(self) -> None:
        self._holding = False
        self._pending = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Handle both signals, in the main thread: a cancelled job (SIGTERM) then ends like Ctrl-C (SIGINT)."""
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        """Defer a signal to the end of the block, or to the call of the yielded function, which then raises.

        Raises:
            KeyboardInterrupt: at the end of the block, after a signal.
        """
        self._holding = True
        try:
            yield self._release
        finally:
            self._release()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._pending = True
        if not self._holding:
            self._release()

    def _release(self) -> None:
        self._holding = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

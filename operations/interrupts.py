"""Ctrl-C and SIGTERM as an exception, but not in the middle of what must be followed by its own undoing."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Raises KeyboardInterrupt in the main thread when a signal comes, or later where one is held back."""

    def __init__(self) -> None:
        self._holding = False
        self._pending = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Both signals come here; for the main thread. A cancelled job is then as good as a Ctrl-C."""
        before = {number: signal.signal(number, self._come) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        """A signal waits for the end of the block, or until the yielded function is called, which then raises.

        Raises:
            KeyboardInterrupt: at the end, where a signal has come.
        """
        self._holding = True
        try:
            yield self._release
        finally:
            self._release()

    def _come(self, _number: int, _frame: FrameType | None) -> None:
        self._pending = True
        if not self._holding:
            self._release()

    def _release(self) -> None:
        self._holding = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

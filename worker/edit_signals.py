"""Edits by SQL alone send no message: the worker's parent hears of them from Postgres, and looks at the queue.

The connection is idle until an edit. While it is lost, edits by SQL are found with the next look: at the end of a
row, at an alarm, and after the reconnection.
"""

from collections.abc import Callable
from typing import Protocol

from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry

from dropline.errors import DroplineError, SettingsError
from dropline.log import get_logger

log = get_logger(__name__)

#: Longest pause between two attempts to connect, in seconds. The pauses are 1, 2, 4 … seconds.
_LONGEST_PAUSE_S = 64.0


class Signals(Protocol):
    """See `db.due_signals.DueSignals`."""

    def connect(self) -> int: ...

    def have_arrived(self) -> bool: ...

    def close(self) -> None: ...


class EditSignals:
    """Listens in the event loop of the worker's parent."""

    def __init__(self, signals: Signals, look: Callable[[], None]) -> None:
        """Not connected yet; `look` looks at the queue in Postgres."""
        self._signals = signals
        self._look = look
        self._failures = 0
        self._descriptor: int | None = None
        self._entry: Entry | None = None

    def start(self, hub: Hub) -> None:
        """Listen; call at each start of the consumer, before its look: Celery drops timers and readers then."""
        self.stop()
        self._connect(hub)

    def stop(self) -> None:
        """Close the connection."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
        self._signals.close()
        self._descriptor = None

    def _connect(self, hub: Hub) -> None:
        self._entry = None
        try:
            self._descriptor = self._signals.connect()
        except SettingsError as error:
            log.warning("edits_not_heard", code=error.code, error=str(error))
        except DroplineError as error:
            self._try_later(hub, error)
        else:
            self._failures = 0
            hub.add_reader(self._descriptor, self._on_readable, hub)

    def _reconnect(self, hub: Hub) -> None:
        self._connect(hub)
        if self._descriptor is not None:
            # Signals may be lost.
            self._look()

    def _try_later(self, hub: Hub, error: DroplineError) -> None:
        delay_s = min(_LONGEST_PAUSE_S, 2.0**self._failures)
        self._failures += 1
        log.warning("edits_not_heard", code=error.code, error=str(error), again_in_s=delay_s)
        self._entry = hub.call_later(delay_s, self._reconnect, hub)

    def _on_readable(self, hub: Hub) -> None:
        try:
            has_signal = self._signals.have_arrived()
        except DroplineError as error:
            if self._descriptor is not None:
                hub.remove_reader(self._descriptor)
                self._descriptor = None
            self._try_later(hub, error)
            return
        if has_signal:
            self._look()

"""The gate of a worker: while the breaker is open, the parent takes one message at a time, after pauses."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from celery.worker import state
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry

from dropline.errors import DroplineError
from dropline.log import get_logger
from dropline.settings import WorkerSettings
from worker.breaker import DEATHS, Breaker, Change, EngineUse

log = get_logger(__name__)

#: Longest pause before the state is saved again, in seconds. The pauses are 1, 2, 4 … seconds.
_LONGEST_PAUSE_S = 64.0

#: Saves the reason of an open breaker, or None, and gives lost attempts back: their number by row.
Save = Callable[[str | None, Mapping[int, int]], None]


class Gate:
    """Lets the parent take messages, all or one as a probe, in the parent's event loop."""

    def __init__(
        self,
        settings: WorkerSettings,
        save: Save,
        look: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create an open gate, with a closed breaker.

        Args:
            settings: the pauses between probes grow from `retry_base_s` to `retry_cap_s`; `retry_for_s` after its
                opening, the breaker is given up.
            save: may raise a DroplineError.
            look: at the queue in Postgres; sends messages for due rows.
            clock: for tests.
        """
        self._settings = settings
        self._save = save
        self._look = look
        self._clock = clock
        self._breaker = Breaker()
        self._is_probing = False
        self._probes = 0
        self._opened_at = 0.0
        self._is_saved = True
        self._failures = 0
        self._hub: Hub | None = None
        self._probe_entry: Entry | None = None
        self._save_entry: Entry | None = None

    def start(self, hub: Hub, channel: Any) -> None:
        """Guard the channel of the consumer; call at each start of the consumer: Celery drops timers with it."""
        self._hub = hub
        can_consume = channel.qos.can_consume
        channel.qos.can_consume = lambda: self.may_take() and can_consume()
        if self._breaker.is_open:
            self._wait()
        if not self._is_saved:
            self._write()

    def stop(self) -> None:
        """Disarm the timers."""
        _cancel(self._probe_entry)
        _cancel(self._save_entry)
        self._hub = None

    def may_take(self) -> bool:
        """True if the parent may take another message; kombu asks in each round of the event loop."""
        # A probe that says nothing about the engine, as that of a deleted object, is followed by another.
        return not self._breaker.is_open or (self._is_probing and not state.reserved_requests)

    def report(self, use: EngineUse) -> None:
        """A child reports what the engine did with an image."""
        change = self._breaker.report(use)
        match change:
            case Change.OPENED:
                self._opened_at, self._probes = self._clock(), 0
                log.error("breaker_opened", reason=_REASON, engine=use.engine, row_id=use.row_id)
                self._wait()
            case Change.DIED_AGAIN:
                log.warning("breaker_stays_open", engine=use.engine, row_id=use.row_id)
                self._wait()
            case Change.CLOSED:
                log.info("breaker_closed", row_id=use.row_id, open_s=round(self._clock() - self._opened_at, 1))
        if self._breaker.is_open or change is Change.CLOSED:
            self._write()
        if change is Change.CLOSED:
            self._reopen_gate()

    def _wait(self) -> None:
        self._is_probing = False
        _cancel(self._probe_entry)
        pause_s = min(self._settings.retry_cap_s, self._settings.retry_base_s * 2.0**self._probes)
        if self._hub is not None:
            self._probe_entry = self._hub.call_later(pause_s, self._probe)

    def _probe(self) -> None:
        if self._clock() - self._opened_at >= self._settings.retry_for_s:
            log.error("breaker_given_up", retry_for_s=self._settings.retry_for_s)
            self._breaker.give_up()
            self._write()
            self._reopen_gate()
            return
        # The exponent is bounded: 2.0**1024 is an error.
        self._probes = min(self._probes + 1, 64)
        self._is_probing = True
        log.info("breaker_probes", probe=self._probes)
        self._look()

    def _reopen_gate(self) -> None:
        self._is_probing = False
        _cancel(self._probe_entry)
        self._look()

    def _write(self) -> None:
        _cancel(self._save_entry)
        owed = self._breaker.take_owed()
        try:
            self._save(_REASON if self._breaker.is_open else None, owed)
        except DroplineError as error:
            self._breaker.still_owe(owed)
            self._is_saved = False
            pause_s = min(_LONGEST_PAUSE_S, 2.0**self._failures)
            self._failures += 1
            log.warning("breaker_not_saved", code=error.code, error=str(error), again_in_s=pause_s)
            if self._hub is not None:
                self._save_entry = self._hub.call_later(pause_s, self._write)
        else:
            self._is_saved, self._failures = True, 0


_REASON = f"the engine died on {DEATHS} different images in a row, so rows wait, and one image at a time is tried"


def _cancel(entry: Entry | None) -> None:
    if entry is not None:
        entry.cancel()

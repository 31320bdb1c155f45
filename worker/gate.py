"""The gate of a worker: while all breakers are open, the parent takes one message at a time, after pauses."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from celery.worker import state
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry

from dropline.errors import DroplineError
from dropline.log import get_logger
from dropline.settings import WorkerSettings
from worker.breaker import DEATHS, Breaker, Change, EngineUse
from worker.engine.board import Trust

log = get_logger(__name__)

#: Longest pause before the state is saved again, in seconds. The pauses are 1, 2, 4 … seconds.
_LONGEST_PAUSE_S = 64.0

#: Saves the reason of an open breaker, or None, and gives lost attempts back: their number by row.
Save = Callable[[str | None, Mapping[int, int]], None]
SetTrust = Callable[[Trust], None]


class _Door:
    """The breaker of an engine, with probes."""

    def __init__(self, name: str, set_trust: SetTrust, *, is_alone: bool) -> None:
        #: Of the engine, in reasons for people.
        self.name = name
        self.set_trust = set_trust
        #: True if the worker has no other engine.
        self.is_alone = is_alone
        self.breaker = Breaker()
        self.is_probing = False
        #: Probes since the breaker opened.
        self.probes = 0
        self.opened_at = 0.0
        #: True if it opened for the deaths of all engines together.
        self.by_all = False
        self.entry: Entry | None = None


class Gate:
    """Lets the parent take messages, all or one as a probe, in the parent's event loop.

    Each engine of the worker has a breaker. While one of several is open, the children leave its engine alone but
    for one image as a probe, and work with the others. While all are open, the parent takes one message at a time.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        save: Save,
        look: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        devices: Sequence[str] = ("",),
        set_trust: Callable[[int, Trust], None] = lambda _engine, _trust: None,
    ) -> None:
        """Create an open gate, with closed breakers.

        Args:
            settings: the pauses between probes grow from `retry_base_s` to `retry_cap_s`; `retry_for_s` after its
                opening, the breaker is given up.
            save: may raise a DroplineError.
            look: at the queue in Postgres; sends messages for due rows.
            clock: for tests.
            devices: of the engines, in order.
            set_trust: notes what the breaker of an engine says, for the children.
        """
        self._settings = settings
        self._save = save
        self._look = look
        self._clock = clock
        alone = len(devices) == 1
        self._doors = [
            _Door(
                "the engine" if alone else f"engine {number} ({device})",
                partial(set_trust, number - 1),
                is_alone=alone,
            )
            for number, device in enumerate(devices, 1)
        ]
        #: Of all engines together: an image is set aside after as many deaths as one engine needs for itself.
        self._all = Breaker()
        #: Numbers of the engines that died, and of captions, in the order of reports.
        self._order: dict[int, int] = {}
        self._next = itertools.count(1)
        self._is_saved = True
        self._failures = 0
        self._hub: Hub | None = None
        self._save_entry: Entry | None = None

    def start(self, hub: Hub, channel: Any) -> None:
        """Guard the channel of the consumer; call at each start of the consumer: Celery drops timers with it."""
        self._hub = hub
        can_consume = channel.qos.can_consume
        channel.qos.can_consume = lambda: self.may_take() and can_consume()
        for door in self._doors:
            if door.breaker.is_open:
                self._wait(door)
        if not self._is_saved:
            self._write()

    def stop(self) -> None:
        """Disarm the timers."""
        for door in self._doors:
            _cancel(door.entry)
        _cancel(self._save_entry)
        self._hub = None

    def may_take(self) -> bool:
        """True if the parent may take another message; kombu asks in each round of the event loop."""
        if not all(door.breaker.is_open for door in self._doors):
            return True
        # A probe without news about the engine, as of a deleted object, is followed by another.
        return any(door.is_probing for door in self._doors) and not state.reserved_requests

    def report(self, use: EngineUse) -> None:
        """A child reports the result of an engine with an image; the number identifies the engine."""
        door = self._doors[(use.engine - 1) % len(self._doors)]
        change = door.breaker.report(use)
        match change:
            case Change.OPENED:
                self._opened(door, use)
            case Change.DIED_AGAIN:
                log.warning("breaker_stays_open", engine=use.engine, row_id=use.row_id)
                self._wait(door)
            case Change.CLOSED:
                log.info("breaker_closed", row_id=use.row_id, open_s=round(self._clock() - door.opened_at, 1))
        if len(self._doors) > 1:
            self._report_to_all(use)
        if door.breaker.is_open or change is Change.CLOSED:
            self._write()
        if change is Change.CLOSED:
            self._reopen(door)

    def _report_to_all(self, use: EngineUse) -> None:
        """A fault of the machine kills every engine, and each one too seldom for its own breaker."""
        if use.lost:
            number = self._order.setdefault(use.engine, next(self._next))
        else:
            # Whichever engine answered: all earlier deaths are explained by images or engines.
            number = next(self._next)
            self._order.clear()
        change = self._all.report(replace(use, engine=number))
        self._all.take_owed()  # each engine's own breaker gives back
        if change is Change.OPENED:
            for door in self._doors:
                if door.breaker.open():
                    self._opened(door, use, by_all=True)

    def _opened(self, door: _Door, use: EngineUse, *, by_all: bool = False) -> None:
        door.opened_at, door.probes, door.by_all = self._clock(), 0, by_all
        log.error("breaker_opened", reason=_reason(door), engine=use.engine, row_id=use.row_id)
        self._wait(door)

    def _wait(self, door: _Door) -> None:
        door.is_probing = False
        door.set_trust(Trust.OPEN)
        _cancel(door.entry)
        pause_s = min(self._settings.retry_cap_s, self._settings.retry_base_s * 2.0**door.probes)
        if self._hub is not None:
            door.entry = self._hub.call_later(pause_s, partial(self._probe, door))

    def _probe(self, door: _Door) -> None:
        if self._clock() - door.opened_at >= self._settings.retry_for_s:
            log.error("breaker_given_up", retry_for_s=self._settings.retry_for_s)
            door.breaker.give_up()
            self._write()
            self._reopen(door)
            return
        # The exponent is bounded: 2.0**1024 is an error.
        door.probes = min(door.probes + 1, 64)
        door.is_probing = True
        door.set_trust(Trust.PROBE)
        log.info("breaker_probes", probe=door.probes)
        self._look()

    def _reopen(self, door: _Door) -> None:
        door.is_probing = False
        door.set_trust(Trust.CLOSED)
        _cancel(door.entry)
        self._look()

    def _write(self) -> None:
        _cancel(self._save_entry)
        owed: Counter[int] = Counter()
        for door in self._doors:
            owed.update(door.breaker.take_owed())
        reasons = [_reason(door) for door in self._doors if door.breaker.is_open]
        try:
            self._save("; ".join(reasons) or None, owed)
        except DroplineError as error:
            self._doors[0].breaker.still_owe(owed)
            self._is_saved = False
            pause_s = min(_LONGEST_PAUSE_S, 2.0**self._failures)
            self._failures += 1
            log.warning("breaker_not_saved", code=error.code, error=str(error), again_in_s=pause_s)
            if self._hub is not None:
                self._save_entry = self._hub.call_later(pause_s, self._write)
        else:
            self._is_saved, self._failures = True, 0


def _reason(door: _Door) -> str:
    if door.by_all:
        return f"{door.name} gets one image at a time, since engines died on {DEATHS} different images in a row"
    waits = "so rows wait, and one image at a time is tried" if door.is_alone else "and gets one image at a time"
    return f"{door.name} died on {DEATHS} different images in a row, {waits}"


def _cancel(entry: Entry | None) -> None:
    if entry is not None:
        entry.cancel()

"""Equal errors in a burst: the first line at once, then one line with the count. Without a timer or a thread.

A burst ends after a fixed time; the next record of any kind writes its count, and so does the end of the process.
"""

import copy
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

#: Seconds from the first of several equal records to the line with their count.
WINDOW_S = 30.0
#: Most different records that are remembered; beyond, each record is a line of its own.
_MOST_BURSTS = 256
#: Longest part of a message that decides whether two records are equal, in characters.
_COMPARED = 500
_NUMBERS = re.compile(r"[0-9a-f]{8,}|\d+(?:\.\d+)?")
#: Fields that differ between equal records.
_OWN_FIELDS = frozenset({"time", "service", "level", "exc_info", "_record", "_from_structlog"})
#: The object of a record. Where a service is away, every object has the same error.
_CONTEXT = frozenset({"bucket", "object", "generation", "message_id", "task_id", "row_id"})


@dataclass(slots=True)
class _Burst:
    since: float
    #: The latest record that was not written, and the number of these.
    latest: logging.LogRecord | None = None
    count: int = 0


class BurstLimiter:
    """Decides which records are written. Not thread-safe: a handler calls it under its own lock."""

    def __init__(self, window_s: float = WINDOW_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._bursts: dict[tuple[object, ...], _Burst] = {}
        self._pid = os.getpid()

    def admit(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """The records to write now: the counts of ended bursts, and the record unless it repeats another one."""
        self._forget_parents_bursts()
        now = self._clock()
        if record.levelno < logging.WARNING:
            return [*self._ended(now), record]
        key = _key(record)
        if (old := self._bursts.get(key)) is not None and now - old.since >= self._window_s:
            # The burst goes on: its count is a field of the next line.
            del self._bursts[key]
            record = _with_count(record, old.count) if old.count else record
        written = self._ended(now)
        if (burst := self._bursts.get(key)) is not None:
            burst.latest, burst.count = record, burst.count + 1
            return written
        if len(self._bursts) < _MOST_BURSTS:
            self._bursts[key] = _Burst(now)
        return [*written, record]

    def finish(self) -> list[logging.LogRecord]:
        """The counts of all bursts; at the end of the process."""
        self._forget_parents_bursts()
        return self._ended(float("inf"))

    def _ended(self, now: float) -> list[logging.LogRecord]:
        ended = [key for key, burst in self._bursts.items() if now - burst.since >= self._window_s]
        bursts = [self._bursts.pop(key) for key in ended]
        return [_with_count(burst.latest, burst.count) for burst in bursts if burst.latest is not None]

    def _forget_parents_bursts(self) -> None:
        """A forked child must not write the counts of its parent."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._bursts.clear()


class BurstHandler(logging.StreamHandler[TextIO]):
    """Writes the records that a `BurstLimiter` admits."""

    def __init__(self, stream: TextIO, limiter: BurstLimiter) -> None:
        super().__init__(stream)
        self._limiter = limiter

    def emit(self, record: logging.LogRecord) -> None:
        for each in self._limiter.admit(record):
            super().emit(each)

    def close(self) -> None:
        """Write the counts of all bursts."""
        self.acquire()
        try:
            for each in self._limiter.finish():
                super().emit(each)
        finally:
            self.release()
        super().close()


def _key(record: logging.LogRecord) -> tuple[object, ...]:
    kind = record.exc_info[0] if record.exc_info else None
    return record.name, record.levelno, kind, _NUMBERS.sub("#", _text(record)[:_COMPARED])


def _text(record: logging.LogRecord) -> str:
    if not isinstance(record.msg, dict):
        return record.getMessage()
    ignored = _OWN_FIELDS | _CONTEXT if record.levelno >= logging.ERROR else _OWN_FIELDS
    return repr([(name, value) for name, value in record.msg.items() if name not in ignored])


def _with_count(record: logging.LogRecord, count: int) -> logging.LogRecord:
    """The record with the field `repeated`, and without the traceback, which the first line has."""
    counted = copy.copy(record)
    counted.exc_info = counted.exc_text = None
    if isinstance(record.msg, dict):
        fields: dict[str, Any] = {name: value for name, value in record.msg.items() if name != "exc_info"}
        counted.msg = fields | {"repeated": count}
    else:
        counted.__dict__["repeated"] = count
    return counted

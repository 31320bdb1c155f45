"""From the start of a worker's process to its first caption, by the worker's log and its rows. Pure."""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from benchmarks.checks import RowTimes, RunInvalidError
from benchmarks.figures import Figure, shown

#: The lines of the log that end a part, in order.
_LINES = ("engine_loading", "engine_imported", "engine_loaded", "engine_ready")


@dataclass(frozen=True)
class StartTimes:
    """Seconds of each part; together they are the time to the first caption."""

    #: The interpreter, the worker's own imports, its settings and its look at Postgres.
    worker_s: float
    #: The engine's interpreter, and torch and transformers.
    imports_s: float
    #: The checkpoint's tensors and its processor.
    load_s: float
    #: The first images, and on a GPU the kernels and graphs.
    warm_up_s: float
    #: The children, and the first claim.
    claim_s: float
    #: From the first claim to the first caption.
    first_image_s: float

    @property
    def total_s(self) -> float:
        """From the start of the process to the first caption."""
        return self.worker_s + self.imports_s + self.load_s + self.warm_up_s + self.claim_s + self.first_image_s

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        parts = {
            "the worker's own imports and checks": self.worker_s,
            "imports of the engine: torch and transformers": self.imports_s,
            "the checkpoint's tensors and processor": self.load_s,
            "warm-up": self.warm_up_s,
            "children and first claim": self.claim_s,
            "first claim to first caption": self.first_image_s,
        }
        return [
            Figure("**start of the process → first caption**", f"**{shown(self.total_s)} s**"),
            *(Figure(f"of which {name}", f"{shown(seconds)} s") for name, seconds in parts.items()),
        ]


def start_times(began: datetime, lines: Iterable[str], rows: Sequence[RowTimes]) -> StartTimes:
    """The parts of a start.

    Args:
        began: when the process was started; the clock is that of log and Postgres.
        lines: of the worker's log, as JSON; lines before `began` do not count.
        rows: that the worker captioned.

    Raises:
        RunInvalidError: the log lacks a line, or no row was captioned.
    """
    marks = _marks(began, lines)
    started = [row.started_at for row in rows if row.started_at is not None]
    captioned = [row.captioned_at for row in rows if row.captioned_at is not None]
    if not started or not captioned:
        raise RunInvalidError("no row was captioned, so there is no first caption")
    times = [began, *(marks[name] for name in _LINES), min(started), min(captioned)]
    return StartTimes(*((end - begin).total_seconds() for begin, end in itertools.pairwise(times)))


def _marks(began: datetime, lines: Iterable[str]) -> dict[str, datetime]:
    """The first time of each line."""
    found: dict[str, datetime] = {}
    for line in lines:
        if line.startswith("{"):
            record = json.loads(line)
            at = datetime.fromisoformat(record["time"])
            if record["message"] in _LINES and at >= began:
                found.setdefault(record["message"], at)
    missing = [name for name in _LINES if name not in found]
    if missing:
        raise RunInvalidError(f"the worker's log has no line {missing[0]} after its start")
    return found

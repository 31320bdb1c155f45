"""What else the machine did during a part: the load average before a run cannot know."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.cpu import Snapshot
from benchmarks.figures import Figure

#: Columns of the first line of /proc/stat: user, nice, system, irq and softirq. Guests are in user already.
_BUSY = (0, 1, 2, 5, 6)
_STEAL = 7


@dataclass(frozen=True)
class MachineTimes:
    """CPU seconds of all cores since the machine started."""

    busy: float
    #: That the host of a virtual machine gave to others.
    stolen: float


@dataclass(frozen=True)
class Contention:
    """Means over a part, its start and its end included."""

    seconds: float
    #: Cores that processes other than the benchmark's kept busy.
    others_cores: float
    stolen_cores: float

    def figures(self) -> list[Figure]:
        """For people."""
        others, stolen = max(0.0, self.others_cores), self.stolen_cores
        return [Figure("meanwhile, other processes", f"{others:.2f} cores; {stolen:.2f} more taken by the host")]


@dataclass(frozen=True)
class Moment:
    """One reading of the clocks."""

    seconds: float
    machine: MachineTimes
    #: CPU seconds of this process and all it has started.
    own: float

    @classmethod
    def now(cls) -> Self:
        """Reads them.

        Raises:
            RunInvalidError: this is not Linux.
        """
        own = Snapshot.take().tree_s(os.getpid())
        machine = parse_machine_times(Path("/proc/stat").read_text(), os.sysconf("SC_CLK_TCK"))
        return cls(time.perf_counter(), machine, own)


def parse_machine_times(text: str, ticks_per_second: int) -> MachineTimes:
    """Read /proc/stat, whose first line adds up all cores."""
    ticks = [int(field) for field in text.splitlines()[0].split()[1:]]
    return MachineTimes(
        sum(ticks[column] for column in _BUSY) / ticks_per_second, ticks[_STEAL] / ticks_per_second
    )


def contention_between(before: Moment, after: Moment) -> Contention:
    """What others did between two moments."""
    seconds = after.seconds - before.seconds
    others = (after.machine.busy - before.machine.busy) - (after.own - before.own)
    return Contention(seconds, others / seconds, (after.machine.stolen - before.machine.stolen) / seconds)

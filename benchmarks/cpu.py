"""CPU time of process trees and of the machine, from Linux's /proc: in ticks of ten milliseconds."""

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.checks import RunInvalidError
from benchmarks.figures import Figure

#: Columns of the first line of /proc/stat: user, nice, system, irq and softirq. `user` includes guests.
_BUSY = (0, 1, 2, 5, 6)
_STEAL = 7
#: Positions of utime, stime, cutime and cstime in /proc/PID/stat, counted from the field after the name.
_TIMES = slice(11, 15)


@dataclass(frozen=True)
class ProcessTimes:
    """One line of /proc/PID/stat."""

    pid: int
    parent: int
    #: CPU time of the process and of ended children with a collected exit status.
    ticks: int


def parse_stat(line: str) -> ProcessTimes:
    """Parse /proc/PID/stat; the name of the process may contain spaces and parentheses."""
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    return ProcessTimes(int(head.split()[0]), int(fields[1]), sum(int(field) for field in fields[_TIMES]))


@dataclass(frozen=True)
class ProcessSnapshot:
    """All processes of the machine at one moment."""

    processes: tuple[ProcessTimes, ...]
    ticks_per_second: int

    @classmethod
    def take(cls) -> Self:
        """Read all processes now.

        Raises:
            RunInvalidError: the system is not Linux.
        """
        return cls(tuple(_all_processes()), os.sysconf("SC_CLK_TCK"))

    def alone_s(self, pid: int) -> float:
        """CPU seconds of a process and of the ended children.

        Raises:
            RunInvalidError: the process does not exist.
        """
        return self._process(pid).ticks / self.ticks_per_second

    def tree_s(self, root: int) -> float:
        """CPU seconds of a process and all its descendants.

        Raises:
            RunInvalidError: the process does not exist.
        """
        return sum(self._process(pid).ticks for pid in self.tree(root)) / self.ticks_per_second

    def children(self, parent: int) -> list[int]:
        """The process ids of the children of a process."""
        return [process.pid for process in self.processes if process.parent == parent]

    def tree(self, root: int) -> list[int]:
        """The process ids of a process and all its descendants.

        Raises:
            RunInvalidError: the process does not exist.
        """
        found = [self._process(root).pid]
        for pid in found:
            found.extend(other.pid for other in self.processes if other.parent == pid)
        return found

    def _process(self, pid: int) -> ProcessTimes:
        for process in self.processes:
            if process.pid == pid:
                return process
        raise RunInvalidError(f"process {pid} ended during the run, so its CPU time is not known; run it again")


def children_that_run(parent: int, module: str) -> list[int]:
    """The process ids of the children of `parent` with the module in their command lines."""
    return [
        process.pid
        for process in _all_processes()
        if process.parent == parent and module.encode() in _command_line(process.pid)
    ]


def resident_bytes(pid: int) -> int:
    """Memory of a process in RAM."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(kilobytes) * 1024


def own_bytes(pid: int) -> int:
    """Memory of a process without shared pages; 0 if the process has ended."""
    with suppress(OSError):
        lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
        return sum(int(line[1]) for line in lines if line[0] in ("Private_Clean:", "Private_Dirty:")) * 1024
    return 0


def cpu_ms_each(before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
    """Name → CPU milliseconds per event or image, from two readings of CPU seconds."""
    return {name: (after[name] - before[name]) * 1000 / count for name in after}


def _all_processes() -> Iterable[ProcessTimes]:
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():
        raise RunInvalidError("there is no /proc to read CPU times from; this benchmark needs Linux")
    for directory in proc.glob("[0-9]*"):
        # A process may end between the listing and the read.
        with suppress(OSError):
            yield parse_stat((directory / "stat").read_text(errors="replace"))


def _command_line(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


@dataclass(frozen=True)
class MachineTimes:
    """CPU seconds of all cores since the machine started."""

    busy: float
    #: CPU seconds that the host gave to other virtual machines.
    stolen: float


@dataclass(frozen=True)
class Contention:
    """The other load of the machine during a part: means from start to end."""

    seconds: float
    #: Cores busy with processes outside of the benchmark.
    others_cores: float
    stolen_cores: float

    def figures(self) -> list[Figure]:
        """The line of the report."""
        others, stolen = max(0.0, self.others_cores), self.stolen_cores
        return [Figure("meanwhile, other processes", f"{others:.2f} cores; {stolen:.2f} more taken by the host")]


@dataclass(frozen=True)
class CpuReading:
    """The CPU seconds of the machine and of the benchmark at one time."""

    seconds: float
    machine: MachineTimes
    #: CPU seconds of the process and all descendants.
    own: float

    @classmethod
    def now(cls) -> Self:
        """Read the counters now.

        Raises:
            RunInvalidError: the system is not Linux.
        """
        own = ProcessSnapshot.take().tree_s(os.getpid())
        machine = parse_machine_times(Path("/proc/stat").read_text(), os.sysconf("SC_CLK_TCK"))
        return cls(time.perf_counter(), machine, own)


def parse_machine_times(text: str, ticks_per_second: int) -> MachineTimes:
    """Parse /proc/stat; its first line is the sum of all cores."""
    ticks = [int(field) for field in text.splitlines()[0].split()[1:]]
    return MachineTimes(
        sum(ticks[column] for column in _BUSY) / ticks_per_second, ticks[_STEAL] / ticks_per_second
    )


def contention_between(before: CpuReading, after: CpuReading) -> Contention:
    """The other load between two readings. The load average before a run cannot contain it."""
    seconds = after.seconds - before.seconds
    others = (after.machine.busy - before.machine.busy) - (after.own - before.own)
    return Contention(seconds, others / seconds, (after.machine.stolen - before.machine.stolen) / seconds)

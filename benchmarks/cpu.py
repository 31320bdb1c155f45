"""CPU time of whole process trees, as Linux counts it: in ticks of ten milliseconds."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import RunInvalidError

#: Position in /proc/PID/stat of utime, stime, cutime and cstime, counted from the state behind the name.
_TIMES = slice(11, 15)


@dataclass(frozen=True)
class ProcessTimes:
    """One line of /proc/PID/stat."""

    pid: int
    parent: int
    #: Spent by the process itself and by those of its children that have ended and were waited for.
    ticks: int


def parse_stat(line: str) -> ProcessTimes:
    """Read /proc/PID/stat; the name of the process may hold spaces and parentheses."""
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    return ProcessTimes(int(head.split()[0]), int(fields[1]), sum(int(field) for field in fields[_TIMES]))


def tree_ticks(processes: Iterable[ProcessTimes], root: int) -> int:
    """Ticks of `root` and all its descendants.

    Raises:
        RunInvalidError: there is no such process.
    """
    by_parent: dict[int, list[ProcessTimes]] = {}
    found: list[ProcessTimes] = []
    for process in processes:
        by_parent.setdefault(process.parent, []).append(process)
        if process.pid == root:
            found.append(process)
    if not found:
        raise RunInvalidError(f"process {root} ended during the run, so its CPU time is not known; run it again")
    for process in found:
        found.extend(by_parent.get(process.pid, ()))
    return sum(process.ticks for process in found)


def cpu_seconds(roots: Mapping[str, int]) -> dict[str, float]:
    """Name → CPU seconds so far of the process tree below its process id.

    Raises:
        RunInvalidError: one of them has ended, or this is not Linux.
    """
    processes = list(_all_processes())
    ticks_per_second = os.sysconf("SC_CLK_TCK")
    return {name: tree_ticks(processes, pid) / ticks_per_second for name, pid in roots.items()}


def cpu_ms_each(before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
    """CPU milliseconds per each of `count` things, from two readings of `cpu_seconds`."""
    return {name: (after[name] - before[name]) * 1000 / count for name in after}


def _all_processes() -> Iterable[ProcessTimes]:
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():
        raise RunInvalidError("there is no /proc to read CPU times from; this benchmark needs Linux")
    for directory in proc.glob("[0-9]*"):
        # A process may end while it is looked at.
        with suppress(OSError):
            yield parse_stat((directory / "stat").read_text(errors="replace"))

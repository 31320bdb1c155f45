"""CPU time of whole process trees, as Linux counts it: in ticks of ten milliseconds."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

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


@dataclass(frozen=True)
class Snapshot:
    """All processes of the machine at one moment."""

    processes: tuple[ProcessTimes, ...]
    ticks_per_second: int

    @classmethod
    def take(cls) -> Self:
        """Looks at them now.

        Raises:
            RunInvalidError: this is not Linux.
        """
        return cls(tuple(_all_processes()), os.sysconf("SC_CLK_TCK"))

    def alone_s(self, pid: int) -> float:
        """CPU seconds of one process; those of its children only where they have ended.

        Raises:
            RunInvalidError: there is no such process.
        """
        return self._process(pid).ticks / self.ticks_per_second

    def tree_s(self, root: int) -> float:
        """CPU seconds of a process and all its descendants.

        Raises:
            RunInvalidError: there is no such process.
        """
        found = [self._process(root)]
        for process in found:
            found.extend(other for other in self.processes if other.parent == process.pid)
        return sum(process.ticks for process in found) / self.ticks_per_second

    def _process(self, pid: int) -> ProcessTimes:
        for process in self.processes:
            if process.pid == pid:
                return process
        raise RunInvalidError(f"process {pid} ended during the run, so its CPU time is not known; run it again")


def child_that_runs(parent: int, module: str) -> int:
    """The process id of the child of `parent` whose command line names the module.

    Raises:
        RunInvalidError: there is none.
    """
    for process in _all_processes():
        if process.parent == parent and module.encode() in _command_line(process.pid):
            return process.pid
    raise RunInvalidError(f"process {parent} has no child that runs {module}")


def cpu_ms_each(before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
    """CPU milliseconds per each of `count` things, from two readings of CPU seconds."""
    return {name: (after[name] - before[name]) * 1000 / count for name in after}


def _all_processes() -> Iterable[ProcessTimes]:
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():
        raise RunInvalidError("there is no /proc to read CPU times from; this benchmark needs Linux")
    for directory in proc.glob("[0-9]*"):
        # A process may end while it is looked at.
        with suppress(OSError):
            yield parse_stat((directory / "stat").read_text(errors="replace"))


def _command_line(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []

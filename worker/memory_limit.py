"""The memory for a worker: the lowest limit of the control groups, else the memory of the machine."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

#: Controllers in a line of /proc/self/cgroup (none in version 2) → mount point and name of the limit's file.
_PLACES = {"": ("sys/fs/cgroup", "memory.max"), "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes")}


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A limit, and the place where it is set."""

    limit_bytes: int
    source: str


def find_limit(setting_bytes: int, root: Path = Path("/"), machine_bytes: int | None = None) -> MemoryLimit:
    """The lowest of all limits: a limit above the memory of the machine does not hold.

    Args:
        setting_bytes: `DROPLINE_WORKER__MEMORY_BYTES`; 0: not set.
        root: the directory with `proc` and `sys`.
        machine_bytes: memory of the machine; None: from the system.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if machine_bytes is None else machine_bytes
    limits = [MemoryLimit(machine, "the memory of this machine"), *_of_control_groups(root)]
    if setting_bytes:
        limits.append(MemoryLimit(setting_bytes, "DROPLINE_WORKER__MEMORY_BYTES"))
    return min(limits, key=lambda limit: limit.limit_bytes)


def _of_control_groups(root: Path) -> Iterator[MemoryLimit]:
    """The limits of this process's group and of all groups above, of version 1 and 2.

    In a container the path may be that of the machine, and the mount point may show the container's group alone.
    So a directory that is not there is no error, and the way up ends at the mount point.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in _PLACES:
                mount, name = _PLACES[controller]
                group = PurePosixPath(path)
                for directory in (group, *group.parents):
                    file = root / mount / directory.relative_to("/") / name
                    text = _text(file).strip()
                    if text.isdecimal():
                        yield MemoryLimit(int(text), f"/{file.relative_to(root)}")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

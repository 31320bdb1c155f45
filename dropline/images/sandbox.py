"""The sandbox of a decoder process: every restriction that the kernel offers.

Two steps: `enter`, once, in the decoder process, which forks the processes for images; `close`, in a process for
images, before it reads untrusted bytes. A measure that the platform refuses is left out; the others remain.
"""

import enum
import os
import platform
import resource
import signal
import sys
from pathlib import Path

from dropline.images import kernel, seccomp

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
#: Descriptors that a process of the sandbox may have open: the standard ones, and the next image's socket.
_MAX_FILES = 16
_LANDLOCK_ABI_WITH_TCP, _LANDLOCK_ABI_WITH_SCOPES = 4, 6


class Measure(enum.IntFlag):
    """The measures of a sandbox."""

    NO_NEW_PRIVS = 1
    NOT_DUMPABLE = 2
    NO_CAPABILITIES = 4
    OWN_NETWORK = 8
    LANDLOCK_FILES = 16
    LANDLOCK_TCP = 32
    LANDLOCK_SCOPES = 64
    SECCOMP = 128
    MEMORY_LIMIT = 256
    RESOURCE_LIMITS = 512
    ENDS_WITH_PARENT = 1024


def names(measures: Measure) -> list[str]:
    """The measures in lower case, for the log."""
    return [(each.name or "").lower() for each in measures]


def enter() -> Measure:
    """Restrict this process and its future children; returns the active measures, but those of `close`.

    Afterwards no file can be opened, so no module can be imported.
    """
    no_new_privs = kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    own_network = kernel.leave_network()
    abi = kernel.landlock() if no_new_privs else 0
    found = {
        Measure.NO_NEW_PRIVS: no_new_privs,
        Measure.OWN_NETWORK: own_network,
        Measure.LANDLOCK_FILES: abi > 0,
        Measure.LANDLOCK_TCP: abi >= _LANDLOCK_ABI_WITH_TCP,
        Measure.LANDLOCK_SCOPES: abi >= _LANDLOCK_ABI_WITH_SCOPES,
        Measure.NO_CAPABILITIES: kernel.drop_capabilities(platform.machine()),
        Measure.RESOURCE_LIMITS: _limit_resources(),
        # After the change of credentials, which resets both.
        Measure.NOT_DUMPABLE: kernel.prctl(_PR_SET_DUMPABLE, 0),
        Measure.ENDS_WITH_PARENT: end_with_parent(),
    }
    os.closerange(3, 256)
    return _union(found)


def close(memory_bytes: int | None, cpu_s: int) -> Measure:
    """Restrict a process for images for good; returns the active measures of this step.

    Args:
        memory_bytes: most memory of the process; None: no limit.
        cpu_s: most CPU time of the process, in seconds.
    """
    limited = sys.platform == "linux" and memory_bytes is not None
    if memory_bytes is not None and limited:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    end_with_parent()
    return _union({Measure.MEMORY_LIMIT: limited, Measure.SECCOMP: seccomp.install()})


def end_with_parent() -> bool:
    """Let the kernel kill this process when its parent ends; a fork does not inherit this."""
    return kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def allocated_bytes() -> int:
    """Memory of this process that counts against RLIMIT_DATA; 0 on systems without that limit."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)


def _limit_resources() -> bool:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_FILES, _MAX_FILES))
    return True


def _union(found: dict[Measure, bool]) -> Measure:
    active = Measure(0)
    for measure, is_active in found.items():
        active |= measure if is_active else Measure(0)
    return active

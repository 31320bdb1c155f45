"""The sandbox of a decoder process: every restriction that the kernel offers.

Two steps: `enter`, once, in the decoder process, which forks the processes for images; `close`, in a process for
images, before it reads untrusted bytes. A measure that the platform refuses is left out; the others remain.
"""

import enum
import os
import platform
import re
import resource
import signal
import sys
from collections.abc import Mapping, Set
from pathlib import Path

from dropline.images import kernel, seccomp

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
#: Descriptors that a process of the sandbox may have open: the standard ones, and the next image's socket.
_MAX_FILES = 16
#: Threads of the sandbox, beside some per processor: codecs of AVIF and HEIC have one per processor and stage.
_MAX_THREADS = 64
#: Linux from which RLIMIT_NPROC counts the processes and threads of one user namespace.
_THREADS_PER_NAMESPACE = (5, 14)
_LANDLOCK_ABI_WITH_TCP, _LANDLOCK_ABI_WITH_SCOPES = 4, 6


class Measure(enum.StrEnum):
    """The measures of a sandbox."""

    NO_NEW_PRIVS = "no_new_privs"
    NOT_DUMPABLE = "not_dumpable"
    NO_CAPABILITIES = "no_capabilities"
    OWN_NETWORK = "own_network"
    LANDLOCK_FILES = "landlock_files"
    LANDLOCK_TCP = "landlock_tcp"
    LANDLOCK_SCOPES = "landlock_scopes"
    SECCOMP = "seccomp"
    MEMORY_LIMIT = "memory_limit"
    RESOURCE_LIMITS = "resource_limits"
    ENDS_WITH_PARENT = "ends_with_parent"
    THREAD_LIMIT = "thread_limit"


def to_bits(measures: Set[Measure]) -> int:
    """The measures as one number, for a message."""
    return sum(1 << bit for bit, measure in enumerate(Measure) if measure in measures)


def from_bits(bits: int) -> frozenset[Measure]:
    """The measures of a message."""
    return frozenset(measure for bit, measure in enumerate(Measure) if bits >> bit & 1)


def enter() -> frozenset[Measure]:
    """Restrict this process and its future children; returns the active measures, but those of `close`.

    Afterwards no file can be opened, so no module can be imported.
    """
    no_new_privs = kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    account = os.getuid()
    own_network, own_users = kernel.leave_network()
    abi = kernel.landlock() if no_new_privs else 0
    found = {
        Measure.NO_NEW_PRIVS: no_new_privs,
        Measure.OWN_NETWORK: own_network,
        Measure.LANDLOCK_FILES: abi > 0,
        Measure.LANDLOCK_TCP: abi >= _LANDLOCK_ABI_WITH_TCP,
        Measure.LANDLOCK_SCOPES: abi >= _LANDLOCK_ABI_WITH_SCOPES,
        Measure.NO_CAPABILITIES: kernel.drop_capabilities(platform.machine()),
        Measure.RESOURCE_LIMITS: _limit_resources(),
        Measure.THREAD_LIMIT: own_users and _limit_threads(account),
        # After the change of credentials, which resets both.
        Measure.NOT_DUMPABLE: kernel.prctl(_PR_SET_DUMPABLE, 0),
        Measure.ENDS_WITH_PARENT: end_with_parent(),
    }
    os.closerange(3, 256)
    return _active(found)


def close(memory_bytes: int | None, cpu_s: int) -> frozenset[Measure]:
    """Restrict a process for images for good; returns the active measures of this step.

    Args:
        memory_bytes: most memory of the process; None: no limit.
        cpu_s: most CPU time of the process, in seconds; then SIGXCPU ends the process.
    """
    limited = sys.platform == "linux" and memory_bytes is not None and _lower(resource.RLIMIT_DATA, memory_bytes)
    # At the hard limit, the kernel sends SIGKILL, the signal of the out-of-memory killer.
    _lower(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
    end_with_parent()
    return _active({Measure.MEMORY_LIMIT: limited, Measure.SECCOMP: seccomp.install()})


def end_with_parent() -> bool:
    """Let the kernel kill this process when its parent ends; a fork does not inherit this."""
    return kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def allocated_bytes() -> int:
    """Memory of this process that counts against RLIMIT_DATA; 0 on systems without that limit."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)


def _limit_threads(account: int) -> bool:
    """Limit the threads of this user namespace. Older kernels count all of the account; root has no limit."""
    release = tuple(int(each) for each in re.findall(r"\d+", platform.release())[:2])
    if release < _THREADS_PER_NAMESPACE or account == 0:
        return False
    return _lower(resource.RLIMIT_NPROC, _MAX_THREADS + 8 * (os.cpu_count() or 1))


def _limit_resources() -> bool:
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: _MAX_FILES}
    lowered = [_lower(kind, most) for kind, most in limits.items()]
    return all(lowered)


def _lower(kind: int, soft: int, hard: int | None = None) -> bool:
    """Set a limit, or keep a lower one that the process was started with; False where the platform refuses."""
    try:
        there = resource.getrlimit(kind)[1]
        most = soft if hard is None else hard
        if there != resource.RLIM_INFINITY:
            most = min(most, there)
        resource.setrlimit(kind, (min(soft, most), most))
    except (OSError, ValueError):  # the library's error for EPERM is a ValueError
        return False
    return True


def _active(found: Mapping[Measure, bool]) -> frozenset[Measure]:
    return frozenset(measure for measure, is_active in found.items() if is_active)

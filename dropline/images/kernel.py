"""System calls of Linux without a function in Python's library, by ctypes. Each returns False where refused."""

import ctypes
import functools
import sys
from typing import Any

_CLONE_NEWUTS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x04000000, 0x08000000, 0x10000000, 0x40000000
#: Capabilities of version 3: one header, and three sets in two words each.
_CAPABILITIES_V3 = 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91}
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_VERSION_FLAG = 1
#: ABI of Landlock → the highest number of file-system rights.
_LANDLOCK_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_LANDLOCK_FILE_RIGHTS_FROM_5 = 16


def prctl(option: int, *arguments: int) -> bool:
    """prctl(2) with up to four arguments."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return _libc() is not None and _libc().prctl(option, *map(ctypes.c_ulong, padded)) == 0


def leave_network() -> tuple[bool, bool]:
    """Move this process to network and IPC namespaces of its own, without any interface.

    Without a right to do so, in a user namespace of its own, which some container runtimes refuse.

    Returns:
        Whether the process is in a network namespace of its own, and whether in a user namespace of its own.
    """
    empty = _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS
    if _libc() is None:
        return False, False
    own_users = _libc().unshare(_CLONE_NEWUSER | empty) == 0
    return own_users or _libc().unshare(empty) == 0, own_users


def drop_capabilities(machine: str) -> bool:
    """Drop all capabilities of this thread, for good with no_new_privs."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    return machine in _CAPSET and _syscall(_CAPSET[machine], header, (ctypes.c_uint32 * 6)()) == 0


def landlock() -> int:
    """Take every right to files, TCP, foreign abstract sockets and foreign processes; returns the ABI, 0 if none.

    TCP needs ABI 4; abstract sockets and signals to other processes need ABI 6. Requires no_new_privs.
    """
    abi = max(0, _syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION_FLAG))
    if not abi:
        return 0
    files = (1 << _LANDLOCK_FILE_RIGHTS.get(abi, _LANDLOCK_FILE_RIGHTS_FROM_5)) - 1
    handled = [files, *([0b11] if abi >= 4 else []), *([0b11] if abi >= 6 else [])]
    ruleset = (ctypes.c_uint64 * len(handled))(*handled)
    fd = _syscall(_LANDLOCK_CREATE_RULESET, ruleset, ctypes.c_size_t(ctypes.sizeof(ruleset)), 0)
    # The descriptor stays open for the rest of a short start; the caller closes all but the standard ones.
    return abi if fd >= 0 and _syscall(_LANDLOCK_RESTRICT_SELF, fd, 0) == 0 else 0


def _syscall(number: int, *arguments: Any) -> int:
    return -1 if _libc() is None else int(_libc().syscall(ctypes.c_long(number), *arguments))


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

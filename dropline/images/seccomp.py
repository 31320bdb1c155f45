"""A seccomp filter for a process for images: a list of the system calls that decoding needs.

Any other call fails with EPERM: no file is opened, no socket created, no process forked or traced, no signal sent.
Sources: seccomp(2), bpf of `linux/filter.h`, the tables `unistd_64.h` (x86-64) and `asm-generic/unistd.h` (arm64).
"""

import ctypes
import errno
import os
import platform
import signal
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dropline.images.kernel import prctl

#: Name → number on x86-64 and on arm64 (None: the architecture has no such call).
_ALLOWED: Mapping[str, tuple[int, int | None]] = {
    # The data socket and standard error.
    "read": (0, 63),
    "recvfrom": (45, 207),
    "write": (1, 64),
    "writev": (20, 66),
    "close": (3, 57),
    "lseek": (8, 62),
    # Memory.
    "munmap": (11, 215),
    "mremap": (25, 216),
    "brk": (12, 214),
    "madvise": (28, 233),
    # Threads of the codecs.
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "membarrier": (324, 283),
    "exit": (60, 93),
    "exit_group": (231, 94),
    # Signals of the process itself.
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    # Harmless questions.
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getrandom": (318, 278),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "poll": (7, None),
    "ppoll": (271, 73),
}
_MMAP, _MPROTECT, _CLONE, _CLONE3 = (9, 222), (10, 226), (56, 220), (435, 435)
_TGKILL, _PRCTL = (234, 131), (157, 167)

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
#: Offsets in `struct seccomp_data`: the call, the architecture, and the low words of the arguments.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
#: Calls of the x32 ABI have this bit.
_X32 = 0x40000000
_PROT_EXEC, _CLONE_THREAD = 0x4, 0x10000
#: Kinds of memory that RLIMIT_DATA does not count: MAP_SHARED and MAP_GROWSDOWN.
_MAP_UNCOUNTED = 0x1 | 0x100
_PR_SET_NAME = 15
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


@dataclass(frozen=True, slots=True)
class _Machine:
    #: Position of the numbers in the tables above.
    column: int
    #: `AUDIT_ARCH_…` of `linux/audit.h`.
    audit: int


_MACHINES = {"x86_64": _Machine(0, 0xC000003E), "aarch64": _Machine(1, 0xC00000B7)}


@dataclass(frozen=True, slots=True)
class _Condition:
    """A comparison of the low word of a call's argument."""

    argument: int
    comparison: int
    value: int
    #: Whether the comparison must be true or false.
    holds: bool = True


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install() -> bool:
    """Apply the filter to this process, for good; False where kernel or architecture has none.

    Requires no_new_privs.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    code = b"".join(_filter(machine, os.getpid()))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    return prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def _filter(machine: _Machine, pid: int) -> Iterator[bytes]:
    """The program, one instruction after the other."""
    yield _instruction(_LOAD, _ARCHITECTURE)
    yield _instruction(_EQUAL, machine.audit, yes=1)
    yield _instruction(_RETURN, _KILL)
    yield _instruction(_LOAD, _NUMBER)
    yield _instruction(_AT_LEAST, _X32, no=1)
    yield _instruction(_RETURN, _ERRNO | errno.EPERM)
    for numbers in _ALLOWED.values():
        number = numbers[machine.column]
        if number is not None:
            yield _instruction(_EQUAL, number, no=1)
            yield _instruction(_RETURN, _ALLOW)
    # No page becomes executable: code cannot be added to the process. No memory is outside RLIMIT_DATA.
    yield from _checked(
        _MMAP[machine.column],
        _Condition(2, _ANY_BIT, _PROT_EXEC, holds=False),
        _Condition(3, _ANY_BIT, _MAP_UNCOUNTED, holds=False),
    )
    yield from _checked(_MPROTECT[machine.column], _Condition(2, _ANY_BIT, _PROT_EXEC, holds=False))
    yield from _checked(_CLONE[machine.column], _Condition(0, _ANY_BIT, _CLONE_THREAD))
    # The flags of clone3 are in memory, out of a filter's sight; with ENOSYS the C library calls clone.
    yield _instruction(_EQUAL, _CLONE3[machine.column], no=1)
    yield _instruction(_RETURN, _ERRNO | errno.ENOSYS)
    # `abort` sends a signal to its own process. Any other signal would look like an end from outside.
    yield from _checked(
        _TGKILL[machine.column], _Condition(0, _EQUAL, pid), _Condition(2, _EQUAL, int(signal.SIGABRT))
    )
    yield from _checked(_PRCTL[machine.column], _Condition(0, _EQUAL, _PR_SET_NAME))
    yield _instruction(_RETURN, _ERRNO | errno.EPERM)


def _checked(number: int, *conditions: _Condition) -> Iterator[bytes]:
    """Allow the call where all conditions are met; else EPERM."""
    yield _instruction(_EQUAL, number, no=2 * len(conditions) + 2)
    for index, condition in enumerate(conditions, start=1):
        yield _instruction(_LOAD, _FIRST_ARGUMENT + 8 * condition.argument)
        refused = 2 * (len(conditions) - index) + 1
        yes, no = (0, refused) if condition.holds else (refused, 0)
        yield _instruction(condition.comparison, condition.value, yes=yes, no=no)
    yield _instruction(_RETURN, _ALLOW)
    yield _instruction(_RETURN, _ERRNO | errno.EPERM)


def _instruction(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)

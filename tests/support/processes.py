"""Processes of a test: those left behind, found by a mark in the environment, and the children of a process."""

import fcntl
import os
import select
import sys
import termios
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

#: `/proc` shows the environment of a process, and a pidfd the end of a process; macOS has neither.
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and waits on pidfds")

_VARIABLE = "TEST_PROCESS_MARK"


class ProcessMark:
    """An environment variable for a process and so for all descendants."""

    def __init__(self) -> None:
        self._value = uuid4().hex

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the running process, with the mark."""
        return os.environ | {_VARIABLE: self._value}

    def processes(self) -> dict[int, str]:
        """Process id → command line of every living process with the mark."""
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            # A process may end during the inspection; a zombie's environment is empty.
            with suppress(OSError):
                if f"{_VARIABLE}={self._value}".encode() in (directory / "environ").read_bytes().split(b"\0"):
                    command_line = (directory / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(directory.name)] = command_line.decode(errors="replace")
        return found

    def wait_until_gone(self, timeout_s: float) -> dict[int, str]:
        """Wait for the end of every marked process; return the processes alive after the timeout."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                wait_for_exit(pid, timeout_s)
        return self.processes()


@dataclass(frozen=True, slots=True)
class Child:
    """A process in the parent's list of children."""

    command_line: str
    #: `Z`: the process has ended, and was not reaped.
    state: str


def children(pid: int) -> dict[int, Child]:
    """Process id → each child."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):  # the child may be reaped during the inspection
            command_line = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
            found[int(child)] = Child(command_line, state)
    return found


def unread_bytes(pid: int) -> int:
    """Bytes that wait in the pipes that a process reads. Its own output is not counted."""
    return sum(_unread(each) for each in Path(f"/proc/{pid}/fd").iterdir())


def _unread(descriptor: Path) -> int:
    with suppress(OSError):  # closed meanwhile
        if not (str(descriptor.readlink()).startswith("pipe:") and _is_read(descriptor)):
            return 0
        reader = os.open(descriptor, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)
        finally:
            os.close(reader)
    return 0


def _is_read(descriptor: Path) -> bool:
    """True for a descriptor that was opened for reading alone."""
    information = (descriptor.parent.parent / "fdinfo" / descriptor.name).read_text()
    flags = int(information.partition("flags:")[2].split()[0], 8)
    return flags & os.O_ACCMODE == os.O_RDONLY


def wait_for_exit(pid: int, timeout_s: float) -> bool:
    """Wait for the end of any process, also of a process that is no child; False after the timeout."""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)

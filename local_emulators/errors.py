"""Errors of the local stack.

LocalStackError
├── MissingBinaryError      a server's binary is not installed
├── PortInUseError          another program listens on a port of the stack
├── DirectoryInUseError     another stack uses the same directory
├── ServiceDiedError        a service ended unexpectedly; the message has the last log lines
├── ServiceNotReadyError    a service was not ready before the deadline
└── StartCancelledError     the stack was stopped during the start
"""

from dropline.errors import LocalStackError


class MissingBinaryError(LocalStackError):
    """A server's binary is not installed, or does not exist for the machine's architecture."""


class PortInUseError(LocalStackError):
    """Another program listens on a port of the stack."""


class DirectoryInUseError(LocalStackError):
    """Another stack uses the same directory."""


class ServiceDiedError(LocalStackError):
    """A service ended unexpectedly."""


class ServiceNotReadyError(LocalStackError):
    """A service was not ready before the deadline."""


class StartCancelledError(LocalStackError):
    """The stack was stopped during the start."""

"""What can go wrong on a laptop.

LocalStackError
├── MissingBinaryError      a server's binary is not installed
├── PortInUseError          another program listens on a port the stack needs
├── DirectoryInUseError     another stack uses the same directory
├── ServiceDiedError        a service ended by itself; carries its last log lines
├── ServiceNotReadyError    a service did not say in time that it is ready
└── StartCancelledError     the stack was told to stop while it was starting
"""

from dropline.errors import LocalStackError


class MissingBinaryError(LocalStackError):
    """A server's binary is not installed, or there is none for this machine."""


class PortInUseError(LocalStackError):
    """Another program listens on a port the stack needs."""


class DirectoryInUseError(LocalStackError):
    """Another stack uses the same directory."""


class ServiceDiedError(LocalStackError):
    """A service ended by itself."""


class ServiceNotReadyError(LocalStackError):
    """A service did not say in time that it is ready."""


class StartCancelledError(LocalStackError):
    """The stack was told to stop while it was starting."""

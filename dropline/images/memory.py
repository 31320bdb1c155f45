"""A ceiling on what untrusted bytes may make this process allocate."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "linux":
    import resource

    @contextlib.contextmanager
    def memory_ceiling(extra_bytes: int) -> Iterator[None]:
        """Inside the block this process can allocate `extra_bytes` more than it holds; 0: no ceiling.

        The ceiling belongs to the whole process (RLIMIT_DATA), so it is for processes that do one thing at a time.

        Raises:
            MemoryError: from whatever allocation inside the block passes the ceiling.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        ceiling = _allocated_bytes() + extra_bytes
        if not extra_bytes or any(limit != resource.RLIM_INFINITY and limit < ceiling for limit in (soft, hard)):
            yield
            return
        resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))

    def _allocated_bytes() -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
        raise OSError("/proc/self/status has no VmData: set DROPLINE_IMAGES__CHILD_MEMORY_BYTES=0")

else:

    @contextlib.contextmanager
    def memory_ceiling(extra_bytes: int) -> Iterator[None]:  # noqa: ARG001
        """Does nothing: this system has no such limit per process."""
        yield

"""Limit the memory that this process allocates while it decodes untrusted bytes."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "linux":
    import resource

    @contextlib.contextmanager
    def memory_limit(extra_bytes: int) -> Iterator[None]:
        """Limit this process to `extra_bytes` more memory than allocated now, inside the block; 0: no limit.

        The limit applies to the whole process (RLIMIT_DATA): use in processes that decode one image at a time.

        Raises:
            MemoryError: from the allocation inside the block that exceeds the limit.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = _allocated_bytes() + extra_bytes
        if not extra_bytes or any(each != resource.RLIM_INFINITY and each < limit for each in (soft, hard)):
            yield
            return
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
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
    def memory_limit(extra_bytes: int) -> Iterator[None]:  # noqa: ARG001
        """No limit: this system has no memory limit per process."""
        yield

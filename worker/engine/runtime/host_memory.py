"""The memory of freed tensors on a CPU stays with the process."""

import ctypes

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensors; no effect with another C library.

    By default glibc gives the memory of large tensors back, and the kernel zeroes each page of the next one:
    36,000 page faults for an image with Florence-2-base. All threads take memory from one heap: that of a thread
    of its own would give blocks of more than 64 MB back, and keep what other threads could use.

    Call before other threads than the calling one work with tensors.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _MOST)
        mallopt(_M_ARENA_MAX, 1)

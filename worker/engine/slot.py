"""A child's slot: anonymous shared memory for the pixels of one image, reached through a descriptor alone.

A slot has no name, so the kernel frees the memory after the end of child and engine, crashes included. A slot does
not count against `/dev/shm`, of which a container has 64 MiB by default. Both sides use `pwrite` and `preadv` and
never map the memory, so a child that shortens a slot cannot crash the engine.
"""

import os
import tempfile

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def create() -> int:
    """Create an empty slot; returns the descriptor, which the caller closes."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dropline-pixels", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


def write(slot: int, pixels: Pixels) -> None:
    """Write an image into the slot.

    Raises:
        OSError: not enough memory for the image.
    """
    data = np.ascontiguousarray(pixels).data.cast("B")
    written = os.pwrite(slot, data, 0)
    if written != data.nbytes:
        raise OSError(f"only {written} of {data.nbytes} bytes fit into the slot")


def read(slot: int, pixels: Pixels) -> None:
    """Fill `pixels` (uint8, contiguous) from the slot.

    Raises:
        OSError: the slot holds less than an image.
    """
    data = pixels.data.cast("B")
    count = os.preadv(slot, [data], 0)
    if count != data.nbytes:
        raise OSError(f"the slot holds {count} bytes, not an image of {data.nbytes}")

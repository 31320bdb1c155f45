"""Errors of torch on a device, by their words: torch raises a plain RuntimeError for most of them."""

import enum
from collections.abc import Callable
from typing import TypeVar

import torch

from worker.engine.runtime.model import BatchTooLarge, DeviceBroken

T = TypeVar("T")


class Fault(enum.Enum):
    """The part at fault."""

    #: An allocation failed: a smaller batch, or the same batch later, succeeds.
    MEMORY = "memory"
    #: The context of the device is unusable, for every later call of the process.
    BROKEN = "broken"
    #: The model, or the image.
    OTHER = "other"


# The libraries of CUDA allocate a workspace at their first use, and report a failed allocation as these states.
_MEMORY = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    # The words of a convolution on a GPU without free memory, seen on an H200. After a fault of the context, the
    # words of CUDA follow at the next call.
    "CUDNN_STATUS_INTERNAL_ERROR",
    "can't allocate memory",
    "not enough memory",
)
_BROKEN = (
    "CUDA error",
    "cuDNN error",
    "device-side assert",
    "illegal memory access",
    "unspecified launch failure",
    "CUDA driver error",
    # A capture of a graph that could not be ended leaves torch's allocator with a capture under way.
    "already recording to mempool",
    "previous error during capture",
)


def fault_of(error: RuntimeError) -> Fault:
    """The part at fault. Memory first: torch writes `CUDA error: out of memory`, too."""
    words = str(error)
    if isinstance(error, torch.OutOfMemoryError) or any(each in words for each in _MEMORY):
        return Fault.MEMORY
    return Fault.BROKEN if any(each in words for each in _BROKEN) else Fault.OTHER


def guarded(call: Callable[[], T]) -> T:
    """The result of a call.

    Raises:
        BatchTooLarge: the device's memory ran out.
        DeviceBroken: the device can be used no more by this process.
    """
    try:
        return call()
    except RuntimeError as error:
        fault, reason = fault_of(error), str(error)
        if fault is Fault.OTHER:
            raise
        if fault is Fault.BROKEN:
            raise DeviceBroken(reason) from error
    # Outside the handler, no frame holds the tensors of the failed attempt.
    torch.cuda.empty_cache()
    raise BatchTooLarge(reason)

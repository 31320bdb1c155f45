"""Prints the number of GPUs that torch can use: `python -m worker.engine.runtime.gpus`.

The driver counts in some milliseconds and knows CUDA_VISIBLE_DEVICES. Only where the driver finds several GPUs is
torch imported, which takes seconds: torch's build for CPUs can use none of them.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

_DRIVER = "libcuda.so.1"


def count(load_driver: Callable[[], Any] = lambda: ctypes.CDLL(_DRIVER)) -> int:
    """The number; 0 without a driver."""
    try:
        driver = load_driver()
    except OSError:
        return 0
    number = ctypes.c_int(0)
    # Both return 0 for success.
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(number)):
        return 0
    return number.value if number.value < 2 else _count_of_torch()


def _count_of_torch() -> int:
    import torch

    return torch.cuda.device_count()


if __name__ == "__main__":
    sys.stdout.write(f"{count()}\n")

"""The NVIDIA driver of the machine, and whether torch's CUDA works with it."""

import ctypes
from dataclasses import dataclass

#: CUDA's major version → the oldest driver on Linux, by NVIDIA's rule of minor-version compatibility.
_OLDEST_DRIVERS = {11: "450", 12: "525", 13: "580"}
_PAGE = "docs/deploy.md, The GPU's driver"
_NVML_SUCCESS = 0
_CUDA_SUCCESS = 0
_TEXT_BYTES = 96


@dataclass(frozen=True, slots=True)
class Driver:
    """An NVIDIA driver."""

    #: Such as `535.183.06`; None if the driver does not tell.
    version: str | None
    #: The newest CUDA that the driver has, as (major, minor).
    cuda: tuple[int, int]

    def __str__(self) -> str:
        major, minor = self.cuda
        return f"the NVIDIA driver {self.version or 'of this machine'} (CUDA {major}.{minor})"


def find_driver() -> Driver | None:
    """The driver of this machine; None without one. Starts no work on a GPU."""
    number = ctypes.c_int(0)
    try:
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number)) != _CUDA_SUCCESS:
            return None
    except (OSError, AttributeError):
        return None
    return Driver(_driver_version(), (number.value // 1000, number.value % 1000 // 10))


def driver_misfit(driver: Driver | None, torch_version: str, torch_cuda: str | None) -> str | None:
    """Why torch cannot use a GPU of this machine, and what to do; None if driver and torch fit.

    Args:
        driver: the machine's driver.
        torch_version: such as `2.13.0+cu126`.
        torch_cuda: the CUDA that torch was built with, such as `12.6`; None for a build without CUDA.
    """
    if torch_cuda is None:
        return f"torch {torch_version} is a build without CUDA; install a build for CUDA ({_PAGE})"
    build = f"torch {torch_version} is built with CUDA {torch_cuda}"
    needed = int(torch_cuda.partition(".")[0])
    if driver is None:
        return f"{build}, but no NVIDIA driver (libcuda.so.1) is found; give the container a GPU and its driver"
    if driver.cuda[0] >= needed:
        return None
    oldest = _OLDEST_DRIVERS.get(needed, f"for CUDA {needed}")
    return (
        f"{build}, and {driver} is too old for it; install a torch for CUDA {driver.cuda[0]}, or the driver "
        f"{oldest} or newer ({_PAGE})"
    )


def _driver_version() -> str | None:
    text = ctypes.create_string_buffer(_TEXT_BYTES)
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if nvml.nvmlInit_v2() != _NVML_SUCCESS:
            return None
        found = nvml.nvmlSystemGetDriverVersion(text, _TEXT_BYTES)
        nvml.nvmlShutdown()
    except (OSError, AttributeError):
        return None
    return text.value.decode(errors="replace") if found == _NVML_SUCCESS and text.value else None

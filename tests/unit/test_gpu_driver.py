"""Whether torch's CUDA works with the driver, by plain values."""

import ctypes
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dropline.errors import SettingsError
from dropline.settings import EngineSettings
from worker.engine.runtime import loading
from worker.engine.runtime.driver import Driver, driver_misfit, find_driver

#: The driver of Cloud Run's L4.
L4 = Driver("535.216.01", (12, 2))


@pytest.mark.parametrize(
    ("found", "cuda", "parts"),
    [
        (
            L4,
            "13.0",
            ["2.13.0+x", "CUDA 13.0", "driver 535.216.01 (CUDA 12.2)", "torch for CUDA 12", "580 or newer"],
        ),
        (Driver(None, (12, 2)), "13.0", ["driver of this machine (CUDA 12.2)", "torch for CUDA 12"]),
        (Driver("470.1", (11, 4)), "12.6", ["driver 470.1 (CUDA 11.4)", "torch for CUDA 11", "525 or newer"]),
        (L4, "14.1", ["CUDA 14.1", "the driver for CUDA 14 or newer"]),
        (None, "12.6", ["CUDA 12.6", "no NVIDIA driver (libcuda.so.1) is found"]),
        (L4, None, ["2.13.0+x", "a build without CUDA", "install a build for CUDA"]),
    ],
)
def test_the_reason_names_driver_and_cuda(found: Driver | None, cuda: str | None, parts: list[str]) -> None:
    """The reason has the driver's version, both versions of CUDA, and what to do."""
    reason = driver_misfit(found, "2.13.0+x", cuda)
    assert reason
    assert [part for part in parts if part not in reason] == []


@pytest.mark.parametrize(
    ("found", "cuda"),
    [
        (L4, "12.6"),
        (L4, "12.2"),
        (L4, "11.8"),
        (Driver("580.65.06", (13, 0)), "13.0"),
        (Driver(None, (13, 0)), "12.6"),
    ],
)
def test_a_driver_that_fits_has_no_reason(found: Driver, cuda: str) -> None:
    """A driver has all minor versions of its own CUDA, by compatibility, and all older CUDAs."""
    assert driver_misfit(found, "2.13.0", cuda) is None


@given(st.integers(11, 20), st.integers(0, 9), st.integers(11, 20), st.integers(0, 9))
def test_only_the_major_versions_decide(major: int, minor: int, needed: int, detail: int) -> None:
    """Driver and torch fit exactly if the driver's CUDA has at least the major version of torch's."""
    reason = driver_misfit(Driver("1", (major, minor)), "2", f"{needed}.{detail}")
    assert (reason is None) is (major >= needed)


class Library:
    """Stands for libcuda and NVML."""

    def __init__(self, number: int, version: bytes, status: int = 0) -> None:
        self._number, self._version, self._status = number, version, status

    def cuDriverGetVersion(self, found: Any) -> int:  # noqa: N802 - CUDA's name
        ctypes.cast(found, ctypes.POINTER(ctypes.c_int))[0] = self._number
        return self._status

    def nvmlInit_v2(self) -> int:  # noqa: N802 - NVML's name
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802 - NVML's name
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, length: int) -> int:  # noqa: N802 - NVML's name
        assert length > len(self._version)
        text.value = self._version
        return 0


@pytest.mark.parametrize(
    ("number", "status", "expected"), [(12020, 0, L4), (13010, 0, Driver("535.216.01", (13, 1))), (12020, 3, None)]
)
def test_the_driver_is_asked(
    monkeypatch: pytest.MonkeyPatch, number: int, status: int, expected: Driver | None
) -> None:
    """The versions are those that the driver's libraries tell; a driver that refuses is no driver."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library(number, b"535.216.01", status))
    assert find_driver() == expected


def test_a_machine_without_the_libraries_has_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libcuda there is no driver; without NVML the driver has no version."""

    def missing(name: str) -> Library:
        if name == absent:
            raise OSError(name)
        return Library(12020, b"")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    absent = "libcuda.so.1"
    assert find_driver() is None
    absent = "libnvidia-ml.so.1"
    assert find_driver() == Driver(None, (12, 2))


def test_the_engine_does_not_start_on_a_driver_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The permanent error of the start names the driver and torch's CUDA."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(loading, "find_driver", lambda: L4)
    with pytest.raises(SettingsError, match=r"CUDA 13\.0.*535\.216\.01.*torch for CUDA 12"):
        loading.choose_device(EngineSettings(device="cuda"))


def test_auto_says_why_it_takes_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver that is too old, `auto` takes the CPU and warns; without a driver it does not warn."""
    warnings: list[dict[str, str]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(
        loading, "_log", type("Log", (), {"warning": lambda _, name, **rest: warnings.append(rest)})()
    )
    for found in (None, L4):
        monkeypatch.setattr(loading, "find_driver", lambda found=found: found)
        assert loading.choose_device(EngineSettings(device="auto")).type == "cpu"
    assert [("535.216.01" in each["reason"]) for each in warnings] == [True]

"""The devices of a worker's engines, with a driver that is not there."""

from functools import partial
from typing import Any

import pytest
import torch

from dropline.settings import EngineSettings, Settings
from worker.devices import count_gpus, each_engine, usable_cores, with_devices
from worker.engine.runtime import gpus


class Driver:
    """Stands for the library of NVIDIA's driver."""

    def __init__(self, number: int, error: int = 0) -> None:
        self._number = number
        self._error = error

    def cuInit(self, _flags: int) -> int:  # noqa: N802 - the driver's name
        """The error of the driver; 0 for none."""
        return self._error

    def cuDeviceGetCount(self, found: Any) -> int:  # noqa: N802 - the driver's name
        """Write the number."""
        found._obj.value = self._number
        return 0


def devices_of(device: str, number: int, **engine: Any) -> tuple[str, ...]:
    """The devices of the engines on a machine with so many GPUs."""
    settings = Settings(engine=EngineSettings(device=device, **engine))
    return with_devices(settings, lambda: number).engine.devices


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_every_visible_gpu_has_an_engine(device: str) -> None:
    """With one GPU or none, the one engine chooses as before."""
    assert devices_of(device, 3) == ("cuda:0", "cuda:1", "cuda:2")
    assert devices_of(device, 1) == devices_of(device, 0) == (device,)


@pytest.mark.parametrize(
    ("device", "devices"), [("cpu", ("cpu",)), ("cuda:1", ("cuda:1",)), ("cpu, cpu", ("cpu", "cpu"))]
)
def test_named_devices_are_taken_as_they_are(device: str, devices: tuple[str, ...]) -> None:
    """No GPU is counted."""
    assert devices_of(device, 3) == devices


def test_the_stub_has_one_engine() -> None:
    """It uses no GPU."""
    assert devices_of("auto", 3, stub=True) == ("auto",)


@pytest.mark.parametrize(
    ("device", "threads", "expected"),
    [
        ("cpu", 0, [0]),
        ("cpu", 6, [6]),
        ("cpu,cpu", 0, [4, 3]),
        ("cpu,cpu", 5, [3, 2]),
        ("cpu,cpu,cpu", 2, [1, 1, 1]),
        ("cuda:0,cpu,cpu", 4, [4, 2, 2]),
        ("cuda:0,cpu", 0, [0, 0]),
    ],
)
def test_engines_on_the_cpu_share_the_threads(device: str, threads: int, expected: list[int]) -> None:
    """Two engines with a thread for each core would take turns on the cores."""
    engines = each_engine(EngineSettings(device=device, threads=threads), cores=7)
    assert [engine.threads for engine in engines] == expected
    assert ",".join(engine.device for engine in engines) == device


def test_the_cores_of_this_process_are_divided() -> None:
    """Without a setting, a thread for each core at most, and one for each engine at least."""
    threads = sum(engine.threads for engine in each_engine(EngineSettings(device="cpu,cpu")))
    assert threads == max(2, usable_cores())


def test_torch_counts_where_the_driver_finds_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of torch for CPUs can use none of them; a driver that refuses counts as none."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    assert [gpus.count(partial(Driver, number)) for number in (0, 1, 2)] == [0, 1, 5]
    assert gpus.count(lambda: Driver(2, error=100)) == 0

    def missing() -> Driver:
        raise OSError("libcuda.so.1: cannot open shared object file")

    assert gpus.count(missing) == 0


def test_this_machine_is_counted() -> None:
    """The program and torch agree."""
    assert count_gpus() == torch.cuda.device_count()

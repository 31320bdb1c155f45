"""The devices of a worker, one for each engine. A separate program counts the GPUs: the parent has no torch."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable

from dropline.log import get_logger
from dropline.settings import EngineSettings, Settings

log = get_logger(__name__)

#: Longest wait for the count, in seconds: the first import of torch reads some gigabytes.
_TIMEOUT_S = 120.0
#: Settings that mean every visible GPU.
_ALL = frozenset({"auto", "cuda"})


@functools.cache
def count_gpus() -> int:
    """Number of GPUs that torch can use; 0 where they cannot be counted: the engine then has the reason."""
    command = [sys.executable, "-m", "worker.engine.runtime.gpus"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
        return int(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.warning("gpus_not_counted", error=str(error))
        return 0


def with_devices(settings: Settings, count: Callable[[], int] = count_gpus) -> Settings:
    """The settings with the name of each GPU in place of `auto` and `cuda`, where there are several GPUs.

    With a single GPU or none, the only engine chooses as before.
    """
    if settings.engine.stub or settings.engine.device not in _ALL:
        return settings
    number = count()
    if number < 2:
        return settings
    device = ",".join(f"cuda:{index}" for index in range(number))
    return settings.model_copy(update={"engine": settings.engine.model_copy(update={"device": device})})


def usable_cores() -> int:
    """Number of cores allowed for the process."""
    # macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each_engine(settings: EngineSettings, cores: int | None = None) -> list[EngineSettings]:
    """The settings of each engine: one device, and on the CPU its part of the threads.

    Args:
        settings: of all engines.
        cores: to divide where no number of threads is set; None: the cores allowed for the process.
    """
    alone = [settings.model_copy(update={"device": device}) for device in settings.devices]
    on_cpu = [place for place, engine in enumerate(alone) if engine.device == "cpu"]
    if len(on_cpu) < 2:
        return alone
    threads = settings.threads or cores or usable_cores()
    least, more = divmod(threads, len(on_cpu))
    for turn, place in enumerate(on_cpu):
        alone[place] = alone[place].model_copy(update={"threads": max(1, least + (turn < more))})
    return alone

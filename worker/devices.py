"""The devices of a worker, one for each engine. A program of its own counts the GPUs: the parent has no torch."""

import subprocess
import sys
from collections.abc import Callable

from dropline.log import get_logger
from dropline.settings import Settings

log = get_logger(__name__)

#: Longest wait for the count, in seconds: the first import of torch reads some gigabytes.
_TIMEOUT_S = 120.0
#: Settings that mean every visible GPU.
_ALL = frozenset({"auto", "cuda"})


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

    With one GPU or none, the one engine chooses as before.
    """
    if settings.engine.stub or settings.engine.device not in _ALL:
        return settings
    number = count()
    if number < 2:
        return settings
    device = ",".join(f"cuda:{index}" for index in range(number))
    return settings.model_copy(update={"engine": settings.engine.model_copy(update={"device": device})})

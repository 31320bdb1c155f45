"""A worker whose children write to standard error in foreign ways: `python -m tests.support.noisy_worker`."""

import ctypes
import os
import sys
import threading
import warnings
from typing import Any

from tests.support import failpoint_worker
from worker.captioning import Captioning

_fetch = Captioning._fetch


def make_noise() -> None:
    """A warning, a raw line, a C library's line, and the traceback of a thread."""
    warnings.warn("a noisy warning", stacklevel=1)
    os.write(2, b"a noisy line\n")
    ctypes.CDLL(None).perror(b"a noisy library")
    thread = threading.Thread(target=lambda: 1 / 0, name="noisy")
    thread.start()
    thread.join()


def _noisy_fetch(*args: Any, **kwargs: Any) -> Any:
    make_noise()
    return _fetch(*args, **kwargs)


if __name__ == "__main__":
    setattr(Captioning, "_fetch", _noisy_fetch)  # noqa: B010 - a method, for mypy
    sys.exit(failpoint_worker.main())

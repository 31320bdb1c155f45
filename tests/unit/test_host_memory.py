"""The memory of freed tensors on a CPU."""

import ctypes
import subprocess
import sys

import pytest

#: Prints the page faults of five large pieces of memory, one after the other, after a first one.
PROGRAM = """
import resource, sys
from worker.engine.runtime.host_memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "kept":
    keep_freed_memory()
bytearray(64_000_000)
before = faults()
for _ in range(5):
    bytearray(64_000_000)
print(faults() - before)
"""


def page_faults(way: str) -> int:
    run = subprocess.run([sys.executable, "-c", PROGRAM, way], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_the_pages_of_freed_memory_are_not_zeroed_again() -> None:
    """An image of Florence-2-base frees and takes gigabytes; the plain way shows that the count can fail."""
    assert page_faults("kept") < 100 < page_faults("plain")

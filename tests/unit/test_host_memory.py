"""The memory of freed tensors on a CPU."""

import ctypes
import subprocess
import sys

import pytest

#: Prints the page faults of five large pieces of memory, one after the other, after a first one.
PROGRAM = """
import resource, sys, threading
from worker.engine.runtime.host_memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def allocate():
    bytearray(80_000_000)
    before = faults()
    for _ in range(5):
        bytearray(80_000_000)
    print(faults() - before)

if sys.argv[1] == "kept":
    keep_freed_memory()
if sys.argv[2] == "thread":
    thread = threading.Thread(target=allocate)
    thread.start()
    thread.join()
else:
    allocate()
"""


def page_faults(way: str, where: str) -> int:
    run = subprocess.run([sys.executable, "-c", PROGRAM, way, where], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_the_pages_of_freed_memory_are_not_zeroed_again(where: str) -> None:
    """An image of Florence-2-base frees and takes gigabytes; the plain way shows that the count can fail."""
    assert page_faults("kept", where) < 100 < page_faults("plain", where)

"""The kernels of a GPU, on the CPU: Triton's interpreter runs them."""

import importlib.util
import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed; torch's builds for CUDA bring it, and `pip install triton` works too",
)
def test_the_kernels_agree_with_the_portable_operations() -> None:
    """Every operation, in shapes that fill their blocks and in shapes that do not."""
    command = [sys.executable, "-m", "tests.support.triton_parity"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    assert "the kernels agree" in finished.stdout

"""The kernels of a GPU, on a machine without one: run by Triton's interpreter, and compiled for several GPUs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dropline.settings import EngineSettings
from tests.support.tiny_florence import save_checkpoint
from tools.demo_model.tokenizer import build_tokenizer
from tools.florence_shapes import BASE_SHAPE, LARGE_SHAPE, FlorenceShape, build_model, build_processor
from worker.engine.runtime.checkpoint import Checkpoint
from worker.engine.runtime.precompile import CompiledKernel, compile_kernels

triton = pytest.importorskip("triton", reason="Triton is not installed; for Linux, `pip install '.[dev]'` has it")
#: Bytes of a thread's memory behind the registers. Slow, so a kernel has little of it.
MOST_STACK = 256


def test_the_kernels_agree_with_the_portable_operations() -> None:
    """Every operation, in shapes that fill their blocks and in shapes that do not."""
    command = [sys.executable, "-m", "tests.support.triton_parity"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    assert "the kernels agree" in finished.stdout


@pytest.mark.parametrize(
    ("shape", "capability", "dtype", "beams"),
    [
        # A T4, which has no bfloat16; an L4; an H100.
        (BASE_SHAPE, "7.5", "auto", 1),
        (BASE_SHAPE, "8.9", "float32", 3),
        (LARGE_SHAPE, "8.9", "auto", 10),
        (BASE_SHAPE, "9.0", "auto", 1),
    ],
)
def test_a_gpu_can_run_the_kernels(
    shape: FlorenceShape, capability: str, dtype: str, beams: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels of all sizes of batches compile, fit into the GPU's shared memory, and have little stack.

    The network has no values here, so a captured graph that reads one on the host fails too.
    """
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "kernels"))
    settings = EngineSettings.model_validate({"dtype": dtype, "num_beams": beams, "max_batch": 16})
    kernels = compile_kernels(settings, without_weights(shape, tmp_path / "checkpoint"), capability)
    assert {kernel.name for kernel in kernels} >= {"mix", "window_attention", "encoder_attention"}
    spilled = {kernel.name: size for kernel in kernels if (size := stack_of(kernel, tmp_path)) > MOST_STACK}
    assert not spilled


def without_weights(shape: FlorenceShape, directory: Path) -> Checkpoint:
    tokenizer = build_tokenizer()
    with torch.device("meta"):
        model = build_model(shape, tokenizer, num_beams=3, early_stopping=True, no_repeat_ngram_size=3)
    model.config.save_pretrained(directory)
    model.generation_config.save_pretrained(directory)
    build_processor(shape, tokenizer).save_pretrained(directory)
    return Checkpoint("no weights", directory, "none")


def stack_of(kernel: CompiledKernel, directory: Path) -> int:
    """In bytes, by the tool that Triton brings."""
    file = directory / "kernel.cubin"
    file.write_bytes(kernel.cubin)
    command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(file)]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"STACK:(\d+)", usage)
    assert found, usage
    return int(found[1])


def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    """The kernels that the image was built with are found again by another process."""
    environment = os.environ | {
        "DROPLINE_ENGINE__CHECKPOINT": str(save_checkpoint(tmp_path / "tiny")),
        "DROPLINE_ENGINE__MAX_BATCH": "2",
        "TRITON_CACHE_DIR": str(tmp_path / "kernels"),
    }
    command = [sys.executable, "-m", "worker.engine.runtime.precompile", "8.9"]

    def compiled() -> dict[Path, int]:
        subprocess.run(command, env=environment, capture_output=True, check=True, timeout=600)
        return {each: each.stat().st_mtime_ns for each in (tmp_path / "kernels").rglob("*.cubin")}

    first = compiled()
    assert first
    assert compiled() == first


@pytest.mark.parametrize(("capability", "words"), [("", "is ''"), ("6.0", "8.9")])
def test_an_unknown_gpu_is_named(capability: str, words: str, tmp_path: Path) -> None:
    """With the GPUs that are known."""
    environment = os.environ | {"DROPLINE_ENGINE__CHECKPOINT": str(save_checkpoint(tmp_path / "tiny"))}
    command = [sys.executable, "-m", "worker.engine.runtime.precompile", *([capability] if capability else [])]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert (finished.returncode, words in finished.stderr) == (1, True), finished.stderr

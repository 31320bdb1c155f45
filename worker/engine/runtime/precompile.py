"""`python -m worker.engine.runtime.precompile 8.9`: compile the engine's kernels on a machine without a GPU.

The argument is the compute capability of the GPU (8.9 is an L4); checkpoint, largest batch and beams are those of
the settings. Triton keeps the kernels in `TRITON_CACHE_DIR`, where an engine finds them at its start. The network
runs on torch's `meta` device, which has shapes and no values, so the run also fails where captured work reads a
value on the host.
"""

import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Florence2Config, Florence2ForConditionalGeneration, Florence2Processor, GenerationConfig

from dropline.errors import DroplineError, SettingsError
from dropline.settings import EngineSettings, load_settings
from worker.engine.runtime.checkpoint import Checkpoint, find_checkpoint
from worker.engine.runtime.florence import FlorenceModel
from worker.engine.runtime.loading import DTYPES
from worker.engine.runtime.network.form import Form, Part, SameLane, Work

#: Bytes of shared memory that a block of threads can have, by compute capability: NVIDIA's CUDA C++ Programming
#: Guide, table "Technical Specifications per Compute Capability". Triton checks it at the first launch.
SHARED_MEMORY = {
    "7.5": 64 << 10,
    "8.0": 163 << 10,
    "8.6": 99 << 10,
    "8.9": 99 << 10,
    "9.0": 227 << 10,
    "10.0": 227 << 10,
    "12.0": 99 << 10,
}
#: The first GPUs that compute in bfloat16.
_BFLOAT16_SINCE = 8


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """A kernel in the cache."""

    name: str
    #: Of a block of threads, in bytes.
    shared_memory: int
    #: The machine code, an ELF file.
    cubin: bytes


@dataclass(frozen=True, slots=True)
class _Target:
    """Takes the place of Triton's driver, which asks the GPU."""

    capability: str

    @property
    def number(self) -> int:
        return int(self.capability.replace(".", ""))

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.number, 32)

    def get_current_device(self) -> int:
        # Triton asks once for the target of each device.
        return self.number

    def get_current_stream(self, _device: int) -> int:
        return 0


def main(arguments: list[str]) -> int:
    """Compile for one compute capability; returns the exit code."""
    capability = arguments[0] if len(arguments) == 1 else ""
    try:
        settings = load_settings().engine
        began = time.monotonic()
        kernels = compile_kernels(settings, find_checkpoint(settings), capability)
    except DroplineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    took = time.monotonic() - began
    sys.stdout.write(f"{len(kernels)} kernels for compute capability {capability} in {took:.1f} s\n")
    return 0


def compile_kernels(settings: EngineSettings, checkpoint: Checkpoint, capability: str) -> list[CompiledKernel]:
    """Compile the kernels of every size that an engine captures at its start.

    Raises:
        SettingsError: Triton is missing, the capability is unknown, or its shared memory too small for a kernel.
    """
    if capability not in SHARED_MEMORY:
        raise SettingsError(
            f"the compute capability of the GPU is {capability!r}, but kernels can be compiled for "
            f"{', '.join(SHARED_MEMORY)}"
        )
    processor = Florence2Processor.from_pretrained(checkpoint.directory, trust_remote_code=False)
    model = _without_weights(checkpoint, _dtype(settings, capability))
    # Work runs once where a GPU captures it.
    form = Form(_run_once, _run_once, SameLane(), exact=False, tokens_per_look=1)
    with _compiling_only(capability) as (operations, kernels):
        FlorenceModel(model, processor, checkpoint, settings, form, operations).capture_all()
    for kernel in kernels.values():
        if kernel.shared_memory > SHARED_MEMORY[capability]:
            raise SettingsError(
                f"the kernel {kernel.name} needs {kernel.shared_memory} bytes of shared memory, and a GPU of "
                f"compute capability {capability} has {SHARED_MEMORY[capability]}: {checkpoint.name} cannot be "
                "served there; use another checkpoint or another GPU"
            )
    return list(kernels.values())


def _without_weights(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    config = Florence2Config.from_pretrained(checkpoint.directory)
    with torch.device("meta"):
        model: Any = Florence2ForConditionalGeneration(config)
    model.generation_config = GenerationConfig.from_pretrained(checkpoint.directory)
    return model.to(dtype).eval()


def _dtype(settings: EngineSettings, capability: str) -> torch.dtype:
    if settings.dtype != "auto":
        return DTYPES[settings.dtype]
    return torch.bfloat16 if int(capability.partition(".")[0]) >= _BFLOAT16_SINCE else torch.float32


def _run_once(_part: Part, work: Work) -> Work:
    work()
    return work


@contextmanager
def _compiling_only(capability: str) -> Iterator[tuple[Any, dict[str, CompiledKernel]]]:
    """Triton's operations, which compile and launch nothing, and the compiled kernels by their keys."""
    try:
        import triton

        from worker.engine.runtime.network import triton_kernels
        from worker.engine.runtime.network.triton_operations import TritonOperations
    except ImportError as error:
        raise SettingsError(
            f"Triton compiles the kernels, and is not installed ({error}); install torch's build for CUDA, which "
            "brings it"
        ) from error
    found: dict[str, CompiledKernel] = {}
    functions = [each for each in vars(triton_kernels).values() if isinstance(each, triton.JITFunction)]
    drivers = triton.runtime.driver
    before = drivers._active  # noqa: SLF001 - the public property asks for a GPU
    drivers.set_active(_Target(capability))
    for function in functions:
        function.run = functools.partial(_compile, function.run, found)
    try:
        yield TritonOperations(), found
    finally:
        drivers.set_active(before)
        for function in functions:
            del function.run


def _compile(
    run: Callable[..., Any], found: dict[str, CompiledKernel], *values: Any, warmup: bool, **options: Any
) -> None:
    """In place of a kernel's launch."""
    del warmup
    kernel = run(*values, warmup=True, **options)
    found[kernel.hash] = CompiledKernel(kernel.metadata.name, kernel.metadata.shared, kernel.asm["cubin"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

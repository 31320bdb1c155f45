"""Memory of a worker's processes at work: the constants of `worker/memory.py`.

python -m benchmarks.memory [--model demo] [--children 4]
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from benchmarks.figures import Figure, Spread, section
from benchmarks.provenance import Provenance
from benchmarks.stack import benchmark_stack
from benchmarks.uploads import ImageFile, photographs, upload_all, wait_until_written

#: A PNG of noise has as many bytes as pixels, so this one is almost as large as the largest accepted object.
_NOISE_SIDE_PX = 4000
#: Name of a reading → file in /proc/PID, and the fields whose sum is the reading.
_READINGS = (
    ("own pages", "smaps_rollup", ("Private_Clean", "Private_Dirty")),
    ("share of all pages (PSS)", "smaps_rollup", ("Pss",)),
    ("most resident since its start", "status", ("VmHWM",)),
    ("allocated (RLIMIT_DATA)", "status", ("VmData",)),
)


def main(
    model: Annotated[str, typer.Option(help="Model of the engine: stub, demo, or a checkpoint.")] = "stub",
    children: Annotated[int, typer.Option(help="Children of the worker.", min=1)] = 4,
) -> None:
    """Measure the memory of parent, children, decoders and engine after large images."""
    provenance = Provenance.gather("benchmarks.memory", sys.argv[1:], ("pillow", "numpy", "torch"))
    with benchmark_stack(model=model, concurrency=children) as stack:
        images = [*photographs(4 * children), *_noise(2 * children)]
        with stack.listening() as listener:
            count = upload_all(stack, images)
            wait_until_written(listener, count)
        figures = _figures(stack.worker.pid)
    lines = section(provenance.title, provenance.figures())
    lines += section(f"Memory of a worker, model {model}", figures)
    typer.echo("\n".join(lines))


def _noise(count: int) -> Iterator[ImageFile]:
    pixels = np.random.default_rng(1).integers(0, 256, (_NOISE_SIDE_PX, _NOISE_SIDE_PX, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    for number in range(count):
        yield ImageFile(f"noise/{number}.png", "image/png", file.getvalue())


def _figures(worker: int) -> list[Figure]:
    of_role: dict[str, list[int]] = {}
    for pid, role in _roles(worker, "parent"):
        of_role.setdefault(role, []).append(pid)
    return [figure for role, pids in of_role.items() for figure in _of_processes(role, pids)]


def _roles(pid: int, role: str) -> Iterator[tuple[int, str]]:
    """A process and its descendants, each with its role."""
    yield pid, role
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield from _roles(child, _role(Path(f"/proc/{child}/cmdline").read_text(), role))


def _role(command: str, parent: str) -> str:
    if "worker.engine.runtime" in command:
        return "engine"
    if "decoder_process" not in command:
        return "child"
    return "process for images" if parent == "decoder process" else "decoder process"


def _of_processes(role: str, pids: list[int]) -> Iterator[Figure]:
    for name, file, fields in _READINGS:
        spread = Spread.of(_megabytes(Path(f"/proc/{pid}/{file}"), fields) for pid in pids)
        yield Figure(f"{role}, {len(pids)}: {name}", f"p50 {spread.p50:.0f}, largest {spread.maximum:.0f} MB")


def _megabytes(path: Path, fields: tuple[str, ...]) -> float:
    lines = (line.split() for line in path.read_text().splitlines())
    return sum(int(line[1]) for line in lines if line[0].removesuffix(":") in fields) * 1024 / 1e6


if __name__ == "__main__":
    typer.run(main)

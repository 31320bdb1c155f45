"""Decoding in the decoder process beside decoding in this process, image by image in turns.

python -m benchmarks.decoder [--images 100]
"""

import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from benchmarks.cpu import CpuReading, contention_between
from benchmarks.figures import Figure, section, shown
from benchmarks.provenance import Provenance
from dropline.images.decoder import DecoderProcess
from dropline.images.decoding import decode
from dropline.settings import ImageSettings

_SIDE_PX = 768
_PACKAGES = ("pillow", "numpy")


def main(
    images: Annotated[int, typer.Option(help="Of each kind, on each side.", min=2)] = 100,
) -> None:
    """Measure what the decoder process costs."""
    provenance = Provenance.gather("benchmarks.decoder", sys.argv[1:], _PACKAGES)
    limits = ImageSettings()
    before = CpuReading.now()
    with DecoderProcess(limits) as decoder:
        figures = [_figure(name, data, decoder, limits, images) for name, data in _files()]
    contention = contention_between(before, CpuReading.now())
    lines = section(provenance.title, provenance.figures())
    lines += section("The decoder process", [*figures, *contention.figures()])
    typer.echo("\n".join(lines))


def _figure(name: str, data: bytes, decoder: DecoderProcess, limits: ImageSettings, images: int) -> Figure:
    here, there = [], []
    for _ in range(images):
        here.append(_milliseconds(lambda: decode(data, _SIDE_PX, limits)))
        there.append(_milliseconds(lambda: decoder.decode(data, _SIDE_PX)))
    # Of pairs: the speed of a shared machine changes within a run.
    ratio = statistics.median(apart / inside for inside, apart in zip(here, there, strict=True))
    inside, apart = statistics.median(here), statistics.median(there)
    value = f"p50 {shown(inside)} ms in this process, {shown(apart)} ms apart; p50 of the pairs {ratio - 1:+.1%}"
    return Figure(f"{name}, {len(data) / 1e6:.1f} MB", value)


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _files() -> Iterator[tuple[str, bytes]]:
    yield "JPEG of 4000×3000", _encoded(4000, 3000, "JPEG", quality=88)
    yield "PNG of 1600×1248", _encoded(1600, 1248, "PNG")
    yield "WebP of 1600×1248", _encoded(1600, 1248, "WEBP", quality=85)


def _encoded(width: int, height: int, kind: str, **options: int) -> bytes:
    """A file of coloured clouds with the noise of a camera."""
    random = np.random.default_rng(1)
    clouds = Image.fromarray(random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
    pixels = np.asarray(clouds.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = (pixels + random.integers(-6, 7, pixels.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, kind, **options)
    return file.getvalue()


if __name__ == "__main__":
    typer.run(main)

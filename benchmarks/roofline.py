"""The distance of the engine to the hardware: the work of a caption, and the rate of a matrix product."""

import time
from dataclasses import dataclass
from statistics import median

import torch

#: GFLOP of one image in Florence-2-base: torch's FLOP counter, and a derivation for the cross-attention.
VISION_GFLOP, _ENCODER, _TOKEN = 370.0, 53.0, 0.18
#: The matrix product that the rate is measured with: rows, inner length, columns.
_PRODUCT = (2304, 768, 3072)
_SERIES, _PRODUCTS = 25, 50


def work_gflop(tokens: float) -> float:
    """The work of a greedy answer of so many tokens about one image, in GFLOP."""
    return VISION_GFLOP + _ENCODER + _TOKEN * tokens


@dataclass(frozen=True)
class ProductRate:
    """The median rate of one matrix product, before and after a run, in GFLOP/s."""

    before: float
    after: float

    @property
    def gflops(self) -> float:
        """The mean of both."""
        return (self.before + self.after) / 2

    def share(self, images_per_second: float, tokens: float) -> float:
        """The engine's work per second as a share of the rate, from 0 to 1."""
        return images_per_second * work_gflop(tokens) / self.gflops


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of the matrix product 2304 × 768 × 3072: the median of 25 series, without the launches of a GPU."""
    rows, inner, columns = _PRODUCT
    generator = torch.Generator(device).manual_seed(0)
    left = torch.randn(rows, inner, generator=generator, device=device).to(dtype)
    right = torch.randn(inner, columns, generator=generator, device=device).to(dtype)
    count = _PRODUCTS if device.type == "cuda" else 1
    seconds = median(_seconds_of(left, right, count) for _ in range(_SERIES))
    return 2 * rows * inner * columns * count / seconds / 1e9


def _seconds_of(left: torch.Tensor, right: torch.Tensor, count: int) -> float:
    if left.device.type == "cuda":
        torch.cuda.synchronize(left.device)
    began = time.perf_counter()
    for _ in range(count):
        left @ right
    if left.device.type == "cuda":
        torch.cuda.synchronize(left.device)
    return time.perf_counter() - began

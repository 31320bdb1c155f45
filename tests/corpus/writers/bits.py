"""Packing of values of any number of bits, and arithmetic on rows of samples."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def packed(values: npt.NDArray[np.integer], depth: int) -> bytes:
    """The values, [width], as `depth` bits each, first value in the high bits, padded to a byte."""
    places = np.arange(depth - 1, -1, -1)
    bits = (values.reshape(-1, 1).astype(np.uint64) >> places.astype(np.uint64)) & np.uint64(1)
    return np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes()


def packed_rows(samples: npt.NDArray[np.integer], depth: int) -> list[bytes]:
    """Each row of [height, …] packed on its own."""
    return [packed(row.reshape(-1), depth) for row in samples]


def joined(codes: Iterable[tuple[int, int]]) -> str:
    """Pairs of value and number of bits as a string of binary digits."""
    return "".join(format(value, f"0{bits}b") for value, bits in codes if bits)


def scaled(samples: npt.NDArray[np.uint8], depth: int) -> npt.NDArray[np.uint32]:
    """8-bit samples as samples of `depth` bits over the full range."""
    return np.rint(samples.astype(np.float64) * ((2**depth - 1) / 255)).astype(np.uint32)

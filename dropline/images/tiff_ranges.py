"""From samples of any depth and format to 8 bits: which value is black, and which is white.

Ranges as in viewers: of integers of up to 16 bits, the highest 8 bits count; fewer bits that are stored in 16
count as what they are. Signed and wider integers are stretched from the smallest to the largest value, unless
unsigned values use the upper half of their range. Floats from 0 to 1 keep that range; others are stretched.
"""

import numpy as np

from dropline.images.tiff_files import is_of_files
from dropline.images.tiff_pages import Page
from dropline.images.tiff_samples import Samples
from dropline.images.tiff_segments import Bytes

#: Rows that are converted at once are so many that they have about this number of samples: bounds the memory.
_BLOCK = 4_194_304
#: The largest sample of twelve bits.
TWELVE_BITS = 4_095


def eight_bits(samples: Samples, page: Page, alpha: bool = False) -> Bytes:
    """Map samples to 0 to 255, as viewers do.

    Args:
        samples: uint, int or float, [height, width, any number].
        page: has the depth of the samples.
        alpha: True for opacity, whose range is that of the type and not that of the values.
    """
    bits = min(page.bits, samples.dtype.itemsize * 8)
    if samples.dtype.kind == "u" and bits <= 16:
        if bits == 8:
            return samples
        if bits > 8:
            if page.bits == 16 and not alpha and (most := _most_of_words(samples, page)):
                return _stretched(samples, 0.0, most)
            # Pillow scales the samples of JPEG 2000 and PNG to all 16 bits.
            return (samples >> (8 if is_of_files(page) else bits - 8)).astype(np.uint8)
        steps = 2**bits - 1
        return np.rint(np.arange(256) * 255 / steps).clip(0, 255).astype(np.uint8)[samples]
    low, high = _type_range(samples, bits) if alpha else _value_range(samples, page.no_data())
    return _stretched(samples, low, high)


def _most_of_words(samples: Samples, page: Page) -> float | None:
    """The largest value of samples of fewer bits that are stored in 16; None where 16 bits are used.

    The file states the value. Cameras and microscopes of 12 bits often do not: their pictures would be black.
    """
    if is_of_files(page) or not samples.size:
        return None
    highest, stated = int(samples.max()), page.stated_most() or 65_535
    if highest <= stated < 65_535:
        return float(stated)
    return float(TWELVE_BITS) if highest <= TWELVE_BITS else None


def _type_range(samples: Samples, bits: int) -> tuple[float, float]:
    if samples.dtype.kind == "f":
        return 0.0, 1.0
    return 0.0, float(2 ** (bits - (samples.dtype.kind == "i")) - 1)


def _value_range(samples: Samples, no_data: float | None) -> tuple[float, float]:
    """The smallest and the largest value; of floats, 0 and 1 where all values are between.

    Pixels without data do not count: their value is often far outside, and would leave the others one shade.
    """
    low, high = np.inf, -np.inf
    for block in blocks(samples):
        seen = block[np.isfinite(block)] if samples.dtype.kind == "f" else block
        if no_data is not None:
            seen = (
                seen[seen != samples.dtype.type(no_data)] if samples.dtype.kind == "f" else seen[seen != no_data]
            )
        if seen.size:
            low, high = min(low, float(seen.min())), max(high, float(seen.max()))
    if samples.dtype.kind == "f":
        return (0.0, 1.0) if (low >= 0 and high <= 1) or low > high else (low, high)
    # Values in the upper half of the range of unsigned samples: the file uses the whole range.
    full = 2.0 ** (8 * samples.dtype.itemsize)
    whole = low > high or (samples.dtype.kind == "u" and high >= full / 2)
    return (0.0, full) if whole else (low, high)


def blocks(samples: Samples) -> list[Samples]:
    """Parts of the rows, each of some million samples: bounds the memory of conversions."""
    step = max(1, _BLOCK // (samples.shape[1] * samples.shape[2]))
    return [samples[at : at + step] for at in range(0, len(samples), step)]


def _stretched(samples: Samples, low: float, high: float) -> Bytes:
    out = np.empty(samples.shape, np.uint8)
    # Half the memory and time, where the samples have no more digits.
    small = samples.dtype.itemsize <= (4 if samples.dtype.kind == "f" else 2)
    dtype = np.float32 if small else np.float64
    # Halves: the range of the largest floats is no float.
    span = max(high / 2 - low / 2, float(np.finfo(np.float32).tiny))
    at = 0
    for block in blocks(samples):
        values = np.nan_to_num(block.astype(dtype), nan=low, posinf=high, neginf=low)
        out[at : at + len(block)] = np.rint(np.clip((values / 2 - low / 2) / span, 0, 1) * 255)
        at += len(block)
    return out

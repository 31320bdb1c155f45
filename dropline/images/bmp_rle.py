"""The run-length compression of BMP, RLE8 and RLE4."""

import numpy as np
import numpy.typing as npt

from dropline.errors import InvalidImage
from dropline.images import refusals

#: Each run is a step in Python: two million steps take about two seconds. A screenshot has a tenth of that.
MAX_RUNS = 2_000_000

#: The value of each hexadecimal digit.
_HEX_VALUES = bytes(max(b"0123456789abcdef".find(each), 0) for each in range(256))
_END_OF_LINE, _END, _DELTA = 0, 1, 2


def unpack_rle(
    packed: bytes, width: int, height: int, four_bits: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return palette indices and which pixels are drawn, both [height, width], in the order of the file.

    Raises:
        InvalidImage: `truncated_image`: the data ends before its end mark, and before the last pixel.
        ImageRefused: `image_too_complex`.
    """
    unpacker = _Unpacker(packed, width, height, four_bits)
    for _ in range(MAX_RUNS):
        if not unpacker.step():
            return unpacker.indices, unpacker.drawn
    raise refusals.too_complex("BMP", "too many runs", f"{MAX_RUNS:,}")


class _Unpacker:
    """The position in the data and in the picture."""

    def __init__(self, packed: bytes, width: int, height: int, four_bits: bool) -> None:
        self._packed, self._width, self._four_bits = packed, width, four_bits
        self._at = self._x = self._y = 0
        self.indices = np.zeros((height, width), dtype=np.uint8)
        self.drawn = np.zeros((height, width), dtype=np.bool_)

    def step(self) -> bool:
        """Unpack one run or carry out one command; return False at the end."""
        if self._y >= len(self.indices):
            return False
        if self._at + 2 > len(self._packed):
            if self._y == len(self.indices) - 1 and self._x >= self._width:
                return False
            raise _cut()
        count, value = self._packed[self._at], self._packed[self._at + 1]
        self._at += 2
        if count:
            self._draw(self._pixels(bytes((value,)) * count, count))
            return True
        return self._command(value)

    def _command(self, value: int) -> bool:
        if value == _END_OF_LINE:
            self._x, self._y = 0, self._y + 1
        elif value == _DELTA:
            right, down = self._packed[self._at : self._at + 2].ljust(2, b"\x00")
            self._x, self._y, self._at = self._x + right, self._y + down, self._at + 2
        elif value != _END:
            size = (value + 1) // 2 if self._four_bits else value
            self._draw(self._pixels(self._packed[self._at : self._at + size], value))
            self._at += size + size % 2
        return value != _END

    def _pixels(self, packed: bytes, count: int) -> bytes:
        """One index of each byte, or two with four bits each."""
        if self._four_bits:
            packed = packed[: (count + 1) // 2].hex().encode().translate(_HEX_VALUES)
        return packed[:count]

    def _draw(self, run: bytes) -> None:
        end = min(self._x + len(run), self._width)
        if self._x < end:
            self.indices[self._y, self._x : end] = np.frombuffer(run, np.uint8, end - self._x)
            self.drawn[self._y, self._x : end] = True
        self._x = end


def _cut() -> InvalidImage:
    return refusals.truncated("BMP", "pixels are missing")

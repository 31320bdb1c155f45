"""BMP files with every header."""

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rgb = tuple[int, int, int]
RGB, RLE8, RLE4, BITFIELDS, JPEG, PNG = range(6)


def bmp(
    pixels: bytes,
    size: tuple[int, int],
    depth: int,
    *,
    header: int = 40,
    compression: int = RGB,
    masks: Sequence[int] = (),
    palette: Sequence[Rgb] = (),
    top_down: bool = False,
) -> bytes:
    """A whole file around rows of pixels.

    Args:
        pixels: the rows as stored, padded to four bytes.
        size: width and height.
        depth: bits per pixel.
        header: bytes of the header: 12 (OS/2), 40, 52, 56, 64 (OS/2 2), 108 (version 4) or 124 (version 5).
        compression: one of the constants of this module.
        masks: bits of red, green, blue and, on request, alpha.
        palette: colours.
        top_down: the height is written with a minus sign.
    """
    width, height = size
    colours = b"".join(bytes(colour[::-1]) + (b"" if header == 12 else b"\x00") for colour in palette)
    fields = struct.pack("<IHHHH", 12, width, height, 1, depth)
    if header != 12:
        height = -height if top_down else height
        fields = struct.pack(
            "<IiiHHIIiiII", header, width, height, 1, depth, compression, len(pixels), 0, 0, len(palette), 0
        )
        fields = (fields + _masks(masks)).ljust(header if header > 40 else len(fields) + len(masks) * 4, b"\x00")
        if header >= 108:
            fields = fields[:56] + b"BGRs" + fields[60:]
    start = 14 + len(fields) + len(colours)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + fields + colours + pixels


def _masks(masks: Sequence[int]) -> bytes:
    return b"".join(struct.pack("<I", mask) for mask in masks)


def rows(packed: Sequence[bytes], top_down: bool = False) -> bytes:
    """Rows of packed pixels padded to four bytes, the last row first."""
    ordered = packed if top_down else packed[::-1]
    return b"".join(row + bytes(-len(row) % 4) for row in ordered)


def words(
    samples: npt.NDArray[np.integer], bits: tuple[int, ...], shifts: tuple[int, ...], kind: str
) -> list[bytes]:
    """Samples of 8 bits, [height, width, channels], as pixels of one word, with the channels at their shifts."""
    word = np.zeros(samples.shape[:2], np.uint32)
    for channel, (width, shift) in enumerate(zip(bits, shifts, strict=True)):
        part = np.rint(samples[..., channel].astype(float) * ((2**width - 1) / 255)).astype(np.uint32)
        word |= part << np.uint32(shift)
    return [row.astype(kind).tobytes() for row in word]


def rle8(indexes: npt.NDArray[np.uint8]) -> bytes:
    """Runs of equal pixels, with the codes for the end of a row and of the picture."""
    return b"".join(_runs(row.tolist(), 1) + b"\x00\x00" for row in indexes[::-1]) + b"\x00\x01"


def rle4(indexes: npt.NDArray[np.uint8]) -> bytes:
    """As `rle8`, with two pixels of one colour in a byte."""
    return b"".join(_runs(row.tolist(), 17) + b"\x00\x00" for row in indexes[::-1]) + b"\x00\x01"


def _runs(row: list[int], factor: int) -> bytes:
    found, at = b"", 0
    while at < len(row):
        end = at
        while end < len(row) and row[end] == row[at] and end - at < 255:
            end += 1
        found += bytes([end - at, row[at] * factor])
        at = end
    return found

"""GIF files, block by block; the pixels are stored without compression."""

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_PASSES = ((0, 8), (4, 8), (2, 4), (1, 2))
Rgb = tuple[int, int, int]


def screen(
    width: int, height: int, colours: Sequence[Rgb] = (), version: bytes = b"89a", background: int = 0
) -> bytes:
    """Signature, screen and the global table of colours (two to 256)."""
    flags = 0x80 | 0x70 | (_table_bits(colours) - 1) if colours else 0x70
    return b"GIF" + version + struct.pack("<HHBBB", width, height, flags, background, 0) + _table(colours)


def control(transparent: int | None = None, disposal: int = 0, delay: int = 0) -> bytes:
    """The graphic control block of the next frame."""
    flags = disposal << 2 | (transparent is not None)
    return b"\x21\xf9\x04" + struct.pack("<BHB", flags, delay, transparent or 0) + b"\x00"


def frame(
    indexes: npt.NDArray[np.uint8],
    left: int = 0,
    top: int = 0,
    *,
    interlaced: bool = False,
    colours: Sequence[Rgb] = (),
) -> bytes:
    """One frame, [height, width], at a place of the screen, with its own table of colours on request."""
    height, width = indexes.shape
    flags = (0x80 | (_table_bits(colours) - 1) if colours else 0) | (0x40 if interlaced else 0)
    if interlaced:
        indexes = np.concatenate([indexes[start::step] for start, step in _PASSES])
    place = b"," + struct.pack("<HHHHB", left, top, width, height, flags)
    return place + _table(colours) + b"\x08" + _blocks(_codes(indexes.reshape(-1))) + b"\x00"


def _codes(indexes: npt.NDArray[np.uint8]) -> bytes:
    """Nine bits per pixel; a clear code every 250 pixels keeps the codes at nine bits."""
    codes: list[int] = []
    for at in range(0, len(indexes), 250):
        codes += [256, *indexes[at : at + 250].tolist()]
    bits = (np.array([*codes, 257])[:, None] >> np.arange(9)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def _blocks(data: bytes) -> bytes:
    parts = (data[at : at + 255] for at in range(0, len(data), 255))
    return b"".join(bytes([len(part)]) + part for part in parts)


def _table_bits(colours: Sequence[Rgb]) -> int:
    return max(1, (len(colours) - 1).bit_length())


def _table(colours: Sequence[Rgb]) -> bytes:
    if not colours:
        return b""
    return b"".join(bytes(colour) for colour in colours).ljust(3 << _table_bits(colours), b"\x00")

"""PNG files of every colour type and depth, chunk by chunk."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tests.corpus.writers.bits import packed_rows

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_ADAM7 = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))


def chunk(name: bytes, body: bytes, checksum: int | None = None) -> bytes:
    """A chunk with length and checksum; `checksum` replaces the right value."""
    right = zlib.crc32(name + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", right)


def header(width: int, height: int, depth: int = 8, colour: int = RGB, interlaced: bool = False) -> bytes:
    """The IHDR chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def compressed(samples: npt.NDArray[np.integer], depth: int = 8, interlaced: bool = False) -> bytes:
    """Samples, [height, width] or [height, width, channels], as the content of IDAT."""
    passes = [samples]
    if interlaced:
        passes = [samples[y::down, x::across] for y, down, x, across in _ADAM7]
    rows = [row for part in passes if part.size for row in packed_rows(part, depth)]
    return zlib.compress(b"".join(b"\x00" + row for row in rows))


def png(
    samples: npt.NDArray[np.integer],
    colour: int = RGB,
    depth: int = 8,
    *,
    interlaced: bool = False,
    before: Sequence[bytes] = (),
    after: Sequence[bytes] = (),
) -> bytes:
    """A whole file.

    Args:
        samples: [height, width] or [height, width, channels], of `depth` bits.
        colour: the colour type of IHDR.
        depth: bits per sample.
        interlaced: in the seven passes of Adam7.
        before: chunks between IHDR and IDAT.
        after: chunks between IDAT and IEND.
    """
    start = header(samples.shape[1], samples.shape[0], depth, colour, interlaced)
    pixels = chunk(b"IDAT", compressed(samples, depth, interlaced))
    return SIGNATURE + start + b"".join(before) + pixels + b"".join(after) + END


def palette(colours: Sequence[tuple[int, ...]]) -> bytes:
    """The PLTE chunk."""
    return chunk(b"PLTE", b"".join(bytes(colour) for colour in colours))

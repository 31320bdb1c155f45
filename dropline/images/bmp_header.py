"""The headers of BMP files, in all their versions."""

import struct
from dataclasses import dataclass

_FILE_HEADER_BYTES = 14
#: OS/2 1.x; OS/2 2.x in its short and full form; Windows 3, with masks, with an alpha mask, 4 and 5.
_OS2_HEADER = 12
_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_BITS = frozenset({0, 1, 2, 4, 8, 16, 24, 32, 64})
_LARGEST_HEADER = 0x1000


@dataclass(frozen=True, slots=True)
class BmpHeader:
    """The facts of a BMP's headers."""

    width: int
    height: int
    #: True if the first stored row is the topmost.
    top_down: bool
    bits: int
    #: As in BITMAPINFOHEADER: 0 none, 1 RLE8, 2 RLE4, 3 bit fields, 4 JPEG, 5 PNG, 6 bit fields with alpha.
    compression: int
    header_bytes: int
    #: Entries of the palette as the header has them; 0: all that the bits allow.
    colours: int
    #: Where the file's header places the pixels.
    pixels_at: int


def looks_like_bmp(data: bytes) -> bool:
    """Return True if `data` begins with a plausible BMP header: "BM" alone begins many a text."""
    if not data.startswith(b"BM"):
        return False
    size = int.from_bytes(data[14:18], "little")
    if len(data) < 26:
        return b"\x00" in data[6:10]
    planes_at = 22 if size == _OS2_HEADER else 26
    planes = int.from_bytes(data[planes_at : planes_at + 2], "little")
    return _OS2_HEADER <= size <= _LARGEST_HEADER and (size in _HEADER_SIZES or planes == 1)


def read_header(data: bytes) -> BmpHeader | None:
    """Return the facts of the headers; None if the headers are cut short."""
    pixels_at, size = int.from_bytes(data[10:14], "little"), int.from_bytes(data[14:18], "little")
    if len(data) < _FILE_HEADER_BYTES + size:
        return None
    if size == _OS2_HEADER:
        width, height, _, bits = struct.unpack_from("<4H", data, 18)
        return BmpHeader(width, height, False, bits, 0, size, 0, pixels_at)
    fields = data[18 : 14 + size].ljust(36, b"\x00")
    width, height, _, bits, compression, _, _, _, colours = struct.unpack_from("<iiHHIIiiI", fields)
    return BmpHeader(width, abs(height), height < 0, bits, compression, size, colours, pixels_at)

"""The orientation in EXIF bytes. No other tag is read."""

import struct
from typing import Literal

_ORIENTATION = 0x0112
_SHORT = 3
_ENTRY_BYTES = 12
_BYTE_ORDERS: dict[bytes, Literal["<", ">"]] = {b"II": "<", b"MM": ">"}


def orientation(exif: bytes) -> int:
    """Return the orientation of the main picture, 1 to 8; 1 if it is absent, unreadable or senseless.

    Browsers read the same tag of the same directory, and never XMP. The time is bounded by the 65,535 entries of
    one directory.
    """
    tiff = exif.removeprefix(b"Exif\x00\x00")
    order = _BYTE_ORDERS.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (at,) = struct.unpack_from(f"{order}I", tiff, 4)
    directory = tiff[at : at + 2 + 65_535 * _ENTRY_BYTES]
    if len(directory) < 2:
        return 1
    count = min(struct.unpack_from(f"{order}H", directory)[0], (len(directory) - 2) // _ENTRY_BYTES)
    for entry in range(2, 2 + count * _ENTRY_BYTES, _ENTRY_BYTES):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", directory, entry)
        if tag == _ORIENTATION and (kind, values) == (_SHORT, 1):
            return value if 1 <= value <= 8 else 1
    return 1

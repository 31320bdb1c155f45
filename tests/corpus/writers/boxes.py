"""Boxes of ISO base media files: HEIF, AVIF, JPEG 2000, JPEG XL, Canon's CR3 and videos."""

import struct
from collections.abc import Iterator


def box(name: bytes, *parts: bytes) -> bytes:
    """One box with its length."""
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + name + body


def full_box(name: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    """One box with version and flags."""
    return box(name, struct.pack(">I", version << 24 | flags), *parts)


def file_type(brand: bytes, *compatible: bytes) -> bytes:
    """The first box of a file."""
    return box(b"ftyp", brand, bytes(4), *(compatible or (brand,)))


def boxes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Start, end and name of each box on the first level of `data`."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big") or len(data) - at
        if length < 8:
            return
        yield at, min(at + length, len(data)), data[at + 4 : at + 8]
        at += length

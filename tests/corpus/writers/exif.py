"""EXIF blocks for JPEG, PNG, WebP and HEIF."""

import struct


def block(orientation: int, order: str = "<", kind: int = 3, thumbnail_orientation: int = 0) -> bytes:
    """A TIFF block with an orientation and, on request, a second directory with another orientation."""
    entry = struct.pack(f"{order}HHI", 0x0112, kind, 1)
    entry += struct.pack(f"{order}HH", orientation, 0) if kind == 3 else struct.pack(f"{order}I", orientation)
    first = struct.pack(f"{order}H", 1) + entry
    second = b""
    if thumbnail_orientation:
        second = struct.pack(f"{order}HHHIHHI", 1, 0x0112, 3, 1, thumbnail_orientation, 0, 0)
    following = struct.pack(f"{order}I", 8 + len(first) + 4 if second else 0)
    return (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(f"{order}I", 8) + first + following + second


def app1(orientation: int, order: str = "<", **options: int) -> bytes:
    """The body of a JPEG's EXIF segment."""
    return b"Exif\x00\x00" + block(orientation, order, **options)

"""The chunks of PNG and APNG that decide the picture. Other chunks are skipped unread."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from dropline.errors import InvalidImage
from dropline.images import refusals
from dropline.images.picture import MAX_PROFILE_BYTES

#: 100,000 pixel chunks of the usual 8,192 bytes are 800 MB.
MAX_CHUNKS = 100_000

_SIGNATURE_BYTES = 8
_CHECKED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"sRGB", b"iCCP", b"eXIf", b"acTL", b"fcTL"})
_REQUIRED = frozenset({b"IHDR", b"PLTE"})


@dataclass(frozen=True, slots=True)
class PngFrame:
    """The rectangle of an animation's first frame."""

    width: int
    height: int
    left: int
    top: int


@dataclass(slots=True)
class PngParts:
    """The chunks that decide the picture."""

    chunks: dict[bytes, bytes] = field(default_factory=dict)
    #: Compressed pixels of the default picture, and of the first frame behind it.
    default: list[bytes] = field(default_factory=list)
    animated: list[bytes] = field(default_factory=list)
    #: The first frame, if the default picture is no part of the animation.
    frame: PngFrame | None = None
    #: True if the file has no end chunk.
    cut: bool = True


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Name, body and intactness of each chunk. Only chunks that the picture depends on are checked."""
    at, count = _SIGNATURE_BYTES, 0
    while at + 8 <= len(data):
        count += 1
        if count > MAX_CHUNKS:
            raise refusals.too_complex("PNG", "too many chunks", f"{MAX_CHUNKS:,}")
        (length,), name = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        whole = len(body) == length
        if whole and (name in _CHECKED or (name[:1].isupper() and name != b"IDAT")):
            whole = data[at + 8 + length : at + 12 + length] == struct.pack(">I", zlib.crc32(name + body))
        yield name, body, whole
        at += 12 + length


def split_png(data: bytes) -> PngParts:
    parts = PngParts()
    for name, body, intact in _chunks(data):
        if name == b"IDAT":
            parts.default.append(body)
        elif name == b"IEND":
            parts.cut = False
            break
        elif not _note(parts, name, body, intact):
            break
    return parts


def _note(parts: PngParts, name: bytes, body: bytes, intact: bool) -> bool:
    """Keep a chunk that decides the picture; return False behind the first frame, where nothing decides it."""
    if name in _REQUIRED and not intact:
        raise refusals.corrupt("PNG", f"the chunk {name.decode()} is damaged")
    if not name.isalpha():
        return False
    if name[:1].isupper() and name not in _REQUIRED:
        raise _unknown(name, intact)
    if name == b"fcTL" and intact and parts.default and any(parts.chunks.get(b"acTL", b"")[:4]):
        parts.cut = False
        if b"fcTL" in parts.chunks or parts.animated:
            return False
        parts.frame = _frame(body)
    elif name == b"fdAT" and parts.frame:
        parts.animated.append(body[4:])
    elif intact and (name == b"eXIf" or not parts.default):
        parts.chunks.setdefault(name, body if name in _CHECKED else b"")
    return True


def _unknown(name: bytes, intact: bool) -> InvalidImage:
    """The refusal of a chunk that, by the capital in its name, may not be skipped."""
    if name == b"CgBI":
        return refusals.unsupported("a PNG in Apple's own variant (CgBI)")
    if intact:
        return refusals.unsupported(f"a PNG with the unknown chunk {name.decode('ascii')}")
    return refusals.corrupt("PNG", "a chunk is damaged")


def _frame(body: bytes) -> PngFrame | None:
    return PngFrame(*struct.unpack_from(">IIII", body, 4)) if len(body) >= 20 else None


def profile_of(body: bytes) -> bytes | None:
    """The decompressed profile; None without one, and for a damaged one or one of many megabytes."""
    _, end, packed = body.partition(b"\x00")
    if not end or packed[:1] != b"\x00":
        return None
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(packed[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if unpacker.eof and profile else None


def gamma_of(body: bytes) -> float | None:
    return int.from_bytes(body[:4], "big") / 100_000 if len(body) == 4 and any(body) else None

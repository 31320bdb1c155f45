"""WebP: the chunks in our own code, the pixels by libwebp through Pillow.

The decoder gets a file with the first frame alone: metadata and later frames cost time and change no caption.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image, WebPImagePlugin

from dropline.contract import Dimensions
from dropline.images import refusals
from dropline.images.exif import orientation
from dropline.images.picture import Picture
from dropline.images.transfers import has_text_line_ends
from dropline.settings import ImageSettings

MAX_CHUNKS = 10_000
#: libwebp's decoder of animations, which Pillow uses for all files, has two canvases of RGBA. The third picture is
#: the copy that Pillow makes.
_BYTES_PER_PIXEL = 12

_HEADER_BYTES = 12
_ANIMATED, _ALPHA = 0x02, 0x10
_PIXEL_CHUNKS = frozenset({b"VP8 ", b"VP8L", b"ANMF"})


@dataclass(slots=True)
class _Parts:
    """The chunks that decide the picture, each with its header."""

    extended: bytes = b""
    alpha: tuple[bytes | memoryview, ...] = ()
    #: Header, body and padding; the body is a part of the file, since a copy could have a hundred megabytes.
    pixels: tuple[bytes | memoryview, ...] = ()
    pixel_kind: bytes = b""
    exif: bytes = b""
    profile: bytes = b""
    #: Names of chunks whose end is missing.
    cut: set[bytes] = field(default_factory=set)


def read_webp(data: bytes, side_px: int, limits: ImageSettings) -> Picture:  # noqa: ARG001
    """Decode a WebP, or the first frame of an animation on the transparent canvas.

    Raises:
        InvalidImage: `truncated_image` or `corrupt_image`.
        ImageRefused: `image_too_large` or `image_too_complex`.
        MemoryError: the memory limit is too low for the pixels.
    """
    parts = _split(data)
    if not parts.pixels:
        cut = parts.cut or _HEADER_BYTES - 4 + _little(data, 4, 4) > len(data)
        raise (refusals.truncated if cut else refusals.corrupt)("WEBP", "it has no pixels")
    if has_text_line_ends(bytes(parts.pixels[1][:65_536])):
        raise refusals.damaged_by_transfer("a WEBP damaged by a text-mode transfer")
    width, height = _size(parts)
    refusals.check_size(width, height, limits)
    refusals.check_memory(_BYTES_PER_PIXEL * width * height, limits)
    try:
        image = _decoded(parts)
    except (EOFError, OSError, ValueError, SyntaxError):
        refusals.check_room(_BYTES_PER_PIXEL * width * height)
        # libwebp gives no reasons.
        if parts.pixel_kind in parts.cut:
            raise refusals.truncated("WEBP", "pixels are missing") from None
        raise refusals.corrupt("WEBP", "its pixels cannot be decoded") from None
    return Picture(image, Dimensions(*image.size), orientation(parts.exif), parts.profile or None)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Name, body and completeness of each chunk."""
    at, count, view = _HEADER_BYTES, 0, memoryview(data)
    while at + 8 <= len(data):
        count += 1
        if count > MAX_CHUNKS:
            raise refusals.too_complex("WEBP", "too many chunks", f"{MAX_CHUNKS:,}")
        (length,) = struct.unpack_from("<I", data, at + 4)
        yield data[at : at + 4], view[at + 8 : at + 8 + length], at + 8 + length <= len(data)
        at += 8 + length + length % 2


def _split(data: bytes) -> _Parts:
    parts = _Parts()
    for name, body, whole in _chunks(data):
        if not whole:
            parts.cut.add(name)
        if name == b"VP8X":
            parts.extended = bytes(body[:10])
        elif name == b"ALPH" and not parts.pixels:
            parts.alpha = _chunk(name, body)
        elif name in _PIXEL_CHUNKS and not parts.pixels:
            parts.pixel_kind, parts.pixels = name, _chunk(name, body)
        elif name == b"EXIF" and not parts.exif:
            parts.exif = bytes(body)
        elif name == b"ICCP" and not parts.profile:
            parts.profile = bytes(body) if whole else b""
    return parts


def _chunk(name: bytes, body: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    return name + struct.pack("<I", len(body)), body, b"\x00" * (len(body) % 2)


def _size(parts: _Parts) -> tuple[int, int]:
    """Width and height of the canvas, or of the only frame."""
    body = bytes(parts.pixels[1][:10])
    if len(parts.extended) >= 10:
        return _little(parts.extended, 4, 3) + 1, _little(parts.extended, 7, 3) + 1
    if parts.pixel_kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return _little(body, 6, 2) & 0x3FFF, _little(body, 8, 2) & 0x3FFF
    if parts.pixel_kind == b"VP8L" and body[:1] == b"\x2f":
        packed = _little(body, 1, 4)
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    raise refusals.corrupt("WEBP", "its header is invalid")


def _decoded(parts: _Parts) -> Image.Image:
    chunks = parts.alpha + parts.pixels
    if len(parts.extended) >= 10:
        kept = bytes((parts.extended[0] & (_ANIMATED | _ALPHA),)) + parts.extended[1:10]
        loop = _chunk(b"ANIM", b"\x00" * 6) if parts.pixel_kind == b"ANMF" else ()
        chunks = (*_chunk(b"VP8X", kept), *loop, *chunks)
    length = 4 + sum(len(each) for each in chunks)
    file = b"".join((b"RIFF", struct.pack("<I", length), b"WEBP", *chunks))
    decoder = WebPImagePlugin.WebPImageFile(io.BytesIO(file))
    del file
    # Image.load would copy the pixels once more while the decoder has its canvases: a gigabyte for 100 megapixels.
    pixels, size = decoder._get_next()[0], decoder.size  # noqa: SLF001
    opaque = decoder.mode == "RGB"
    del decoder
    image = Image.frombuffer("RGBX" if opaque else "RGBA", size, pixels, "raw", "RGBX" if opaque else "RGBA", 0, 1)
    return image.convert("RGB") if opaque else image


def _little(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count], "little")

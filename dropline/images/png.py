"""PNG and APNG: the chunks in our own code, the pixels by Pillow's zlib decoder.

The decoder gets the compressed pixels alone. Chunks without influence on the picture are not read, and neither are
the checksums of the pixel chunks: zlib has its own.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from dropline.contract import Dimensions
from dropline.errors import InvalidImage
from dropline.images import refusals
from dropline.images.exif import orientation
from dropline.images.picture import Picture
from dropline.settings import ImageSettings

#: 100,000 pixel chunks of the usual 8,192 bytes are 800 MB.
MAX_CHUNKS = 100_000
MAX_PROFILE_BYTES = 4_194_304

_SIGNATURE_BYTES = 8
_CHECKED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"sRGB", b"iCCP", b"eXIf", b"acTL", b"fcTL"})
_REQUIRED = frozenset({b"IHDR", b"PLTE"})
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
#: Pillow's mode and raw mode by colour type and bit depth. RGB of 16 bits comes out as the high bytes.
_MODES = {
    (_GREY, 1): ("1", "1"), (_GREY, 2): ("L", "L;2"), (_GREY, 4): ("L", "L;4"), (_GREY, 8): ("L", "L"),
    (_GREY, 16): ("I;16", "I;16B"), (_RGB, 8): ("RGB", "RGB"), (_RGB, 16): ("RGB", "RGB;16B"),
    (_PALETTE, 1): ("P", "P;1"), (_PALETTE, 2): ("P", "P;2"), (_PALETTE, 4): ("P", "P;4"),
    (_PALETTE, 8): ("P", "P"),
    (_GREY_ALPHA, 8): ("LA", "LA"), (_GREY_ALPHA, 16): ("RGBA", "LA;16B"),
    (_RGB_ALPHA, 8): ("RGBA", "RGBA"), (_RGB_ALPHA, 16): ("RGBA", "RGBA;16B"),
}  # fmt: skip
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGB_ALPHA: 4}
#: First row, first column, row step and column step of Adam7's seven passes.
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_COUNT_STEP_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    bits: int
    colour: int
    interlaced: bool


@dataclass(frozen=True, slots=True)
class _Frame:
    """The rectangle of an animation's first frame."""

    width: int
    height: int
    left: int
    top: int


@dataclass(slots=True)
class _Parts:
    """The chunks that decide the picture."""

    chunks: dict[bytes, bytes] = field(default_factory=dict)
    #: Compressed pixels of the default picture, and of the first frame behind it.
    default: list[bytes] = field(default_factory=list)
    animated: list[bytes] = field(default_factory=list)
    #: The first frame, if the default picture is no part of the animation.
    frame: _Frame | None = None
    #: True if the file has no end chunk.
    cut: bool = True


def read_png(data: bytes, side_px: int, limits: ImageSettings) -> Picture:  # noqa: ARG001
    """Decode a PNG, or the first frame that browsers show of an APNG; 16-bit samples keep their high bytes.

    Colour: iCCP, else sRGB, else gAMA. cHRM and cICP are ignored: a caption does not depend on primaries.

    Raises:
        InvalidImage: `truncated_image`, `corrupt_image` or `unsupported_format`.
        ImageRefused: `image_too_large` or `image_too_complex`.
    """
    parts = _split(data)
    header = _header(parts)
    refusals.check_size(header.width, header.height, limits)
    if not parts.default and not parts.animated:
        raise _missing(parts, "it has no pixels")
    shown = parts.frame and parts.animated
    image = _first_frame(parts, header) if shown else _pixels(parts, header, parts.default)
    return Picture(
        image,
        Dimensions(header.width, header.height),
        orientation(parts.chunks.get(b"eXIf", b"")),
        profile := _profile(parts.chunks.get(b"iCCP", b"")),
        None if profile or b"sRGB" in parts.chunks else _gamma(parts.chunks.get(b"gAMA", b"")),
    )


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


def _split(data: bytes) -> _Parts:
    parts = _Parts()
    for name, body, intact in _chunks(data):
        if name == b"IDAT":
            parts.default.append(body)
        elif name == b"IEND":
            parts.cut = False
            break
        elif not _note(parts, name, body, intact):
            break
    return parts


def _note(parts: _Parts, name: bytes, body: bytes, intact: bool) -> bool:
    """Keep a chunk that decides the picture; return False behind the first frame, where nothing decides it."""
    if name in _REQUIRED and not intact:
        raise refusals.corrupt("PNG", f"the chunk {name.decode()} is damaged")
    if not name.isalpha():
        return False
    if name[:1].isupper() and name not in _REQUIRED:
        raise _unknown(name, intact)
    if name == b"fcTL" and intact and parts.default and b"acTL" in parts.chunks:
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


def _frame(body: bytes) -> _Frame | None:
    return _Frame(*struct.unpack_from(">IIII", body, 4)) if len(body) >= 20 else None


def _header(parts: _Parts) -> _Header:
    body = parts.chunks.get(b"IHDR", b"")
    if len(body) != 13:
        raise _missing(parts, "it has no header")
    width, height, bits, colour, compression, filters, interlace = struct.unpack(">IIBBBBB", body)
    if (colour, bits) not in _MODES or compression or filters or interlace > 1 or not 0 < width * height < 2**62:
        raise refusals.corrupt("PNG", "its header is invalid")
    if colour == _PALETTE and not parts.chunks.get(b"PLTE"):
        raise _missing(parts, "its palette is missing")
    return _Header(width, height, bits, colour, bool(interlace))


def _missing(parts: _Parts, reason: str) -> InvalidImage:
    return refusals.truncated("PNG", reason) if parts.cut else refusals.corrupt("PNG", reason)


def _first_frame(parts: _Parts, header: _Header) -> Image.Image:
    """The first frame of an animation without its default picture, on a transparent canvas."""
    frame = parts.frame
    assert frame is not None
    inside = frame.left + frame.width <= header.width and frame.top + frame.height <= header.height
    if not inside or not frame.width or not frame.height:
        raise refusals.corrupt("PNG", "its first frame does not fit")
    part = _Header(frame.width, frame.height, header.bits, header.colour, header.interlaced)
    image = _pixels(parts, part, parts.animated)
    if image.size == (header.width, header.height):
        return image
    canvas = Image.new("RGBA", (header.width, header.height))
    canvas.paste(image.convert("RGBA"), (frame.left, frame.top))
    return canvas


def _pixels(parts: _Parts, header: _Header, compressed: list[bytes]) -> Image.Image:
    mode, raw = _MODES[header.colour, header.bits]
    packed = b"".join(compressed)
    image = _unpacked(parts, header, mode, raw, packed)
    if _ends_empty(image) and _unpacked_bytes(packed) < _needed_bytes(header):
        raise _missing(parts, "pixels are missing")
    transparent = parts.chunks.get(b"tRNS", b"")
    if header.colour == _PALETTE:
        return _from_palette(image, parts.chunks[b"PLTE"], transparent)
    if header.colour == _GREY:
        return _from_grey(image, header.bits, transparent)
    if header.colour == _RGB and len(transparent) >= 6:
        low = _unpacked(parts, header, mode, "RGB;16L", packed) if header.bits == 16 else None
        return _from_rgb(image, low, transparent)
    return image


def _unpacked(parts: _Parts, header: _Header, mode: str, raw: str, packed: bytes) -> Image.Image:
    try:
        return Image.frombytes(mode, (header.width, header.height), packed, "zip", raw, int(header.interlaced))
    except ValueError as error:
        # Two texts of Pillow: the data ends before the last row, or zlib finds an error.
        if "not enough" in str(error):
            raise _missing(parts, "pixels are missing") from None
        raise refusals.corrupt("PNG", "its compressed pixels are damaged") from None


def _ends_empty(image: Image.Image) -> bool:
    """Return True if the last row is zero: the decoder leaves rows at zero that the file does not have."""
    last = image.crop((0, image.height - 1, image.width, image.height))
    return not any(last.tobytes())


def _unpacked_bytes(packed: bytes) -> int:
    """The length of the decompressed pixels, in bounded memory."""
    unpacker, total = zlib.decompressobj(), 0
    while not unpacker.eof and (packed or total == 0):
        block = unpacker.decompress(packed, _COUNT_STEP_BYTES)
        total, packed = total + len(block), unpacker.unconsumed_tail
        if not block:
            break
    return total


def _needed_bytes(header: _Header) -> int:
    bits = header.bits * _CHANNELS[header.colour]
    if not header.interlaced:
        return header.height * (1 + (header.width * bits + 7) // 8)
    total = 0
    for top, left, down, across in _ADAM7:
        rows, columns = -((top - header.height) // down), -((left - header.width) // across)
        total += rows * (1 + (columns * bits + 7) // 8) if rows > 0 and columns > 0 else 0
    return total


def _from_palette(image: Image.Image, palette: bytes, alphas: bytes) -> Image.Image:
    """RGB, or RGBA if an entry is transparent. Indices beyond the palette are black, as in browsers."""
    image.putpalette(palette[: len(palette) // 3 * 3][:768].ljust(768, b"\x00"))
    if not alphas:
        return image.convert("RGB")
    image.info["transparency"] = alphas[:256].ljust(256, b"\xff")
    return image.convert("RGBA")


def _from_grey(image: Image.Image, bits: int, transparent: bytes) -> Image.Image:
    """L, or LA if one shade is transparent; the shade is compared in the bits of the file."""
    image = image.convert("L") if image.mode == "1" else image
    samples = np.asarray(image)
    grey = Image.fromarray((samples >> 8).astype(np.uint8)) if bits == 16 else image
    if len(transparent) < 2:
        return grey
    shade = int.from_bytes(transparent[:2], "big")
    scaled = shade if bits >= 8 else (shade & ((1 << bits) - 1)) * 255 // ((1 << bits) - 1)
    return Image.merge("LA", (grey, Image.fromarray(np.where(samples == scaled, 0, 255).astype(np.uint8))))


def _from_rgb(high: Image.Image, low: Image.Image | None, transparent: bytes) -> Image.Image:
    """RGBA: one colour is transparent, compared in all bits. `low` has the low bytes of 16-bit samples."""
    colour = struct.unpack(">3H", transparent[:6])
    if low is None:
        hidden = (np.asarray(high) == [each & 0xFF for each in colour]).all(axis=2)
    else:
        hidden = (np.asarray(high) == [each >> 8 for each in colour]).all(axis=2)
        hidden &= (np.asarray(low) == [each & 0xFF for each in colour]).all(axis=2)
    image = high.copy()
    image.putalpha(Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)))
    return image


def _profile(body: bytes) -> bytes | None:
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


def _gamma(body: bytes) -> float | None:
    return int.from_bytes(body[:4], "big") / 100_000 if len(body) == 4 and any(body) else None

"""PNG and APNG: the chunks in our own code, the pixels by Pillow's zlib decoder.

The decoder gets the compressed pixels alone. Chunks without influence on the picture are not read, and neither are
the checksums of the pixel chunks: zlib has its own.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from dropline.contract import Dimensions
from dropline.errors import InvalidImage
from dropline.images import refusals
from dropline.images.canvas import on_canvas
from dropline.images.exif import orientation
from dropline.images.picture import Picture
from dropline.images.png_chunks import PngParts, gamma_of, profile_of, split_png
from dropline.settings import ImageSettings

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
#: Of an interlaced picture, the last pass writes each second row.
_LAST_ROWS = 2
_MARK = (91, 203, 17, 149)
_CHECKSUM_BYTES = 4
_COUNT_STEP_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    bits: int
    colour: int
    interlaced: bool


def read_png(data: bytes, side_px: int, limits: ImageSettings) -> Picture:  # noqa: ARG001
    """Decode a PNG, or the first frame that browsers show of an APNG; 16-bit samples keep their high bytes.

    Colour: iCCP, else sRGB, else gAMA. cHRM and cICP are ignored: a caption does not depend on primaries.

    Raises:
        InvalidImage: `truncated_image`, `corrupt_image` or `unsupported_format`.
        ImageRefused: `image_too_large` or `image_too_complex`.
    """
    parts = split_png(data)
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
        profile := profile_of(parts.chunks.get(b"iCCP", b"")),
        None if profile or b"sRGB" in parts.chunks else gamma_of(parts.chunks.get(b"gAMA", b"")),
    )


def _header(parts: PngParts) -> _Header:
    body = parts.chunks.get(b"IHDR", b"")
    if len(body) != 13:
        raise _missing(parts, "it has no header")
    width, height, bits, colour, compression, filters, interlace = struct.unpack(">IIBBBBB", body)
    if (colour, bits) not in _MODES or compression or filters or interlace > 1 or not 0 < width * height < 2**62:
        raise refusals.corrupt("PNG", "its header is invalid")
    if colour == _PALETTE and not parts.chunks.get(b"PLTE"):
        raise _missing(parts, "its palette is missing")
    return _Header(width, height, bits, colour, bool(interlace))


def _missing(parts: PngParts, reason: str) -> InvalidImage:
    return refusals.truncated("PNG", reason) if parts.cut else refusals.corrupt("PNG", reason)


def _first_frame(parts: PngParts, header: _Header) -> Image.Image:
    """The first frame of an animation without its default picture, at its place."""
    frame = parts.frame
    assert frame is not None
    inside = frame.left + frame.width <= header.width and frame.top + frame.height <= header.height
    if not inside or not frame.width or not frame.height:
        raise refusals.corrupt("PNG", "its first frame does not fit")
    part = _Header(frame.width, frame.height, header.bits, header.colour, header.interlaced)
    image = _pixels(parts, part, parts.animated)
    return on_canvas(image, (header.width, header.height), frame.left, frame.top)


def _pixels(parts: PngParts, header: _Header, compressed: list[bytes]) -> Image.Image:
    mode, raw = _MODES[header.colour, header.bits]
    packed = b"".join(compressed)
    image = _unpacked(parts, header, mode, raw, packed)
    if _ends_unwritten(image) and _unpacked_bytes(packed) < _needed_bytes(header):
        raise _missing(parts, "pixels are missing")
    transparent = parts.chunks.get(b"tRNS", b"")
    if header.colour == _PALETTE:
        return _from_palette(image, parts.chunks[b"PLTE"], transparent)
    if header.colour == _GREY:
        return _from_grey(image, header.bits, transparent)
    if header.colour == _RGB and len(transparent) >= 6:
        different = _different(image, transparent[0 if header.bits == 16 else 1 : 6 : 2])
        if header.bits == 16 and different.getextrema() != (255, 255):
            low = _unpacked(parts, header, mode, "RGB;16L", packed)
            different = ImageChops.lighter(different, _different(low, transparent[1:6:2]))
        image.putalpha(different)
    return image


def _unpacked(parts: PngParts, header: _Header, mode: str, raw: str, packed: bytes) -> Image.Image:
    image = Image.new(mode, (header.width, header.height))
    image.paste(_last_rows(image), (0, max(image.height - _LAST_ROWS, 0)))
    try:
        image.frombytes(packed, "zip", (raw, int(header.interlaced)))
    except ValueError as error:
        # Two texts of Pillow: the data ends before the last row, or zlib finds an error.
        if "not enough" in str(error):
            raise _missing(parts, "pixels are missing") from None
        _without_checksum(image, header, raw, packed)
    return image


def _without_checksum(image: Image.Image, header: _Header, raw: str, packed: bytes) -> None:
    """Decode again without zlib's checksum, which a picture with all pixels does not need."""
    try:
        image.frombytes(packed[:-_CHECKSUM_BYTES], "zip", (raw, int(header.interlaced)))
    except ValueError:
        raise refusals.corrupt("PNG", "its compressed pixels are damaged") from None


def _last_rows(image: Image.Image) -> Image.Image:
    """The mark of pixels that the decoder has not written, in place of the last rows: a rare colour."""
    mark = _MARK[0] if len(image.getbands()) == 1 else _MARK[: len(image.getbands())]
    return Image.new(image.mode, (image.width, min(image.height, _LAST_ROWS)), mark)


def _ends_unwritten(image: Image.Image) -> bool:
    """Return True if a pixel of the last rows has the mark: the decoder leaves rows alone that the file lacks."""
    last = np.asarray(image.crop((0, max(image.height - _LAST_ROWS, 0), image.width, image.height)))
    same = last == np.asarray(_last_rows(image))
    return bool((same.all(axis=2) if same.ndim == 3 else same).any())


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
    grey = Image.fromarray(_high_bytes(samples)) if bits == 16 else image
    if len(transparent) < 2:
        return grey
    shade = int.from_bytes(transparent[:2], "big")
    scaled = shade if bits >= 8 else (shade & ((1 << bits) - 1)) * 255 // ((1 << bits) - 1)
    opaque = np.not_equal(samples, scaled).view(np.uint8)
    return Image.merge("LA", (grey, Image.fromarray(np.multiply(opaque, 255, dtype=np.uint8))))


def _high_bytes(samples: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(samples.astype("<u2", copy=False).view(np.uint8)[:, 1::2])


def _different(image: Image.Image, colour: bytes) -> Image.Image:
    """255 where a pixel has another colour, else 0. Channel by channel: less memory than all at once."""
    different = Image.new("L", image.size)
    for channel, value in enumerate(colour):
        table = [0 if each == value else 255 for each in range(256)]
        different = ImageChops.lighter(different, image.getchannel(channel).point(table))
    return different

"""JPEG: the header in our own code, the pixels by libjpeg-turbo through Pillow.

The decoder gets a file without EXIF, profiles, comments and further pictures: these cost time and memory, and the
facts in them are read here.
"""

import io
import re
from dataclasses import dataclass, field
from typing import IO, cast

from PIL import Image, ImageChops, JpegImagePlugin

from dropline.contract import Dimensions
from dropline.errors import InvalidImage
from dropline.images import refusals
from dropline.images.exif import orientation
from dropline.images.picture import Picture
from dropline.images.transfers import has_text_line_ends
from dropline.settings import ImageSettings

#: Progressive JPEGs of cameras and editors have about ten scans; the format's own scripts reach some dozens.
MAX_SCANS = 100
#: Each scan visits each block: scans times pixels bound the time. 20 scans of 100 megapixels.
MAX_SCANNED_PIXELS = 2_000_000_000
#: Arithmetic coding takes a step for each bit, also where no data is left.
MAX_ARITHMETIC_PIXELS = 25_000_000
#: A JPEG of 100 MB with EXIF, XMP and profiles has fewer than 2,000 segments.
MAX_SEGMENTS = 20_000

_SOI, _EOI, _SOS = b"\xff\xd8", b"\xff\xd9", 0xDA
#: A marker that is neither a stuffed byte, a fill byte nor a restart.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_LOSSLESS, _PROGRESSIVE, _ARITHMETIC = 0xC3, frozenset({0xC2, 0xCA}), frozenset({0xC9, 0xCA})
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_DECODED_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_FRAMES = _DECODED_FRAMES | {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
#: Segments without influence on the pixels: APP1 to APP13, APP15 and comments. JFIF and Adobe's APP14 have it.
_UNUSED = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
#: Memory of libjpeg beside the samples.
_POOL_BYTES = 2_000_000
_GREY = 128
#: More zero bytes than the data of a scan ends with.
_UNWRITTEN = bytes(64)


@dataclass(slots=True)
class _Parts:
    """The segments of one JPEG, up to the end of its first picture."""

    #: The file without unused segments and without its end marker.
    kept: list[bytes | memoryview] = field(default_factory=list)
    frame: tuple[int, bytes] | None = None
    #: The bodies of the scans' headers.
    scans: list[bytes] = field(default_factory=list)
    #: Where the first scan starts; 0 without one.
    scan_at: int = 0
    exif: bytes = b""
    profile: dict[int, bytes] = field(default_factory=dict)
    #: False if the file has no end marker.
    ended: bool = False


def read_jpeg(data: bytes, side_px: int, limits: ImageSettings) -> Picture:
    """Decode a JPEG, shrunk by the decoder to no less than `side_px`.

    CMYK samples count as inverted, as in all browsers.

    Raises:
        InvalidImage: `truncated_image`, `corrupt_image` or `unsupported_format`.
        ImageRefused: `image_too_large` or `image_too_complex`.
        MemoryError: the memory limit is too low for the picture.
    """
    parts = _split(data, whole=False)
    dimensions, components = _checked_frame(parts, limits)
    if has_text_line_ends(data, parts.scan_at):
        raise refusals.damaged_by_transfer("a JPEG damaged by a text-mode transfer")
    try:
        image = _decoded(_Joined([*parts.kept, _EOI]), side_px)
    except OSError:
        refusals.check_room(_coefficient_bytes(parts))
        raise
    if (not parts.ended or _ends_grey(image)) and _lacks_pixels(_split(data, whole=True), image, side_px):
        raise refusals.truncated("JPEG", "pixels are missing")
    if components == 1:
        image = image.convert("L")
    return Picture(image, dimensions, orientation(parts.exif), _joined_profile(parts.profile))


def _split(data: bytes, *, whole: bool) -> _Parts:
    """Read the segments; not `whole`: without a look at the pixels of a file that has all of them in one scan."""
    parts, view = _Parts(kept=[_SOI]), memoryview(data)
    at, kept_to, segments = 2, 2, 0
    while found := _MARKER.search(data, at):
        marker, start = found[1][0], found.start()
        segments += 1
        if segments > MAX_SEGMENTS:
            raise refusals.too_complex("JPEG", "too many segments", f"{MAX_SEGMENTS:,}")
        if marker == _SOI[1]:
            if not parts.scans:
                raise refusals.corrupt("JPEG", "it starts twice")
            break  # the next file of two: the first one was cut short
        if marker == _EOI[1]:
            parts.ended = True
            parts.kept.append(view[kept_to:start])
            return parts
        body_at = found.end() + 2
        at = found.end() + max(2, int.from_bytes(data[found.end() : body_at], "big"))
        if marker in _UNUSED:
            _note_metadata(parts, marker, data[body_at:at])
            parts.kept.append(view[kept_to:start])
            kept_to = at
        else:
            _note(parts, marker, data[body_at:at])
            parts.scan_at = parts.scan_at or (start if marker == _SOS else 0)
            if not whole and _has_one_scan(parts) and (end := data.rfind(_EOI, at)) > 0:
                parts.ended = True
                parts.kept.append(view[kept_to:end])
                return parts
    parts.kept.append(view[kept_to : found.start() if found else None])
    return parts


def _has_one_scan(parts: _Parts) -> bool:
    """Return True behind the header of a scan that has all components: libjpeg reads no further scan."""
    if not parts.scans or parts.frame is None or parts.frame[0] not in _SEQUENTIAL:
        return False
    return parts.scans[0][:1] == parts.frame[1][5:6]


def _note(parts: _Parts, marker: int, body: bytes) -> None:
    if marker in _FRAMES and parts.frame is None:
        parts.frame = (marker, body)
    elif marker == _SOS:
        parts.scans.append(body)
        if len(parts.scans) > MAX_SCANS:
            raise refusals.too_complex("JPEG", "too many scans", f"{MAX_SCANS}")


def _note_metadata(parts: _Parts, marker: int, body: bytes) -> None:
    if marker == 0xE1 and body.startswith(b"Exif\x00\x00") and not parts.exif:
        parts.exif = body
    elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\x00") and len(body) > 14:
        parts.profile.setdefault(body[12], body[14:])


def _joined_profile(chunks: dict[int, bytes]) -> bytes | None:
    """The profile from its numbered segments; None without one, and for one with a gap."""
    if sorted(chunks) != list(range(1, len(chunks) + 1)):
        return None
    return b"".join(chunks[number] for number in sorted(chunks)) or None


def _checked_frame(parts: _Parts, limits: ImageSettings) -> tuple[Dimensions, int]:
    """Return the size and the number of components, of a frame that is decoded here."""
    if parts.frame is None or len(parts.frame[1]) < 6:
        raise refusals.corrupt("JPEG", "it has no frame") if parts.ended else _cut("no frame")
    marker, body = parts.frame
    bits, components = body[0], body[5]
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if name := _undecoded(marker, bits, components, height):
        raise refusals.unsupported(name)
    if not width:
        raise refusals.corrupt("JPEG", "its width is zero")
    refusals.check_size(width, height, limits)
    if not parts.scans:
        raise refusals.corrupt("JPEG", "it has no scan") if parts.ended else _cut("no scan")
    _check_work(marker, width * height, len(parts.scans))
    if _lacks_components(parts):
        raise _cut("no scan of a colour")
    return Dimensions(width, height), components


def _lacks_components(parts: _Parts) -> bool:
    """Return True if a component is in no scan: libjpeg and browsers show such a picture in shades of grey."""
    assert parts.frame is not None
    scanned = {each for body in parts.scans for each in body[1 : 1 + 2 * body[0] : 2] if body}
    return not scanned.issuperset(parts.frame[1][6::3][: parts.frame[1][5]])


def _coefficient_bytes(parts: _Parts) -> int:
    """Memory of libjpeg for a picture in several scans: two bytes per sample of each component."""
    assert parts.frame is not None
    body = parts.frame[1]
    factors = [(each >> 4) * (each & 15) for each in body[7::3][: body[5]]]
    pixels = int.from_bytes(body[1:3], "big") * int.from_bytes(body[3:5], "big")
    samples = pixels * sum(factors) // max(1, *factors, 1)
    return 0 if _has_one_scan(parts) else 2 * samples + samples // 8 + _POOL_BYTES


def _cut(reason: str) -> InvalidImage:
    return refusals.truncated("JPEG", f"{reason} before the end of the file")


def _undecoded(marker: int, bits: int, components: int, height: int) -> str | None:
    """The name of a valid JPEG without a decoder."""
    if marker == 0xF7:
        return "a JPEG-LS image"
    if marker in (_LOSSLESS, 0xCB):
        return "a lossless JPEG"
    if marker not in _DECODED_FRAMES:
        return "a hierarchical JPEG"
    if bits != 8:
        return f"a JPEG of {bits} bits per sample"
    if components not in (1, 3, 4):
        return f"a JPEG of {components} components"
    return None if height else "a JPEG with its height after the pixels (DNL)"


def _check_work(marker: int, pixels: int, scans: int) -> None:
    if pixels * scans > MAX_SCANNED_PIXELS:
        limit = f"{MAX_SCANNED_PIXELS:,} pixels in all scans"
        raise refusals.too_complex("JPEG", "too many scans for its size", limit)
    if marker in _ARITHMETIC and pixels > MAX_ARITHMETIC_PIXELS:
        limit = f"{MAX_ARITHMETIC_PIXELS:,} pixels"
        raise refusals.too_complex("JPEG", "arithmetic coding and many pixels", limit)


class _Joined(io.RawIOBase):
    """Parts of a file, read one behind the other: joining them would copy all pixels once more."""

    def __init__(self, parts: list[bytes | memoryview]) -> None:
        super().__init__()
        self._parts = [memoryview(part) for part in parts]
        self.seek(0)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to `offset`; Pillow only ever goes back to the start."""
        assert offset == 0
        assert whence == io.SEEK_SET
        self._index = self._at = 0
        return 0

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes, fewer at the end of the file; all that is left for -1."""
        blocks = []
        left = size if size >= 0 else sum(len(part) for part in self._parts)
        while left and self._index < len(self._parts):
            block = self._parts[self._index][self._at : self._at + left]
            blocks.append(block)
            left -= len(block)
            self._at += len(block)
            if self._at >= len(self._parts[self._index]):
                self._index, self._at = self._index + 1, 0
        return b"".join(blocks)


def _decoded(file: io.RawIOBase, side_px: int) -> Image.Image:
    # Called directly: Image.open would look for further pictures (MPO), and has a limit of pixels of its own.
    image = JpegImagePlugin.JpegImageFile(cast("IO[bytes]", file))
    image.draft(image.mode, (side_px, side_px))
    image.load()
    return image


def _ends_grey(image: Image.Image) -> bool:
    """Missing blocks come out of the decoder as middle grey: the last pixel is one of the missing."""
    last = image.getpixel((image.width - 1, image.height - 1))
    values = last if isinstance(last, tuple) else (last,)
    return all(value is not None and abs(value - _GREY) <= 1 for value in values[:3])


def _lacks_pixels(parts: _Parts, image: Image.Image, side_px: int) -> bool:
    """Return True if other bytes before the end marker give another picture, or if refining scans are missing.

    Where all pixels are there, bytes behind the last scan's data have no effect.
    """
    assert parts.frame is not None
    if parts.frame[0] in _PROGRESSIVE and not parts.ended and not _is_refined(parts.scans):
        return True
    stored = b"".join(parts.kept)
    if stored.endswith(_UNWRITTEN):
        stored = stored.rstrip(b"\x00")  # space that a broken transfer reserved and never wrote
    padded = _decoded(_Joined([stored, b"\xff\x00" * 64, _EOI]), side_px)
    return ImageChops.difference(image, padded).getbbox() is not None


def _is_refined(scans: list[bytes]) -> bool:
    """Return True if the scans bring each coefficient of each component down to its last bit."""
    missing: dict[int, set[int]] = {}
    for body in scans:
        count = body[0] if body else 0
        if len(body) < 4 + 2 * count:
            return False
        first, last, low = body[1 + 2 * count], body[2 + 2 * count], body[3 + 2 * count] & 0x0F
        for component in body[1 : 1 + 2 * count : 2]:
            left = missing.setdefault(component, set(range(64)))
            if low == 0:
                left.difference_update(range(first, last + 1))
    return not any(missing.values())

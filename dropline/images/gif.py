"""GIF: the blocks in our own code, the pixels by Pillow's LZW decoder. Only the first visible frame is read."""

from dataclasses import dataclass

from PIL import Image

from dropline.contract import Dimensions
from dropline.errors import InvalidImage, PermanentError
from dropline.images import refusals
from dropline.images.canvas import on_canvas
from dropline.images.picture import Picture
from dropline.settings import ImageSettings

#: Blocks of extensions before the first frame: 25 MB of XMP in blocks of 255 bytes.
MAX_BLOCKS = 100_000

#: Frames without a visible pixel that are skipped, while all their pixels are within the limit of one picture.
MAX_EMPTY_FRAMES = 100

_SCREEN_BYTES, _DESCRIPTOR_BYTES = 13, 9
_EXTENSION, _IMAGE, _TRAILER, _GRAPHIC_CONTROL = 0x21, 0x2C, 0x3B, 0xF9
_LARGEST_CODE = 11


@dataclass(frozen=True, slots=True)
class _Frame:
    """The first frame: where the frame lies on the screen, and its colours."""

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    palette: bytes
    #: Index of the transparent colour; None: no colour is transparent.
    transparent: int | None
    #: Where the LZW data starts, with the size of its codes.
    pixels_at: int


def read_gif(data: bytes, side_px: int, limits: ImageSettings) -> Picture:  # noqa: ARG001
    """Decode the first frame with a visible pixel, at its place on the screen; without one, the first frame.

    Some programs begin an animation with a transparent frame of one pixel, which browsers show for an instant. A
    frame beyond the screen makes the screen larger, and a frame without a width or height fills the screen.

    Raises:
        InvalidImage: `truncated_image` or `corrupt_image`.
        ImageRefused: `image_too_large` or `image_too_complex`.
    """
    screen = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if len(data) < _SCREEN_BYTES:
        raise _cut()
    palette, at = _palette(data, data[10], _SCREEN_BYTES)
    shown, pixels = None, 0
    for _ in range(1 + MAX_EMPTY_FRAMES):
        try:
            frame = _next_frame(data, screen, palette, at)
            image = _on_screen(data, frame, screen, limits)
        except PermanentError:
            if shown is None:
                raise
            break  # the end, or damage in frames that no caption needs
        visible, shown = not _is_empty(image), shown or image
        pixels += image.width * image.height
        if visible or pixels > limits.max_pixels:
            shown = image if visible else shown
            break
        at = _behind_blocks(data, frame.pixels_at + 1)[0]
    assert shown is not None
    return Picture(shown, Dimensions(*shown.size))


def _on_screen(data: bytes, frame: _Frame, screen: tuple[int, int], limits: ImageSettings) -> Image.Image:
    width, height = max(screen[0], frame.left + frame.width), max(screen[1], frame.top + frame.height)
    refusals.check_size(width, height, limits)
    return on_canvas(_pixels(data, frame), (width, height), frame.left, frame.top)


def _is_empty(image: Image.Image) -> bool:
    return image.mode == "RGBA" and image.getchannel("A").getbbox() is None


def _next_frame(data: bytes, screen: tuple[int, int], palette: bytes, at: int) -> _Frame:
    transparent, blocks = None, 0
    while at < len(data) and data[at] not in (_IMAGE, _TRAILER):
        if data[at] != _EXTENSION:
            at += 1  # browsers skip bytes between blocks
            blocks += 1
        else:
            if data[at + 1 : at + 3] == bytes((_GRAPHIC_CONTROL, 4)) and at + 7 <= len(data):
                transparent = data[at + 6] if data[at + 3] & 1 else None
            at, read = _behind_blocks(data, at + 2)
            blocks += read
        if blocks > MAX_BLOCKS:
            raise refusals.too_complex("GIF", "too many blocks before its first frame", f"{MAX_BLOCKS:,}")
    if at >= len(data):
        raise _cut()
    if data[at] == _TRAILER:
        raise refusals.corrupt("GIF", "it has no frame")
    return _described(data, at + 1, screen, palette, transparent)


def _described(data: bytes, at: int, screen: tuple[int, int], palette: bytes, transparent: int | None) -> _Frame:
    body = data[at : at + _DESCRIPTOR_BYTES]
    if len(body) < _DESCRIPTOR_BYTES:
        raise _cut()
    left, top, width, height = (int.from_bytes(body[each : each + 2], "little") for each in (0, 2, 4, 6))
    if not palette and not body[8] & 0x80:
        raise refusals.corrupt("GIF", "it has no palette")
    own, pixels_at = _palette(data, body[8], at + _DESCRIPTOR_BYTES)
    width, height = width or max(screen[0] - left, 0), height or max(screen[1] - top, 0)
    if not width or not height:
        raise refusals.corrupt("GIF", "its size is zero")
    return _Frame(left, top, width, height, bool(body[8] & 0x40), own or palette, transparent, pixels_at)


def _palette(data: bytes, flags: int, at: int) -> tuple[bytes, int]:
    """The colour table at `at`, and where the bytes behind the table start; empty if the flags say so."""
    size = 3 << (flags & 7) + 1 if flags & 0x80 else 0
    return data[at : at + size], at + size


def _behind_blocks(data: bytes, at: int) -> tuple[int, int]:
    """Where the bytes behind a chain of blocks start, and the number of blocks."""
    count = 0
    while at < len(data) and data[at] and count <= MAX_BLOCKS:
        at += 1 + data[at]
        count += 1
    return at + 1, count + 1


def _pixels(data: bytes, frame: _Frame) -> Image.Image:
    """RGB, or RGBA if a colour is transparent."""
    code_bits = data[frame.pixels_at] if frame.pixels_at < len(data) else 0
    if frame.pixels_at + 2 > len(data):
        raise _cut()
    if not 0 < code_bits <= _LARGEST_CODE:
        raise refusals.corrupt("GIF", "its size of codes is invalid")
    try:
        packed, size = data[frame.pixels_at + 1 :], (frame.width, frame.height)
        image = Image.frombytes("P", size, packed, "gif", code_bits, int(frame.interlaced), -1)
    except ValueError as error:
        # Two texts of Pillow: the blocks end before the last row, or a code is invalid.
        if "not enough" in str(error):
            raise _cut() from None
        raise refusals.corrupt("GIF", "its compressed pixels are damaged") from None
    image.putpalette(frame.palette.ljust(768, b"\x00"))
    if frame.transparent is None:
        return image.convert("RGB")
    image.info["transparency"] = frame.transparent
    return image.convert("RGBA")


def _cut() -> InvalidImage:
    return refusals.truncated("GIF", "pixels are missing")

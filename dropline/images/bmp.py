"""BMP in all its versions, in our own code; a JPEG or PNG inside goes to its own reader."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from dropline.contract import Dimensions
from dropline.images import refusals
from dropline.images.bmp_header import BmpHeader, read_header
from dropline.images.bmp_rle import unpack_rle
from dropline.images.jpeg import read_jpeg
from dropline.images.picture import Picture
from dropline.images.png import read_png
from dropline.settings import ImageSettings

_NONE, _RLE8, _RLE4, _MASKS, _JPEG, _PNG, _ALPHA_MASKS = range(7)
_OS2_HEADER, _OS2_SHORT, _OS2_FULL, _V4_HEADER, _V5_HEADER = 12, 16, 64, 108, 124
_FILE_HEADER_BYTES = 14
_MASKS_AT = 54
#: Pillow's raw modes of rows without masks.
_RAW_MODES = {1: "P;1", 4: "P;4", 8: "P", 24: "BGR", 32: "BGRX"}
_DEFAULT_MASKS = {16: (0x7C00, 0x03E0, 0x001F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
_EMBEDDED_PROFILE = b"DEBM"


def read_bmp(data: bytes, side_px: int, limits: ImageSettings) -> Picture:
    """Decode a BMP. Alpha that is zero in all pixels is not believed: many programs never fill the byte.

    Raises:
        InvalidImage: `truncated_image`, `corrupt_image` or `unsupported_format`.
        ImageRefused: `image_too_large` or `image_too_complex`.
    """
    header = read_header(data)
    if header is None:
        raise refusals.truncated("BMP", "the file ends inside its headers")
    if header.compression in (_JPEG, _PNG) and header.header_bytes not in (_OS2_SHORT, _OS2_FULL):
        return _embedded(data, header, side_px, limits)
    if name := _undecoded(header):
        raise refusals.unsupported(name)
    if not header.width > 0 or not header.height:
        raise refusals.corrupt("BMP", "its size is zero")
    refusals.check_size(header.width, header.height, limits)
    image = _compressed(data, header) if header.compression in (_RLE8, _RLE4) else _rows(data, header)
    return Picture(image, Dimensions(header.width, header.height), profile=_profile(data, header))


def _embedded(data: bytes, header: BmpHeader, side_px: int, limits: ImageSettings) -> Picture:
    inside = data[_pixels_at(header) :]
    if inside.startswith(b"\xff\xd8\xff"):
        return read_jpeg(inside, side_px, limits)
    if inside.startswith(b"\x89PNG\r\n\x1a\n"):
        return read_png(inside, side_px, limits)
    raise refusals.corrupt("BMP", "the JPEG or PNG inside is missing")


def _undecoded(header: BmpHeader) -> str | None:
    """The name of a valid BMP without a decoder."""
    if header.header_bytes in (_OS2_SHORT, _OS2_FULL) and header.compression in (3, 4):
        return "a BMP of OS/2 with Huffman or 24-bit run-length compression"
    if header.compression > _ALPHA_MASKS:
        return "a BMP with a compression of another program"
    if header.bits not in (1, 2, 4, 8, 16, 24, 32):
        return f"a BMP of {header.bits} bits per pixel"
    return None


def _pixels_at(header: BmpHeader) -> int:
    """Where the pixels start: a program that leaves the field empty places them behind header and palette."""
    masks = 0
    if header.header_bytes == 40 and header.compression in (_MASKS, _ALPHA_MASKS):
        masks = 16 if header.compression == _ALPHA_MASKS else 12
    start = _FILE_HEADER_BYTES + header.header_bytes + masks
    if header.pixels_at >= start:
        return header.pixels_at
    return start + _palette_entry(header) * _palette_size(header)


def _palette_entry(header: BmpHeader) -> int:
    return 3 if header.header_bytes == _OS2_HEADER else 4


def _palette_size(header: BmpHeader) -> int:
    if header.bits > 8:
        return 0
    return min(header.colours or 1 << header.bits, 256)


def _palette(data: bytes, header: BmpHeader) -> bytes:
    """768 bytes of RGB."""
    entry, start = _palette_entry(header), _FILE_HEADER_BYTES + header.header_bytes
    end = min(start + entry * _palette_size(header), max(header.pixels_at, start) or len(data))
    stored = data[start:end]
    colours = bytearray()
    for at in range(0, len(stored) - 2, entry):
        colours += stored[at : at + 3][::-1]
    return bytes(colours).ljust(768, b"\x00")


def _rows(data: bytes, header: BmpHeader) -> Image.Image:
    row_bytes = (header.width * header.bits + 31) // 32 * 4
    at, needed = _pixels_at(header), row_bytes * header.height
    stored = data[at : at + needed]
    # The padding of the last row is often left out.
    if len(stored) < needed - (row_bytes - (header.width * header.bits + 7) // 8):
        raise refusals.truncated("BMP", "pixels are missing")
    stored = stored.ljust(needed, b"\x00")
    if header.bits in (16, 32) and (masks := _masks(data, header)) != _DEFAULT_MASKS.get(32):
        return _masked(stored, header, masks, row_bytes)
    if header.bits == 2:
        return _two_bits(stored, data, header, row_bytes)
    mode = "P" if header.bits <= 8 else "RGB"
    size, direction = (header.width, header.height), 1 if header.top_down else -1
    image = Image.frombytes(mode, size, stored, "raw", _RAW_MODES[header.bits], row_bytes, direction)
    return _coloured(image, _palette(data, header)) if mode == "P" else image


def _coloured(image: Image.Image, palette: bytes) -> Image.Image:
    image.putpalette(palette)
    return image.convert("RGB")


def _two_bits(stored: bytes, data: bytes, header: BmpHeader, row_bytes: int) -> Image.Image:
    rows = np.frombuffer(stored, np.uint8).reshape(header.height, row_bytes)
    spread = np.stack([rows >> shift & 3 for shift in (6, 4, 2, 0)], axis=2).reshape(header.height, -1)
    return _coloured(Image.fromarray(_upright(spread[:, : header.width], header)), _palette(data, header))


def _masks(data: bytes, header: BmpHeader) -> tuple[int, int, int, int]:
    """The bits of red, green, blue and alpha in a pixel."""
    if header.compression not in (_MASKS, _ALPHA_MASKS):
        return _DEFAULT_MASKS[header.bits]
    with_alpha = header.header_bytes >= 56 or header.compression == _ALPHA_MASKS
    red, green, blue, alpha = (_little(data, _MASKS_AT + 4 * each) for each in range(4))
    return (red, green, blue, alpha if with_alpha else 0)


def _masked(stored: bytes, header: BmpHeader, masks: tuple[int, int, int, int], row_bytes: int) -> Image.Image:
    kind = np.dtype("<u2" if header.bits == 16 else "<u4")
    rows = np.frombuffer(stored, kind).reshape(header.height, row_bytes // kind.itemsize)[:, : header.width]
    channels = [Image.fromarray(_upright(_channel(rows, mask), header)) for mask in masks]
    if channels[3].getextrema() == (0, 0):
        return Image.merge("RGB", channels[:3])
    return Image.merge("RGBA", channels)


def _channel(rows: npt.NDArray[np.generic], mask: int) -> npt.NDArray[np.uint8]:
    """The samples under a mask, scaled to 255."""
    if not mask:
        return np.zeros(rows.shape, dtype=np.uint8)
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    samples = (rows.astype(np.uint32) & mask) >> shift
    if most == 255:
        return samples.astype(np.uint8)
    return np.asarray(samples.astype(np.float32) * (255.0 / most) + 0.5, dtype=np.float32).astype(np.uint8)


def _upright(rows: npt.NDArray[np.uint8], header: BmpHeader) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(rows if header.top_down else rows[::-1])


def _compressed(data: bytes, header: BmpHeader) -> Image.Image:
    """Pixels that the runs skip are transparent, as in browsers."""
    packed = data[_pixels_at(header) :]
    indices, drawn = unpack_rle(packed, header.width, header.height, header.compression == _RLE4)
    image = _coloured(Image.fromarray(_upright(indices, header)), _palette(data, header))
    if not drawn.all():
        image.putalpha(Image.fromarray(_upright(drawn * np.uint8(255), header)))
    return image


def _profile(data: bytes, header: BmpHeader) -> bytes | None:
    if header.header_bytes < _V5_HEADER or data[14 + 56 : 14 + 60] != _EMBEDDED_PROFILE:
        return None
    at, size = _little(data, 14 + 112) + _FILE_HEADER_BYTES, _little(data, 14 + 116)
    profile = data[at : at + size]
    return profile if len(profile) == size > 0 else None


def _little(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")

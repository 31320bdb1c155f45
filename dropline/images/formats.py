"""Detect the format of an image from its bytes, never from the object name or the content type.

Bytes without a supported format are of three kinds: damaged in a transfer, a valid image without a decoder, or
no image.
"""

import enum
import zlib

from dropline.errors import InvalidImage, PermanentError
from dropline.images import refusals
from dropline.images.bmp_header import looks_like_bmp
from dropline.images.pnm_header import looks_like_pnm
from dropline.images.raw import raw_photograph
from dropline.images.signatures import foreign_image, foreign_media, no_image
from dropline.images.text_files import refusal_of_text
from dropline.images.transfers import transfer_damage


class ImageFormat(enum.StrEnum):
    """The supported formats."""

    JPEG = "JPEG"
    PNG = "PNG"
    GIF = "GIF"
    WEBP = "WEBP"
    BMP = "BMP"
    TIFF = "TIFF"
    AVIF = "AVIF"
    HEIF = "HEIF"
    PNM = "PNM"


_SUPPORTED = (
    (b"\xff\xd8\xff", ImageFormat.JPEG),
    (b"\x89PNG\r\n\x1a\n", ImageFormat.PNG),
    (b"GIF87a", ImageFormat.GIF),
    (b"GIF89a", ImageFormat.GIF),
    (b"II*\x00", ImageFormat.TIFF),
    (b"MM\x00*", ImageFormat.TIFF),
    (b"II+\x00", ImageFormat.TIFF),
    (b"MM\x00+", ImageFormat.TIFF),
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"}
)
#: Bytes of an ISO file's list of brands that are read.
_BRAND_BYTES = 512
#: Decompressed bytes of a gzip file that are looked at.
_GZIP_PREVIEW_BYTES = 65_536


def detect_format(data: bytes) -> ImageFormat:
    """Return the format of `data`, from its first bytes.

    Raises:
        InvalidImage: `empty_object`, `not_an_image` (text, document, video, unknown bytes), `unsupported_format`
            (an image of a format without a decoder), or `corrupt_image` and `truncated_image` (the remains of an
            image in a supported format).
    """
    if not data:
        raise InvalidImage("the object is empty (0 bytes): upload the image again", code="empty_object")
    # A raw photograph that is a TIFF may have a preview of full size: the reader of TIFF decides.
    if found := supported_format(data):
        return found
    if name := raw_photograph(data):
        raise refusals.unsupported(name)
    raise _refusal(data)


def supported_format(data: bytes) -> ImageFormat | None:
    """Return the supported format of `data`; None for other bytes."""
    for magic, found in _SUPPORTED:
        if data.startswith(magic):
            return found
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return ImageFormat.WEBP
    if data[4:8] == b"ftyp":
        return _brand_format(data)
    if looks_like_bmp(data):
        return ImageFormat.BMP
    return ImageFormat.PNM if looks_like_pnm(data) else None


def _brand_format(data: bytes) -> ImageFormat | None:
    """Return the format of an ISO base media file: AVIF, HEIC and most videos differ only in their brands."""
    length = min(int.from_bytes(data[:4], "big"), _BRAND_BYTES)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, length, 4))]
    if not _AVIF_BRANDS.isdisjoint(brands):
        return ImageFormat.AVIF
    return None if _HEIF_BRANDS.isdisjoint(brands) else ImageFormat.HEIF


def _refusal(data: bytes) -> PermanentError:
    if name := foreign_image(data):
        return refusals.unsupported(name)
    if data.startswith(b"\x1f\x8b"):
        return _refusal_of_gzip(data)
    if damage := transfer_damage(data):
        return damage
    if name := foreign_media(data) or no_image(data):
        return refusals.not_an_image(name)
    return refusal_of_text(data) or refusals.unknown_bytes()


def _refusal_of_gzip(data: bytes) -> PermanentError:
    """Name the drawing inside: SVG, EMF and WMF are often stored compressed."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        inside = unpacker.decompress(data, _GZIP_PREVIEW_BYTES)
    except zlib.error:
        inside = b""
    refusal = refusal_of_text(inside)
    if refusal is not None and refusal.code == "unsupported_format":
        return refusal
    if name := foreign_image(inside):
        return refusals.unsupported(f"{name}, compressed with gzip")
    return refusals.not_an_image("gzip-compressed data")

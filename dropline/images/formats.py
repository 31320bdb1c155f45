"""Detect the format of an image from its bytes, never from the object name or the content type."""

import enum
from typing import Literal

from dropline.errors import InvalidImage
from dropline.images import refusals
from dropline.images.raw import raw_photograph


class ImageFormat(enum.StrEnum):
    """The supported formats, under Pillow's names."""

    JPEG = "JPEG"
    PNG = "PNG"
    GIF = "GIF"
    WEBP = "WEBP"
    BMP = "BMP"
    TIFF = "TIFF"
    AVIF = "AVIF"
    HEIF = "HEIF"


_SUPPORTED = (
    (b"\xff\xd8\xff", ImageFormat.JPEG),
    (b"\x89PNG\r\n\x1a\n", ImageFormat.PNG),
    (b"GIF87a", ImageFormat.GIF),
    (b"GIF89a", ImageFormat.GIF),
    (b"BM", ImageFormat.BMP),
    (b"II*\x00", ImageFormat.TIFF),
    (b"MM\x00*", ImageFormat.TIFF),
    (b"II+\x00", ImageFormat.TIFF),
    (b"MM\x00+", ImageFormat.TIFF),
)
_OTHER_IMAGES = (
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x01\x00", "a Windows icon"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 code stream"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL code stream"),
    (b"gimp xcf", "a GIMP document"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"qoif", "a QOI image"),
    (b"DDS ", "a DirectDraw texture"),
    (b"%!PS", "a PostScript document"),
    (b"SIMPLE  =", "a FITS image"),
)
_NOT_IMAGES = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"\x00\x00\x01\xba", "an MPEG video"),
    (b"\x00\x00\x01\xb3", "an MPEG video"),
    (b"FLV\x01", "a Flash video"),
    (b"OggS", "an Ogg audio or video file"),
    (b"ID3", "an MP3 audio file"),
    (b"fLaC", "a FLAC audio file"),
    (b"\x7fELF", "an executable"),
    (b"MZ", "an executable"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"}
)


def detect_format(data: bytes) -> ImageFormat:
    """Return the format of `data`, from its first bytes.

    Raises:
        InvalidImage: `empty_object`, `not_an_image` (text, document, video, unknown bytes) or
            `unsupported_format` (an image of a format without a decoder).
    """
    if not data:
        raise InvalidImage("the object is empty (0 bytes): upload the image again", code="empty_object")
    if name := raw_photograph(data):
        raise refusals.unsupported(name)
    for magic, found in _SUPPORTED:
        if data.startswith(magic):
            return found
    if data.startswith(b"RIFF"):
        return _riff_format(data)
    if data[4:8] == b"ftyp":
        return _media_file_format(data)
    raise _not_decodable(data)


def _riff_format(data: bytes) -> ImageFormat:
    if data[8:12] == b"WEBP":
        return ImageFormat.WEBP
    raise _not_an_image({b"AVI ": "an AVI video", b"WAVE": "a WAVE audio file"}.get(data[8:12], "a RIFF file"))


def _media_file_format(data: bytes) -> ImageFormat:
    """Return the format of an ISO base media file: AVIF, HEIC and most videos differ only in their brands."""
    length = min(int.from_bytes(data[:4], "big"), 512)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, length, 4))]
    if not _AVIF_BRANDS.isdisjoint(brands):
        return ImageFormat.AVIF
    if not _HEIF_BRANDS.isdisjoint(brands):
        return ImageFormat.HEIF
    raise _not_an_image("an MP4, QuickTime or other media file")


def _not_decodable(data: bytes) -> InvalidImage:
    for magic, name in _OTHER_IMAGES:
        if data.startswith(magic):
            return _unsupported(name)
    for magic, name in _NOT_IMAGES:
        if data.startswith(magic):
            return _not_an_image(name)
    return _not_decodable_text(data[:4096])


def _not_decodable_text(head: bytes) -> InvalidImage:
    text = head.decode("utf-8-sig", "ignore").lstrip()
    if not text or "\x00" in text or len(text.encode()) < 0.9 * len(head.strip()):
        return _not_an_image(f"no image format known here (its first bytes are {head[:8].hex(' ')})")
    if "<svg" in text:
        return _unsupported("an SVG, a drawing and no pixels")
    if text.startswith("<"):
        return _not_an_image("an HTML or XML document")
    return _not_an_image("text")


def _unsupported(name: str) -> InvalidImage:
    return InvalidImage(
        f"the object looks like {name}, which is not decoded: convert it to one of {', '.join(ImageFormat)}",
        code="unsupported_format",
    )


def _not_an_image(name: str) -> InvalidImage:
    return InvalidImage(
        f"the object is no image, whatever its name says: it looks like {name}", code="not_an_image"
    )


def is_cut_short(kind: ImageFormat, data: bytes) -> bool:
    """Return True if the end of the file is missing, as far as the format can tell."""
    match kind:
        case ImageFormat.JPEG:
            return b"\xff\xd9" not in data[-65536:]
        case ImageFormat.PNG:
            return b"IEND" not in data[-65536:]
        case ImageFormat.GIF:
            return not data.rstrip(b"\x00").endswith(b";")
        case ImageFormat.WEBP:
            return int.from_bytes(data[4:8], "little") + 8 > len(data)
        case ImageFormat.BMP:
            return int.from_bytes(data[2:6], "little") > len(data)
        case ImageFormat.AVIF | ImageFormat.HEIF:
            return _boxes_end(data) > len(data)
        case ImageFormat.TIFF:
            return len(data) < 8 or int.from_bytes(data[4:8], _byte_order(data)) > len(data)


def _boxes_end(data: bytes) -> int:
    """Offset of the end of the last top-level box, from the sizes in the boxes."""
    at = 0
    while at < len(data):
        box_bytes = int.from_bytes(data[at : at + 4], "big")
        if box_bytes == 1:
            box_bytes = int.from_bytes(data[at + 8 : at + 16], "big")
        if box_bytes < 8:
            break
        at += box_bytes
    return at


def _byte_order(data: bytes) -> Literal["little", "big"]:
    return "little" if data.startswith(b"II") else "big"


def jpeg_exif_bytes(data: bytes) -> int:
    """Bytes of EXIF before the pixels of a JPEG, in all segments together."""
    at, total = 2, 0
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1 : at + 2] == b"\xe1" and data[at + 4 : at + 10] == b"Exif\x00\x00":
            total += length
        at += 2 + length
    return total

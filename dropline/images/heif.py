"""AVIF and HEIF: items and properties in our own code, the pixels by libavif and libheif.

Both decoders turn a picture by its own properties (`irot`, `imir`), as browsers do. The file's EXIF often has the
same orientation and must not turn the picture twice: the decoders get a file in which EXIF and XMP have no name.
"""

import io

from PIL import AvifImagePlugin, ExifTags, Image

from dropline.contract import Dimensions
from dropline.errors import InvalidImage
from dropline.images import refusals
from dropline.images.iso_boxes import Items, boxes, read_items
from dropline.images.picture import Picture
from dropline.settings import ImageSettings

#: Tiles of one picture: 100 megapixels in tiles of 512 pixels are 400.
MAX_TILES = 1_024
#: At the least: the planes of the codec, and two copies in RGB.
_BYTES_PER_PIXEL = 7

#: Kinds of items that libheif decodes as built for Python: HEVC, and pictures made of HEVC pictures.
_HEIF_CODECS = frozenset({b"hvc1", b"grid", b"iden", b"iovl"})
_NAMED_CODECS = {
    b"vvc1": "VVC",
    b"avc1": "AVC",
    b"evc1": "EVC",
    b"av01": "AV1 under a brand of HEIF",
    b"jpeg": "JPEG",
    b"j2k1": "JPEG 2000",
    b"unci": "no compression",
}
_NO_METADATA = b"skip"


def read_avif(data: bytes, side_px: int, limits: ImageSettings) -> Picture:  # noqa: ARG001
    """Decode an AVIF, or the first frame of a sequence.

    Raises:
        InvalidImage: `truncated_image` or `corrupt_image`.
        ImageRefused: `image_too_large` or `image_too_complex`.
        MemoryError: the memory limit is too low for the pixels.
    """
    try:
        image: Image.Image = AvifImagePlugin.AvifImageFile(io.BytesIO(_checked("AVIF", data, limits)))
        refusals.check_size(*image.size, limits)
        refusals.check_memory(_BYTES_PER_PIXEL * image.width * image.height, limits)
        image.load()
    except (OSError, ValueError, SyntaxError, RuntimeError, EOFError) as error:
        raise _undecodable("AVIF", data, error) from None
    # Pillow reports the properties as an orientation, without EXIF from nothing else.
    turned = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return Picture(image, Dimensions(*image.size), turned, _profile(image))


def read_heif(data: bytes, side_px: int, limits: ImageSettings) -> Picture:  # noqa: ARG001
    """Decode the primary picture of a HEIF file; libheif has turned the picture upright.

    Raises:
        InvalidImage: `heic_unsupported`, `unsupported_format`, `truncated_image` or `corrupt_image`.
        ImageRefused: `image_too_large` or `image_too_complex`.
        MemoryError: the memory limit is too low for the pixels.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise InvalidImage(
            "this is a HEIC photograph, and the optional decoder is not installed: "
            "add it to the worker with pip install 'dropline[heic]', then redo this image",
            code="heic_unsupported",
        ) from None
    try:
        # Called directly: a registered plugin would apply to the whole process.
        image: Image.Image = HeifImageFile(io.BytesIO(_checked("HEIF", data, limits)))
        refusals.check_size(*image.size, limits)
        refusals.check_memory(_BYTES_PER_PIXEL * image.width * image.height, limits)
        image.load()
    except (OSError, ValueError, SyntaxError, RuntimeError, EOFError) as error:
        raise _undecodable("HEIF", data, error) from None
    return Picture(_plain(image), Dimensions(*image.size), profile=_profile(image))


def _checked(name: str, data: bytes, limits: ImageSettings) -> bytes:
    """The file without the names of EXIF and XMP, if the work for its primary picture is bounded."""
    items = read_items(data)
    if items is None:
        if name == "HEIF" and any(each.kind == b"moov" for each in boxes(data, 0, len(data))):
            raise refusals.unsupported("a HEIF sequence of frames without a still picture")
        return data
    kind = items.kinds.get(items.primary, b"")
    if name == "HEIF" and kind and kind not in _HEIF_CODECS:
        codec = _NAMED_CODECS.get(kind, "a codec of another program")
        raise refusals.unsupported(f"a HEIF image with {codec}")
    for width, height in _primary_sizes(items):
        refusals.check_size(width, height, limits)
    if items.sources.get(items.primary, 0) > MAX_TILES:
        raise refusals.too_complex(name, "too many tiles", f"{MAX_TILES:,}")
    return _without_metadata(data, items)


def _primary_sizes(items: Items) -> list[tuple[int, int]]:
    numbers = items.properties.get(items.primary, [])
    return [items.sizes[number] for number in numbers if number in items.sizes]


def _without_metadata(data: bytes, items: Items) -> bytes:
    if not items.metadata_at:
        return data
    nameless = bytearray(data)
    for at in items.metadata_at:
        nameless[at : at + 4] = _NO_METADATA
    return bytes(nameless)


def _undecodable(name: str, data: bytes, error: Exception) -> InvalidImage:
    if refusals.is_of_memory(error):
        raise MemoryError from error
    if max((each.end for each in boxes(data, 0, len(data))), default=0) > len(data):
        return refusals.truncated(name, "pixels are missing")
    return refusals.corrupt(name, refusals.reason(error))


def _plain(image: Image.Image) -> Image.Image:
    """The picture in a mode with 8 bits per sample and alpha apart from the colours."""
    return image.convert("RGBA") if image.mode == "RGBa" else image


def _profile(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) else None

"""Decode untrusted bytes to pixels, within the limits of the settings. Without I/O."""

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

from dropline.contract import Dimensions
from dropline.errors import ImageRefused, InvalidImage, PermanentError
from dropline.images.formats import ImageFormat, detect_format, is_cut_short, jpeg_exif_bytes
from dropline.images.memory_limit import memory_limit
from dropline.settings import ImageSettings

#: Errors of decoders on damaged bytes. Not `Exception`: Celery raises its time limit inside a decoder, too.
_DECODER_ERRORS = (
    ArithmeticError,
    AttributeError,
    BufferError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WIDTH_AND_HEIGHT_SWAPPED = frozenset({5, 6, 7, 8})
#: Modes that Pillow resizes without conversion; images of other modes become RGB or RGBA first.
_RESIZABLE_MODES = frozenset({"L", "LA", "RGB", "RGBA", "I", "F"})
#: Cameras write some ten thousand bytes; Pillow's time to join EXIF segments grows with the square of the size.
_MAX_EXIF_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded image, ready for the engine."""

    #: uint8, [side_px, side_px, 3], C-contiguous, RGB.
    pixels: npt.NDArray[np.uint8]
    #: Of the upright original, in pixels.
    dimensions: Dimensions


def decode(data: bytes, side_px: int, limits: ImageSettings) -> Decoded:
    """Decode the first frame of `data`, turn the frame upright and stretch the frame to a square.

    Transparent pixels get a white background. 16-bit greys keep their range; 32-bit and floating-point greys are
    stretched from the smallest to the largest value. The resize is bicubic, as in Florence-2's processor.

    Args:
        data: bytes of an image file.
        side_px: width and height of the square, in pixels.
        limits: most pixels, longest side, and memory of the decoder.

    Raises:
        InvalidImage: `empty_object`, `not_an_image`, `unsupported_format`, `heic_unsupported`, `truncated_image`
            or `corrupt_image`.
        ImageRefused: `image_too_large` (known from the header), `metadata_too_large` or `out_of_memory`.
    """
    kind = detect_format(data)
    _refuse_huge_exif(kind, data)
    with _named_errors(kind, data, limits), memory_limit(limits.child_memory_bytes):
        image = _open(data, kind)
        width, height = image.size
        _refuse_large(width, height, limits)
        if kind is ImageFormat.JPEG:
            # Let the decoder shrink the image, never below the requested size.
            image.draft("RGB", (side_px, side_px))
        image.load()
        # Read after the pixels: a PNG may have EXIF behind its pixels, and Pillow turns a TIFF while loading.
        orientation = _orientation(image)
        small = _on_white(_resized(image, side_px))
        if orientation in _UPRIGHT:
            small = small.transpose(_UPRIGHT[orientation])
        pixels = np.array(small)
    if orientation in _WIDTH_AND_HEIGHT_SWAPPED:
        width, height = height, width
    return Decoded(np.ascontiguousarray(pixels, dtype=np.uint8), Dimensions(width, height))


@contextlib.contextmanager
def _named_errors(kind: ImageFormat, data: bytes, limits: ImageSettings) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # Pillow warns about images below `max_pixels` and about harmless damaged tags.
            warnings.simplefilter("ignore")
            yield
    except MemoryError:
        raise ImageRefused(
            f"decoding this {kind} needs more than the {limits.child_memory_bytes} bytes that "
            "DROPLINE_IMAGES__CHILD_MEMORY_BYTES allows: raise it, or upload a smaller image",
            code="out_of_memory",
        ) from None
    except _DECODER_ERRORS as error:
        raise _error_for(error, kind, data) from error


def _error_for(error: Exception, kind: ImageFormat, data: bytes) -> PermanentError:
    message = str(error) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return ImageRefused(f"this {kind} has too many pixels: {message}", code="image_too_large")
    if "MAX_TEXT" in message:
        return ImageRefused(f"this {kind} carries too much text: {message}", code="metadata_too_large")
    if isinstance(error, EOFError) or "truncated" in message.lower() or is_cut_short(kind, data):
        return InvalidImage(
            f"this {kind} of {len(data)} bytes is cut short: upload it again ({message})", code="truncated_image"
        )
    return InvalidImage(f"this {kind} is damaged: upload a good copy ({message})", code="corrupt_image")


def _open(data: bytes, kind: ImageFormat) -> Image.Image:
    if kind is ImageFormat.HEIF:
        return _open_heif(data)
    return Image.open(io.BytesIO(data), formats=(kind,))


def _open_heif(data: bytes) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise InvalidImage(
            "this is a HEIC photograph, and the optional decoder is not installed: "
            "add it to the worker with pip install 'dropline[heic]', then redo this image",
            code="heic_unsupported",
        ) from None
    # Called directly: a registered plugin would apply to the whole process.
    return HeifImageFile(io.BytesIO(data))


def _refuse_large(width: int, height: int, limits: ImageSettings) -> None:
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise ImageRefused(
            f"the image is {width} x {height} pixels; DROPLINE_IMAGES__MAX_PIXELS allows {limits.max_pixels} "
            f"and DROPLINE_IMAGES__MAX_SIDE {limits.max_side}: raise them, or upload a smaller image",
            code="image_too_large",
        )


def _refuse_huge_exif(kind: ImageFormat, data: bytes) -> None:
    if kind is ImageFormat.JPEG and (exif_bytes := jpeg_exif_bytes(data)) > _MAX_EXIF_BYTES:
        raise ImageRefused(
            f"this JPEG carries {exif_bytes} bytes of EXIF, more than the {_MAX_EXIF_BYTES} that are read: "
            "strip them and upload it again",
            code="metadata_too_large",
        )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 if the EXIF data is absent or unreadable."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _DECODER_ERRORS:
        return 1


def _resized(image: Image.Image, side_px: int) -> Image.Image:
    """Return a square image of mode L, LA, RGB or RGBA."""
    square = (side_px, side_px)
    if image.mode.startswith("I;16"):
        wide = image.convert("I").resize(square, Image.Resampling.BICUBIC)
        return _eight_bits(wide, 0, 65535)
    if "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode == "LAB":
        image = _from_lab(image)
    elif image.mode not in _RESIZABLE_MODES:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    small = image.resize(square, Image.Resampling.BICUBIC)
    return _eight_bits(small) if small.mode in ("I", "F") else small


def _eight_bits(image: Image.Image, low: float | None = None, high: float | None = None) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    low = values.min() if low is None else low
    high = values.max() if high is None else high
    scaled = (values - low) * (255.0 / max(high - low, np.finfo(np.float64).tiny))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _from_lab(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None
    return converted


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image  # a conversion would copy the pixels
    if image.mode not in ("LA", "RGBA"):
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")

"""Pure: untrusted bytes to pixels, with every limit. Nothing here knows where the bytes came from."""

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
from dropline.images.memory import memory_ceiling
from dropline.images.sniffing import ImageFormat, is_cut_short, jpeg_exif_bytes, sniff
from dropline.settings import ImageSettings

#: What decoders raise on bytes they cannot read. Not `Exception`: a time limit is raised in here too.
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
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WIDTH_AND_HEIGHT_SWAPPED = frozenset({5, 6, 7, 8})
#: Modes Pillow can resize as they are; everything else becomes RGB or RGBA first.
_RESIZED_AS_THEY_ARE = frozenset({"L", "LA", "RGB", "RGBA", "I", "F"})


#: Cameras write some ten thousand bytes; Pillow's time to join the segments grows with the square.
_MAX_EXIF_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image, ready for the engine."""

    #: uint8, [size, size, 3], C-contiguous, RGB.
    pixels: npt.NDArray[np.uint8]
    #: Of the upright original.
    dimensions: Dimensions


def decode(data: bytes, size: int, limits: ImageSettings) -> Decoded:
    """Decode the first frame of `data`, turn it upright and stretch it to a square of `size` pixels.

    Transparent pixels are laid on white. 16-bit greys keep their range; 32-bit and floating-point greys are
    stretched from their smallest to their largest value. The resize is bicubic, as Florence-2's processor does it.

    Raises:
        InvalidImage: `empty_object`, `not_an_image`, `unsupported_format`, `heic_unsupported`, `truncated_image`
            or `corrupt_image`.
        ImageRefused: `image_too_large` (known from the header), `metadata_too_large` or `out_of_memory`.
    """
    kind = sniff(data)
    _refuse_huge_exif(kind, data)
    with _named_errors(kind, data, limits), memory_ceiling(limits.child_memory_bytes):
        image = _open(data, kind)
        width, height = image.size
        _refuse_large(width, height, limits)
        if kind is ImageFormat.JPEG:
            # Shrinks while it decodes, and never below what is asked for.
            image.draft("RGB", (size, size))
        image.load()
        # Read last: a PNG may carry it behind its pixels, and Pillow has turned a TIFF already.
        orientation = _orientation(image)
        small = _on_white(_resized(image, size))
        pixels = np.array(small.transpose(_TURNS[orientation]) if orientation in _TURNS else small)
    if orientation in _WIDTH_AND_HEIGHT_SWAPPED:
        width, height = height, width
    return Decoded(np.ascontiguousarray(pixels, dtype=np.uint8), Dimensions(width, height))


@contextlib.contextmanager
def _named_errors(kind: ImageFormat, data: bytes, limits: ImageSettings) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # Pillow warns about sizes below our own limit and about damaged tags that do no harm.
            warnings.simplefilter("ignore")
            yield
    except MemoryError:
        raise ImageRefused(
            f"decoding this {kind} needs more than the {limits.child_memory_bytes} bytes that "
            "DROPLINE_IMAGES__CHILD_MEMORY_BYTES allows: raise it, or upload a smaller image",
            code="out_of_memory",
        ) from None
    except _DECODER_ERRORS as error:
        raise _named(error, kind, data) from error


def _named(error: Exception, kind: ImageFormat, data: bytes) -> PermanentError:
    words = str(error) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return ImageRefused(f"this {kind} has too many pixels: {words}", code="image_too_large")
    if "MAX_TEXT" in words:
        return ImageRefused(f"this {kind} carries too much text: {words}", code="metadata_too_large")
    if isinstance(error, EOFError) or "truncated" in words.lower() or is_cut_short(kind, data):
        return InvalidImage(
            f"this {kind} of {len(data)} bytes is cut short: upload it again ({words})", code="truncated_image"
        )
    return InvalidImage(f"this {kind} is damaged: upload a good copy ({words})", code="corrupt_image")


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
    # Used directly, so that no plugin is registered for the whole process.
    return HeifImageFile(io.BytesIO(data))


def _refuse_large(width: int, height: int, limits: ImageSettings) -> None:
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise ImageRefused(
            f"the image is {width} x {height} pixels; DROPLINE_IMAGES__MAX_PIXELS allows {limits.max_pixels} "
            f"and DROPLINE_IMAGES__MAX_SIDE {limits.max_side}: raise them, or upload a smaller image",
            code="image_too_large",
        )


def _refuse_huge_exif(kind: ImageFormat, data: bytes) -> None:
    if kind is ImageFormat.JPEG and (size := jpeg_exif_bytes(data)) > _MAX_EXIF_BYTES:
        raise ImageRefused(
            f"this JPEG carries {size} bytes of EXIF, more than the {_MAX_EXIF_BYTES} that are read: "
            "strip them and upload it again",
            code="metadata_too_large",
        )


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF numbers them; 1 where there is no EXIF or it cannot be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _DECODER_ERRORS:
        return 1


def _resized(image: Image.Image, size: int) -> Image.Image:
    """Square, in mode L, LA, RGB or RGBA."""
    square = (size, size)
    if image.mode.startswith("I;16"):
        wide = image.convert("I").resize(square, Image.Resampling.BICUBIC)
        return _eight_bits(wide, 0, 65535)
    if "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode == "LAB":
        image = _from_lab(image)
    elif image.mode not in _RESIZED_AS_THEY_ARE:
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
        return image  # converting would copy it
    if image.mode not in ("LA", "RGBA"):
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")

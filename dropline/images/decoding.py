"""Decode untrusted bytes to pixels, within the limits of the settings. Without I/O."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from PIL import Image

from dropline.contract import Dimensions
from dropline.errors import DroplineError, ImageRefused, PermanentError
from dropline.images import refusals
from dropline.images.bmp import read_bmp
from dropline.images.colours import rendered
from dropline.images.decoded import Decoded
from dropline.images.formats import ImageFormat, detect_format
from dropline.images.gif import read_gif
from dropline.images.heif import read_avif, read_heif
from dropline.images.jpeg import read_jpeg
from dropline.images.picture import Picture
from dropline.images.png import read_png
from dropline.images.pnm import read_pnm
from dropline.images.tiff import read_tiff
from dropline.images.transfers import was_text
from dropline.images.webp import read_webp
from dropline.settings import ImageSettings

Reader = Callable[[bytes, int, ImageSettings], Picture]
_READERS: Mapping[ImageFormat, Reader] = {
    ImageFormat.JPEG: read_jpeg,
    ImageFormat.PNG: read_png,
    ImageFormat.GIF: read_gif,
    ImageFormat.WEBP: read_webp,
    ImageFormat.BMP: read_bmp,
    ImageFormat.TIFF: read_tiff,
    ImageFormat.AVIF: read_avif,
    ImageFormat.HEIF: read_heif,
    ImageFormat.PNM: read_pnm,
}
_WIDTH_AND_HEIGHT_SWAPPED = frozenset({5, 6, 7, 8})
#: What becomes of a file that a transfer treated as text.
_CODES_OF_DAMAGE = frozenset({"corrupt_image", "truncated_image", "image_too_large"})
#: Where the classes of a job's own time limits come from. Their exceptions strike inside decoders, too.
_JOB_RUNNERS = frozenset({"billiard", "celery"})


def decode(data: bytes, side_px: int, limits: ImageSettings) -> Decoded:
    """Decode the first frame of `data` as browsers show it, turn it upright and stretch it to a square.

    The header decides what the bytes mean; `dropline.images.colours` has the rules of colours and transparency.

    Args:
        data: bytes of an image file.
        side_px: width and height of the square, in pixels.
        limits: most pixels, longest side, and memory of the decoder.

    Raises:
        InvalidImage: `empty_object`, `not_an_image`, `unsupported_format`, `heic_unsupported`, `truncated_image`
            or `corrupt_image`.
        ImageRefused: `image_too_large` or `image_too_complex` (both known before decoding), or `out_of_memory`.
    """
    kind = detect_format(data)
    with _named_errors(kind, limits), _no_pixel_limit():
        picture = _read(kind, data, side_px, limits)
        # `np.array` of an image copies the samples three times.
        pixels = np.frombuffer(rendered(picture, side_px).tobytes(), np.uint8).reshape(side_px, side_px, 3)
    width, height = picture.dimensions.width, picture.dimensions.height
    if picture.orientation in _WIDTH_AND_HEIGHT_SWAPPED:
        width, height = height, width
    return Decoded(pixels, Dimensions(width, height))


def _read(kind: ImageFormat, data: bytes, side_px: int, limits: ImageSettings) -> Picture:
    try:
        return _READERS[kind](data, side_px, limits)
    except PermanentError as error:
        if error.code in _CODES_OF_DAMAGE and kind is not ImageFormat.PNM and was_text(data):
            raise refusals.damaged_by_transfer(f"a {kind} damaged by a text-mode transfer") from None
        raise


@contextlib.contextmanager
def _no_pixel_limit() -> Iterator[None]:
    """Switch off Pillow's own limit and its warnings: the settings have the limit, checked against the header."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextlib.contextmanager
def _named_errors(kind: ImageFormat, limits: ImageSettings) -> Iterator[None]:
    """Blame the image for any error of a decoder, time and memory aside."""
    try:
        yield
    except MemoryError:
        raise ImageRefused(
            f"decoding this {kind} needs more than the {limits.child_memory_bytes} bytes that "
            "DROPLINE_IMAGES__CHILD_MEMORY_BYTES allows: raise it, or upload a smaller image",
            code="out_of_memory",
        ) from None
    except DroplineError:
        raise
    except Exception as error:
        if isinstance(error, TimeoutError) or type(error).__module__.partition(".")[0] in _JOB_RUNNERS:
            raise
        words = refusals.reason(error)
        cut = isinstance(error, EOFError) or "truncated" in words.lower()
        raise (refusals.truncated if cut else refusals.corrupt)(kind, words) from error

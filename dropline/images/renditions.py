"""Copies of images for web pages: decoded in the decoder process, encoded here.

The bytes of an uploaded file never reach a browser as an image: a copy is a WebP file of this module, without
metadata of the original.
"""

import enum
import io
from typing import Protocol

from PIL import Image

from dropline.contract import Dimensions
from dropline.images.decoded import Decoded

#: Content type of each copy.
CONTENT_TYPE = "image/webp"
_QUALITY = 82


class Rendition(enum.StrEnum):
    """The copies of an image."""

    #: In a grid of images.
    THUMBNAIL = "thumbnail"
    #: On the page of the image.
    VIEW = "view"

    @property
    def side_px(self) -> int:
        """The longest width or height of the copy, in pixels."""
        return _SIDES[self]


_SIDES = {Rendition.THUMBNAIL: 512, Rendition.VIEW: 1600}


class Decoder(Protocol):
    """`dropline.images.decoder.DecoderProcess`."""

    def decode(self, data: bytes, side_px: int) -> Decoded:
        """The pixels of an image, stretched to a square."""


def render(decoder: Decoder, data: bytes, rendition: Rendition) -> bytes:
    """A copy as a WebP file, upright, in sRGB, never larger than the original.

    Args:
        decoder: decodes the image.
        data: bytes of an image file.
        rendition: the size of the copy.

    Raises:
        PermanentError, DecoderLost, DecoderUnavailable: as `DecoderProcess.decode`.
    """
    decoded = decoder.decode(data, rendition.side_px)
    # The square has the proportions of no image; the shorter side shrinks.
    size = fitted(decoded.dimensions, rendition.side_px)
    copy = Image.fromarray(decoded.pixels).resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    copy.save(file, "WEBP", quality=_QUALITY, method=3)
    return file.getvalue()


def fitted(original: Dimensions, side_px: int) -> tuple[int, int]:
    """Width and height of a copy with sides of 1 to `side_px`, in pixels; never larger than the original."""
    scale = min(1.0, side_px / max(original.width, original.height))
    return max(1, round(original.width * scale)), max(1, round(original.height * scale))

"""The result of a format's reader: pixels as stored, and the facts that decide how people see the pixels."""

from dataclasses import dataclass

from PIL import Image

from dropline.contract import Dimensions

#: Larger profiles are ignored: print profiles have up to 3 MB.
MAX_PROFILE_BYTES = 4_194_304


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture, before colour conversion, orientation and resizing."""

    #: Mode L, LA, RGB, RGBA or CMYK; 8 bits per sample, not premultiplied. Smaller than `dimensions`, where the
    #: decoder shrinks while decoding; never below the requested size.
    image: Image.Image
    #: Stored width and height of the full picture, before the orientation, in pixels.
    dimensions: Dimensions
    #: Orientation as in EXIF, 1 to 8.
    orientation: int = 1
    #: The embedded ICC profile of the samples; None: sRGB, or the default of the mode.
    profile: bytes | None = None
    #: Exponent that encodes light as samples, as in PNG's gAMA chunk; None: that of sRGB.
    gamma: float | None = None

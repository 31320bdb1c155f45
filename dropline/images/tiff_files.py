"""The segments of a TIFF page that are files of another format: JPEG 2000, PNG, WebP."""

import io
import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, Jpeg2KImagePlugin, PngImagePlugin, WebPImagePlugin

from dropline.images import refusals
from dropline.images.tiff_directories import NAME
from dropline.images.tiff_pages import Page

Samples = npt.NDArray[np.generic]
#: Errors of decoders on damaged bytes. Not `Exception`: a job's time limit is raised inside a decoder, too.
DECODER_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
#: Each segment is a file of another format, with a reader of Pillow.
_READERS: dict[int, tuple[str, Callable[[io.BytesIO], Image.Image]]] = {
    33003: ("JPEG 2000", Jpeg2KImagePlugin.Jpeg2KImageFile),
    33004: ("JPEG 2000", Jpeg2KImagePlugin.Jpeg2KImageFile),
    33005: ("JPEG 2000", Jpeg2KImagePlugin.Jpeg2KImageFile),
    34712: ("JPEG 2000", Jpeg2KImagePlugin.Jpeg2KImageFile),
    34933: ("PNG", PngImagePlugin.PngImageFile),
    50001: ("WebP", WebPImagePlugin.WebPImageFile),
}
#: Names of the formats, by compression.
FILES = {compression: name for compression, (name, _) in _READERS.items()}
#: Time per segment, not per pixel, is what these readers cost.
_MOST_FILES = 5_000
_MOST_CODESTREAM_TILES = 10_000
_CHANNELS = {"L": 1, "I;16": 1, "I;16B": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def refuse_many_files(page: Page) -> None:
    """Refuse more segments than the readers decode in seconds.

    Raises:
        ImageRefused: `image_too_complex`.
    """
    if len(page.offsets) > _MOST_FILES:
        name = FILES[page.compression]
        raise refusals.too_complex(NAME, f"{len(page.offsets):,} strips or tiles of {name}", f"{_MOST_FILES:,}")


def is_of_files(page: Page) -> bool:
    """Return True if each segment is a file of another format."""
    return page.compression in FILES


def samples_of_files(page: Page, plane: int) -> Samples:
    """Decode the segments of a page of JPEG 2000, PNG or WebP.

    Returns:
        uint8 or uint16, [rows of all segments, width of a segment, samples per pixel].

    Raises:
        InvalidImage: `corrupt_image`.
        ImageRefused: `image_too_complex`.
    """
    parts = []
    left = page.height
    for at, count in zip(*page.plane(plane), strict=True):
        rows = page.segment_height if page.tiled else min(page.segment_height, left)
        parts.append(_decoded_file(page, page.directory.data[at : at + count], rows))
        left -= rows
    if len({part.dtype for part in parts}) != 1:
        raise refusals.corrupt(NAME, "strips or tiles of different depths")
    return np.concatenate(parts)


def _decoded_file(page: Page, data: bytes, rows: int) -> Samples:
    name, reader = _READERS[page.compression]
    if name == "JPEG 2000":
        _refuse_codestream_tiles(data)
    try:
        image = reader(io.BytesIO(data))
        if image.size == (page.segment_width, rows) and image.mode in _CHANNELS:
            image.load()
            return _channels(image, page)
    except DECODER_ERRORS as error:
        raise refusals.corrupt(NAME, f"its {name} data cannot be decompressed") from error
    raise refusals.corrupt(NAME, f"a strip or tile of {name} does not fit the page")


def _channels(image: Image.Image, page: Page) -> Samples:
    wanted = page.stored_samples
    if _CHANNELS[image.mode] != wanted and {_CHANNELS[image.mode], wanted} <= {3, 4}:
        image = image.convert({3: "RGB", 4: "RGBA"}[wanted])
    if _CHANNELS[image.mode] != wanted:
        raise ValueError("as many channels as samples are due")
    samples = np.asarray(image)
    native = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    return native.reshape(image.height, image.width, wanted)


def _refuse_codestream_tiles(data: bytes) -> None:
    """Each tile of a JPEG 2000 code stream costs time, however small."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or at + 40 > len(data):
        raise refusals.corrupt(NAME, "a strip or tile has no JPEG 2000 code stream")
    width, height, _, _, across, down = struct.unpack_from(">6I", data, at + 8)
    tiles = -(-width // max(across, 1)) * -(-height // max(down, 1))
    if tiles > _MOST_CODESTREAM_TILES:
        raise refusals.too_complex(
            NAME, f"{tiles:,} tiles in a JPEG 2000 code stream", f"{_MOST_CODESTREAM_TILES:,}"
        )

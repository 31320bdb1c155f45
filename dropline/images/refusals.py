"""The refusals of an image, each with its code and its words. Equal causes have equal texts.

Three refusals are never confused: damaged bytes, a valid image without a decoder, and bytes of another kind.
"""

import re

from dropline.errors import ImageRefused, InvalidImage
from dropline.settings import ImageSettings

_ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-fA-F]+>|0x[0-9a-fA-F]+")
_MEMORY_WORDS = re.compile(r"out of memory|memory allocation|allocation failed|not enough memory", re.IGNORECASE)
_VARYING = re.compile(r"\s*\([^()]*(?:\d|b')[^()]*\)|b'[^']*'|\b\d{3,}\b")


def corrupt(name: str, reason: str) -> InvalidImage:
    """Damaged bytes of an image format; `reason` in words, without addresses."""
    return InvalidImage(f"this {name} is damaged: upload a good copy ({reason})", code="corrupt_image")


def truncated(name: str, reason: str) -> InvalidImage:
    """The end of the file is missing, and with the end, pixels."""
    return InvalidImage(f"this {name} is cut short: upload it again ({reason})", code="truncated_image")


def damaged_by_transfer(name: str) -> InvalidImage:
    """Bytes that a transfer changed; `name` as in "a PNG damaged by a text-mode transfer"."""
    return InvalidImage(f"the object is {name}: upload a good copy", code="corrupt_image")


def unsupported(name: str) -> InvalidImage:
    """A valid image of a format or with a feature that is not decoded; `name` as in "a TIFF of 64-bit floats"."""
    return InvalidImage(
        f"the object is {name}, which is not decoded: convert it to JPEG, PNG or WebP", code="unsupported_format"
    )


def not_an_image(name: str) -> InvalidImage:
    """Bytes of another kind; `name` as in "a PDF document"."""
    return InvalidImage(
        f"the object is no image, whatever its name says: it looks like {name}", code="not_an_image"
    )


def unknown_bytes() -> InvalidImage:
    """Bytes that no known format begins with."""
    return InvalidImage(
        "the object is no image, whatever its name says: its bytes are of no kind known here", code="not_an_image"
    )


def too_large(width: int, height: int, limits: ImageSettings) -> ImageRefused:
    """More pixels, or a longer side, than the settings allow."""
    return ImageRefused(
        f"the image is {width} x {height} pixels; DROPLINE_IMAGES__MAX_PIXELS allows {limits.max_pixels} "
        f"and DROPLINE_IMAGES__MAX_SIDE {limits.max_side}: raise them, or upload a smaller image",
        code="image_too_large",
    )


def check_size(width: int, height: int, limits: ImageSettings) -> None:
    """Refuse a picture beyond the limits of the settings, before decoding.

    Raises:
        ImageRefused: `image_too_large`.
    """
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise too_large(width, height, limits)


def check_memory(needed_bytes: int, limits: ImageSettings) -> None:
    """Refuse a picture whose decoder surely needs more memory than the limit, where its own error would be vague.

    Raises:
        MemoryError: as Python itself.
    """
    if 0 < limits.child_memory_bytes < needed_bytes:
        raise MemoryError


def check_room(needed_bytes: int) -> None:
    """Tell too little memory from damaged bytes, after a C library failed without a reason.

    Args:
        needed_bytes: memory that the library needs for undamaged bytes.

    Raises:
        MemoryError: this process cannot allocate `needed_bytes`, so the library could not either.
    """
    bytes(needed_bytes)  # not written: the kernel provides no pages


def too_complex(name: str, measured: str, limit: str) -> ImageRefused:
    """More work than pixels and bytes justify, known before decoding; `measured` as in "2,000 scans"."""
    return ImageRefused(
        f"this {name} has {measured}, more than the {limit} that are decoded: save it again without them",
        code="image_too_complex",
    )


def is_of_memory(error: Exception) -> bool:
    """Return True if a C library's error tells of too little memory, by its words alone."""
    return _MEMORY_WORDS.search(str(error)) is not None


def reason(error: Exception) -> str:
    """A decoder's reason in words: without addresses, quoted bytes and counts, which vary between equal causes."""
    words = " ".join(_VARYING.sub("", _ADDRESS.sub("", str(error))).split()).strip(" :.,")
    return words or f"the decoder stopped with {type(error).__name__}"

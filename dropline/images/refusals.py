"""The refusals of an image, each with its code and its words. Equal causes have equal texts.

Three refusals are never confused: damaged bytes, a valid image without a decoder, and bytes of another kind.
"""

from dropline.errors import ImageRefused, InvalidImage


def corrupt(name: str, reason: str) -> InvalidImage:
    """Damaged bytes of an image format; `reason` in words, without addresses."""
    return InvalidImage(f"this {name} is damaged: upload a good copy ({reason})", code="corrupt_image")


def truncated(name: str, reason: str) -> InvalidImage:
    """The end of the file is missing, and with the end, pixels."""
    return InvalidImage(f"this {name} is cut short: upload it again ({reason})", code="truncated_image")


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


def too_complex(name: str, measured: str, limit: str) -> ImageRefused:
    """More work than pixels and bytes justify, known before decoding; `measured` as in "2,000 scans"."""
    return ImageRefused(
        f"this {name} has {measured}, more than the {limit} that are decoded: save it again without them",
        code="image_too_complex",
    )

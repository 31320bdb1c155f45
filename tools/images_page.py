"""The page `docs/images.md`, made from the table of the image corpus that the tests use.

python -m tools.images_page > docs/images.md
"""

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby

from tests.corpus.expected import Case, Refused, Shown
from tests.corpus.table import CASES
from tools.generated_tables import markdown_table

_INTRODUCTION = f"""\
# Images

The bytes of an object decide its format; its name and its content type do not. This page lists the {len(CASES)}
files of `tests/corpus`: a test gives each file to the decoder and compares the result. The command
`python -m tests.corpus DIR` writes the files to a directory.

This page is made by `make images-page` from the table of the tests.
"""
_ROW_AND_ERROR = """\
The row has the status `failed`, the code in `error_code`, and the feature or format by name in `error`.
"""
_MORE = """\
Of the image formats that the command `file` has, those are not named whose signatures are one to three bytes long
and frequent in other files, such as raw fax data; such files are `not_an_image`. The list is in
`dropline/images/header_probes.py`.

Memory is bounded by `DROPLINE_IMAGES__CHILD_MEMORY_BYTES`; an image that needs more is `out_of_memory`. A WebP
needs twelve bytes per pixel and two copies of its file: by default, one of 100
megapixels is decoded.

More codes, of time and memory and of a missing decoder, are in [error-codes.md](error-codes.md); the limits are in
[settings.md](settings.md#images).
"""
_FIRST_PICTURE = (
    "the picture that browsers show first: the first frame of an animation, the primary picture of a HEIF, the "
    "first page of a TIFF that is marked neither as a thumbnail nor as a mask; a GIF's first frames without any "
    "visible pixel, which browsers show for an instant, are skipped"
)
_UPRIGHT = (
    "upright, by EXIF's own tag (JPEG, PNG, WebP, TIFF) or by the turns of the file (HEIF, AVIF); an orientation "
    "in XMP alone has no effect, as in browsers"
)
_SRGB = (
    "sRGB, by the embedded profile, or by gAMA in a PNG; a damaged profile, or one of another colour space, has "
    "no effect"
)
_GROUND = "white; a dark grey where all visible pixels are nearly white, since a white logo would vanish on white"
_WORDS = (
    "8 bits, from zero to the file's MaxSampleValue; without that tag, samples that all fit into 12 bits count as "
    "12 bits, which most viewers show nearly black"
)
#: Each property of a file, and the result of its conversion.
_CONVERTED = (
    ("size", "a square of the model's size, by bicubic interpolation; the row has the upright width and height"),
    ("several pictures", _FIRST_PICTURE),
    ("orientation", _UPRIGHT),
    ("colours", _SRGB),
    ("CMYK, YCCK", "sRGB, by the embedded profile; without a profile, as complements of red, green and blue"),
    ("transparent pixels", _GROUND),
    ("an alpha channel of zeros in a BMP", "an opaque picture: the channel is not believed"),
    ("10 to 16 bits per sample", "8 bits, over the full range of the samples"),
    ("fewer bits in words of 16 bits (TIFF)", _WORDS),
    ("floats, signed integers, 32 bits", "8 bits, from the smallest to the largest value"),
    ("text, thumbnails, unused chunks, a missing end marker", "no effect: a caption does not need these bytes"),
)
_NUMBER = re.compile(r"(?<![\d,.:-])\d+(?![\d,.:-]*\d)(?![a-z])")

#: Meaning and remedy of each code of a refusal.
_CODES = {
    "empty_object": ("The object has zero bytes.", "Upload the image again."),
    "not_an_image": ("The bytes are those of text, a document, a video or unknown.", "Upload an image."),
    "unsupported_format": (
        "The bytes are a valid image, in a format or with a feature that is not decoded; the error names it.",
        "Convert the image to JPEG, PNG or WebP.",
    ),
    "truncated_image": (
        "The end of the file is missing, and with it pixels.",
        "Upload the whole file again.",
    ),
    "corrupt_image": ("Bytes that the picture needs are wrong or missing.", "Upload a good copy."),
    "image_too_large": (
        "The header tells more pixels or a longer side than the settings allow.",
        "Raise `DROPLINE_IMAGES__MAX_PIXELS` or `DROPLINE_IMAGES__MAX_SIDE`, or upload a smaller image.",
    ),
    "image_too_complex": (
        "The file has more parts (scans, directories, strips, tiles) than a picture of its size needs.",
        "Save the image again with any program.",
    ),
}


def page() -> str:
    """The whole page, as Markdown."""
    accepted = [case for case in CASES if isinstance(case.right, Shown)]
    return "\n".join([_INTRODUCTION, *_accepted(accepted), *_converted(), *_refused(), _MORE])


def _accepted(cases: list[Case]) -> Iterator[str]:
    yield "## What is accepted\n"
    for topic, group in groupby(cases, key=lambda case: case.topic):
        yield f"- **{topic}:** {'; '.join(merged(case.what for case in group))}."
    yield ""


def merged(descriptions: Iterable[str]) -> list[str]:
    """The descriptions without repetitions; those that differ in one number alone become one, with all numbers."""
    found: dict[str, list[str]] = {}
    for each in descriptions:
        numbers = _NUMBER.findall(each)
        template = _NUMBER.sub("{}", each.replace("{", "(").replace("}", ")")) if len(numbers) == 1 else each
        found.setdefault(template, []).extend(numbers if len(numbers) == 1 else [])
    return [template.format(", ".join(dict.fromkeys(n))) if n else template for template, n in found.items()]


def _converted() -> Iterator[str]:
    yield "## What is converted, and how\n"
    yield markdown_table(["of the file", "becomes"], _CONVERTED)
    yield ""


def _refused() -> Iterator[str]:
    yield "## What is refused, and what to do\n"
    yield _ROW_AND_ERROR
    rows = [[f"[`{code}`](#{code})", meaning, remedy] for code, (meaning, remedy) in _CODES.items()]
    yield markdown_table(["code", "meaning", "what to do"], rows)
    yield ""
    for code in _CODES:
        yield f"### {code}\n"
        yield markdown_table(["format", "file", "the error has the words"], list(_refusals(code)))
        yield ""


def _refusals(code: str) -> Iterator[list[str]]:
    for case in CASES:
        if isinstance(case.right, Refused) and case.right.code == code:
            yield [case.topic, case.what, case.right.words]


def codes() -> frozenset[str]:
    """The codes that the page explains."""
    return frozenset(_CODES)


if __name__ == "__main__":
    sys.stdout.write(page())

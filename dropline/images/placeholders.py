"""Placeholders for images that cannot be shown: a sign and a line of text.

A placeholder is a raster image: browsers lay out every SVG as a document of its own, and a list with hundreds of
such documents scrolls with eight frames a second.
"""

import io
from typing import Final

from PIL import Image, ImageDraw, ImageFont

#: Width and height, in pixels: a size that no copy in a grid has, so that a page tells a placeholder from a copy.
SIZE_PX: Final = (521, 391)
#: Width and height of the drawing, in the units of the lines below.
_DRAWN: Final = (400, 300)
#: On a transparent ground; the contrast to the light and to the dark ground of the page is at least 3.4.
_INK = (120, 130, 140)
_STROKE, _LETTERS, _BASELINE = 7, 31, 222
#: Drawn larger and reduced: Pillow's lines have hard edges.
_SCALE = 3

Line = tuple[tuple[int, int], ...]

#: A bin.
GONE: Final[tuple[Line, ...]] = (
    ((150, 92), (250, 92)),
    ((178, 92), (178, 76), (222, 76), (222, 92)),
    ((236, 92), (231, 166), (169, 166), (164, 92)),
    ((188, 114), (188, 146)),
    ((212, 114), (212, 146)),
)
#: A struck-out picture.
BROKEN: Final[tuple[Line, ...]] = (
    ((140, 76), (260, 76), (260, 160), (140, 160), (140, 76)),
    ((140, 144), (176, 110), (202, 134), (222, 116), (260, 150)),
    ((146, 64), (254, 172)),
)


def placeholder(sign: tuple[Line, ...], words: str) -> bytes:
    """A WebP file of `SIZE_PX` with a transparent ground, for pages of every colour scheme.

    Args:
        sign: lines to draw above the words, in units of the drawing.
        words: one short line.
    """
    width, height = (side * _SCALE for side in _DRAWN)
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    for line in sign:
        _stroke(draw, [(x * _SCALE, y * _SCALE) for x, y in line])
    font = ImageFont.load_default(_LETTERS * _SCALE)
    draw.text((width // 2, _BASELINE * _SCALE), words, fill=255, font=font, anchor="ms")
    picture = Image.new("RGBA", SIZE_PX, (*_INK, 0))
    picture.putalpha(mask.resize(SIZE_PX, Image.Resampling.LANCZOS))
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=True)
    return file.getvalue()


def _stroke(draw: ImageDraw.ImageDraw, points: list[tuple[int, int]]) -> None:
    """A line with round joints and ends."""
    width = _STROKE * _SCALE
    draw.line(points, fill=255, width=width)
    for x, y in points:
        draw.circle((x, y), width // 2, fill=255)

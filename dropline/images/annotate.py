"""Draws the boxes, polygons and text regions of an answer on the picture: for `dropline caption --annotate`.

The picture is decoded by the decoder process, as every image of a stranger, and is upright. A picture with sides
above 4,096 pixels is drawn smaller, and a small one larger, so that the labels can be read.
"""

import io
import math
from collections.abc import Iterator, Sequence
from itertools import islice

from PIL import Image, ImageDraw, ImageFont

from dropline.contract import Dimensions
from dropline.images.picture_formats import FORMATS
from dropline.images.renditions import Decoder, fitted
from dropline.regions import Box, Outline, Polygon, regions_of

#: The longest side of a drawn picture, in pixels.
MAX_SIDE_PX = 4096
#: More regions cover the picture.
MAX_REGIONS = 200
#: The longest side of a picture that is enlarged to the next whole multiple, in pixels.
_SMALL_PX = 640
_MOST_CHARACTERS = 80
_Colour = tuple[int, int, int]
#: Colours that people with any colour vision tell apart (Okabe and Ito, 2008).
_COLOURS: tuple[_Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
_BLACK: _Colour = (0, 0, 0)
_WHITE: _Colour = (255, 255, 255)
_FILL_OPACITY = 48
_Frame = tuple[int, int, int, int]
_Point = tuple[float, float]


def annotate(decoder: Decoder, data: bytes, result: object, suffix: str) -> bytes:
    """The picture with its regions drawn, as a file.

    Args:
        decoder: decodes the image.
        data: bytes of an image file.
        result: as in `captions.result`: regions in pixels of the upright original; None draws no region.
        suffix: as `picture_formats.require_suffix` returns it.

    Raises:
        PermanentError, DecoderLost, DecoderUnavailable: as `DecoderProcess.decode`.
    """
    original = decoder.decode(data, 1).dimensions
    side_px = min(MAX_SIDE_PX, max(original.width, original.height))
    pixels = decoder.decode(data, side_px).pixels
    picture = Image.fromarray(pixels).resize(drawn_size(original), Image.Resampling.LANCZOS)
    draw_regions(picture, original, result)
    name, options = FORMATS[suffix]
    file = io.BytesIO()
    picture.save(file, name, **options)
    return file.getvalue()


def drawn_size(original: Dimensions) -> tuple[int, int]:
    """Width and height of the drawn picture, in pixels."""
    width, height = fitted(original, MAX_SIDE_PX)
    factor = -(-_SMALL_PX // max(width, height))
    return width * factor, height * factor


def draw_regions(picture: Image.Image, original: Dimensions, result: object) -> None:
    """Draw the regions of a result on a picture (RGB) of any size; no outline is above a label."""
    pen = _Pen(picture, original)
    regions = list(islice(regions_of(result), MAX_REGIONS))
    colours = _colours_of(regions)
    for region, colour in zip(regions, colours, strict=True):
        pen.outline(region, colour)
    for region, colour in zip(regions, colours, strict=True):
        pen.label(region, colour)


def _colours_of(regions: Sequence[Box | Polygon]) -> list[_Colour]:
    """The same colour for equal labels; each region without a label has the next colour."""
    numbers: dict[str, int] = {}
    keys = [region.label or f"\0{place}" for place, region in enumerate(regions)]
    return [_COLOURS[numbers.setdefault(key, len(numbers)) % len(_COLOURS)] for key in keys]


class _Pen:
    """Draws on one picture, with lines and letters in proportion to the picture."""

    def __init__(self, picture: Image.Image, original: Dimensions) -> None:
        self._draw = ImageDraw.Draw(picture, "RGBA")
        self._size = picture.size
        self._scale = (picture.width / original.width, picture.height / original.height)
        longest = max(picture.size)
        self._line_px = max(2, round(longest / 400))
        self._font = ImageFont.load_default(max(14, round(longest / 50)))
        assert isinstance(self._font, ImageFont.FreeTypeFont)
        self._line_height = sum(self._font.getmetrics())
        self._margin = self._line_height // 4
        self._tags: list[_Frame] = []

    def outline(self, region: Box | Polygon, colour: _Colour) -> None:
        """The lines of a region, with black edges: one of the two differs from every ground."""
        for outline in region.outlines:
            # Points closer than the line is wide make a drawing slow, and change nothing that can be seen.
            points = spaced(self._placed(outline), self._line_px)
            if isinstance(region, Polygon):
                self._draw.polygon(points, fill=(*colour, _FILL_OPACITY))
            self._stroke(points, _BLACK, 3 * self._line_px)
            self._stroke(points, colour, self._line_px)

    def label(self, region: Box | Polygon, colour: _Colour) -> None:
        """The label in a frame of the region's colour, at a free place on its edge, inside the picture."""
        text = self._shortened(printable(region.label))
        if not text:
            return
        frame = self._free_frame(text, self._placed([point for outline in region.outlines for point in outline]))
        self._tags.append(frame)
        self._draw.rectangle(frame, fill=colour, outline=_BLACK)
        place = (frame[0] + self._margin, frame[1] + self._margin // 2)
        self._draw.text(place, text, fill=ink_on(colour), font=self._font)

    def _stroke(self, points: Sequence[_Point], colour: _Colour, width: int) -> None:
        """A closed line with round corners; the `joint` of Pillow computes each corner in Python."""
        self._draw.line([*points, points[0]], fill=colour, width=width)
        radius = (width - 1) / 2
        for x, y in points:
            self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def _placed(self, outline: Outline | Sequence[_Point]) -> list[_Point]:
        """Points of the original as points of the picture, none outside."""
        (width, height), (across, down) = self._size, self._scale
        return [
            (min(max(x * across, 0.0), width - 1.0), min(max(y * down, 0.0), height - 1.0)) for x, y in outline
        ]

    def _free_frame(self, text: str, points: Sequence[_Point]) -> _Frame:
        width = round(self._font.getlength(text)) + 2 * self._margin
        height = self._line_height + 2 * (self._margin // 2)
        places = [self._frame(x, y, width, height) for x, y in _corners(points, height)]
        return next((each for each in places if not self._is_taken(each)), places[0])

    def _frame(self, x: float, y: float, width: int, height: int) -> _Frame:
        left = max(0, min(round(x), self._size[0] - 1 - width))
        top = max(0, min(round(y), self._size[1] - 1 - height))
        return left, top, left + width, top + height

    def _is_taken(self, frame: _Frame) -> bool:
        left, top, right, bottom = frame
        return any(
            left < other[2] and other[0] < right and top < other[3] and other[1] < bottom for other in self._tags
        )

    def _shortened(self, text: str) -> str:
        """The text, cut to three quarters of the picture's width."""
        most = 0.75 * self._size[0]
        if self._font.getlength(text) <= most:
            return text
        while text and self._font.getlength(f"{text}…") > most:
            text = text[:-1]
        return f"{text}…" if text else ""


def spaced(points: Sequence[_Point], least: float) -> Sequence[_Point]:
    """The points of an outline without those closer than `least` pixels to the kept point before.

    An outline with fewer than three such points is returned as it is.
    """
    kept = [points[0]]
    for point in points[1:]:
        if math.dist(point, kept[-1]) >= least:
            kept.append(point)
    return kept if len(kept) >= 3 else points


def _corners(points: Sequence[_Point], height: int) -> Iterator[_Point]:
    """Places for a label of a height: above a region, inside at its top, inside at its bottom, and below."""
    left, top = min(x for x, _ in points), min(y for _, y in points)
    bottom = max(y for _, y in points)
    yield from ((left, y) for y in (top - height, top, bottom - height, bottom))


def ink_on(colour: _Colour) -> _Colour:
    """Black or white: the one with the larger contrast on a colour."""
    return _BLACK if luminance(colour) > 0.179 else _WHITE


def luminance(colour: _Colour) -> float:
    """The relative luminance of a colour of sRGB (WCAG 2), 0 to 1."""
    linear = [(each / 255 + 0.055) ** 2.4 / 1.055**2.4 if each > 10 else each / 255 / 12.92 for each in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def printable(label: str) -> str:
    """A label as one short line. The font has Latin letters alone: others are drawn as empty frames."""
    short = label if len(label) <= _MOST_CHARACTERS else f"{label[:_MOST_CHARACTERS]}…"
    return "".join(each if each.isprintable() else " " for each in short).strip()

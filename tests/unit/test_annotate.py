"""Regions drawn on pictures: at their places, readable on every ground and at every size."""

import io
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dropline.contract import Dimensions
from dropline.errors import ClientError
from dropline.images import annotate as module
from dropline.images.annotate import annotate, draw_regions, drawn_size, ink_on, luminance, spaced
from dropline.images.decoded import Decoded
from dropline.images.decoding import decode
from dropline.images.picture_formats import require_suffix
from dropline.settings import ImageSettings

COLOURS = module._COLOURS
GROUNDS = [(255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 30, 30), *COLOURS]
BOX = {"bboxes": [[100, 80, 300, 220]], "labels": [""]}
SIZE = Dimensions(400, 300)


class InThisProcess:
    """The decoder of the product, without its process."""

    def decode(self, data: bytes, side_px: int) -> Decoded:
        """The pixels, stretched to a square."""
        return decode(data, side_px, ImageSettings())


def file_of(picture: Image.Image, name: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, name, **options)
    return file.getvalue()


def drawn(ground: tuple[int, int, int], result: object, size: Dimensions = SIZE) -> npt.NDArray[np.uint8]:
    """The pixels of a plain picture with regions."""
    picture = Image.new("RGB", (size.width, size.height), ground)
    draw_regions(picture, size, result)
    return np.asarray(picture)


def contrast(one: Any, other: Any) -> float:
    """The contrast of two colours (WCAG 2), 1 to 21."""
    low, high = sorted(luminance((int(red), int(green), int(blue))) for red, green, blue in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", GROUNDS)
def test_an_outline_is_seen_on_every_ground(ground: tuple[int, int, int]) -> None:
    """Across each of the four edges, a pixel of the line has a contrast of 3 at least to the ground."""
    pixels = drawn(ground, BOX)
    edges = [pixels[70:90, 200], pixels[210:230, 200], pixels[150, 90:110], pixels[150, 290:310]]
    assert all(max(contrast(pixel, ground) for pixel in edge) >= 3 for edge in edges)
    assert (pixels[150, 200] == ground).all()
    assert (pixels[20, 20] == ground).all()


@pytest.mark.parametrize("colour", COLOURS)
def test_a_label_is_read_on_its_colour(colour: tuple[int, int, int]) -> None:
    """Letters have a contrast of 4.5 at least."""
    assert contrast(ink_on(colour), colour) >= 4.5


def test_luminance_of_known_colours() -> None:
    """Black, white, and the grey that WCAG calls just readable on white."""
    assert luminance((0, 0, 0)) == 0
    assert luminance((255, 255, 255)) == pytest.approx(1)
    assert contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)


def test_each_kind_of_region_is_drawn() -> None:
    """Boxes, outlines in several parts, and the four corners of a line of text; a polygon is tinted."""
    square = [10, 10, 100, 10, 100, 100, 10, 100]
    other = [200, 150, 300, 150, 300, 250, 200, 250]
    for result in ({"quad_boxes": [square, other]}, {"polygons": [[square, other]]}):
        pixels = drawn((255, 255, 255), result)
        for x, y in ((55, 55), (250, 200)):
            assert tuple(pixels[y, x]) != (255, 255, 255)
            assert contrast(pixels[y, x], (255, 255, 255)) < 3
        assert (pixels[130, 150] == 255).all()


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=3, max_size=60))
def test_an_outline_keeps_its_shape_without_points_closer_than_the_line_is_wide(
    points: list[tuple[float, float]],
) -> None:
    """Kept points lie apart, and each other point lies beside a kept one; a tiny outline is kept whole."""
    kept = spaced(points, 5)
    if len(kept) < len(points):
        assert all(math.dist(one, other) >= 5 for one, other in pairwise(kept))
        assert all(min(math.dist(point, each) for each in kept) < 5 for point in set(points) - set(kept))
    assert len(kept) >= 3


def test_equal_labels_have_equal_colours() -> None:
    """Labels decide the colour; regions without a label have a colour each."""
    boxes = [[10, 60, 50, 100], [110, 60, 150, 100], [210, 60, 250, 100], [310, 60, 350, 100]]
    pixels = drawn((255, 255, 255), {"bboxes": boxes, "labels": ["cat", "dog", "cat"]})
    colours = [tuple(pixels[80, left]) for left in (10, 110, 210, 310)]
    assert colours == [COLOURS[0], COLOURS[1], COLOURS[0], COLOURS[2]]


def test_labels_lie_apart_and_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four labels of one box do not cover each other; labels at the picture's edges are inside."""
    pens: list[module._Pen] = []
    make = module._Pen.__init__

    def kept(pen: module._Pen, *values: Any) -> None:
        make(pen, *values)
        pens.append(pen)

    monkeypatch.setattr(module._Pen, "__init__", kept)
    boxes = [[100, 80, 300, 220]] * 4 + [[0, 0, 5, 5], [395, 295, 400, 300]]
    drawn(
        (0, 0, 0), {"bboxes": boxes, "labels": ["a red circle", "b", "c", "d", "e", "a long label at the corner"]}
    )
    frames = pens[0]._tags
    assert len(frames) == 6
    for number, (left, top, right, bottom) in enumerate(frames):
        assert 0 <= left < right < 400
        assert 0 <= top < bottom < 300
        for other in frames[number + 1 :]:
            assert left >= other[2] or other[0] >= right or top >= other[3] or other[1] >= bottom


@given(st.text(max_size=200), st.sampled_from([Dimensions(1, 1), Dimensions(3, 700), Dimensions(400, 300)]))
def test_labels_of_any_script_are_drawn(label: str, size: Dimensions) -> None:
    """Any text, with lone surrogates and control characters, on a picture of any shape."""
    drawn((9, 9, 9), {"bboxes": [[0, 0, 1, 1]], "labels": [label]}, size)


@pytest.mark.parametrize("label", ["猫", "قطة", "Ко́т", "แมว", "👩‍👩‍👧", "a\nb", "\u202eabc", "w" * 10_000])
def test_labels_of_known_scripts_are_drawn(label: str) -> None:
    """A label has a frame, also where the font has no letters of the script."""
    pixels = drawn((255, 255, 255), {"bboxes": [[100, 80, 300, 220]], "labels": [label]})
    assert (pixels[60:78, 105] == COLOURS[0]).all(axis=1).any()


NUMBERS = st.floats() | st.integers() | st.integers(-500, 500)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(st.sampled_from(["bboxes", "labels", "quad_boxes", "polygons", "x"]), inner, max_size=4)
    ),
)
BOXES = st.fixed_dictionaries(
    {
        "bboxes": st.lists(st.lists(NUMBERS, min_size=4, max_size=4), max_size=4),
        "polygons": st.lists(st.lists(st.lists(NUMBERS, min_size=6, max_size=9), max_size=2), max_size=2),
    }
)


@given(JSON | BOXES)
def test_any_result_is_drawn(result: object) -> None:
    """Results of other releases, and coordinates outside the picture, raise no error."""
    drawn((9, 9, 9), result, Dimensions(40, 30))


@pytest.mark.parametrize(
    ("original", "size"),
    [
        ((1, 1), (640, 640)),
        ((90, 60), (720, 480)),
        ((640, 480), (640, 480)),
        ((639, 10), (1278, 20)),
        ((4032, 3024), (4032, 3024)),
        ((8192, 100), (4096, 50)),
        ((30_000, 1), (4096, 1)),
        ((1, 30_000), (1, 4096)),
    ],
)
def test_sizes(original: tuple[int, int], size: tuple[int, int]) -> None:
    """A picture keeps its size, unless its labels would be too small or its pixels too many."""
    assert drawn_size(Dimensions(*original)) == size


@pytest.mark.parametrize(
    ("suffix", "name"), [(".png", "PNG"), (".JPG", "JPEG"), (".jpeg", "JPEG"), (".webp", "WEBP")]
)
def test_the_suffix_decides_the_format(suffix: str, name: str) -> None:
    """The file has the format and no metadata of the original; regions lie on the enlarged picture."""
    data = file_of(Image.new("RGB", (64, 48), (255, 255, 255)), "JPEG", comment=b"private")
    file = annotate(InThisProcess(), data, {"bboxes": [[16, 12, 48, 36]]}, require_suffix(Path(f"a{suffix}")))
    picture = Image.open(io.BytesIO(file))
    assert (picture.format, picture.size) == (name, (640, 480))
    assert b"private" not in file
    pixels = np.asarray(picture.convert("RGB"))
    assert contrast(pixels[240, 160], (255, 255, 255)) > 1.5
    assert contrast(pixels[240, 320], (255, 255, 255)) < 1.1


@pytest.mark.parametrize("name", ["a", "a.gif", "a.png.txt", ".png", "a.svg"])
def test_another_suffix_is_refused(name: str) -> None:
    """Before any work, with the suffixes that can be written."""
    with pytest.raises(ClientError, match=r"\.png, \.jpg, \.jpeg, \.webp"):
        require_suffix(Path(name))


def test_regions_are_in_pixels_of_the_upright_picture() -> None:
    """A photograph that its camera holds sideways is drawn upright, with the region at its place."""
    stored = Image.new("RGB", (800, 400), (0, 0, 0))
    stored.paste((255, 255, 255), (0, 0, 100, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees: the stored left upper corner is the upright right upper corner
    data = file_of(stored, exif=exif)
    file = annotate(InThisProcess(), data, {"bboxes": [[300, 0, 399, 100]]}, ".png")
    pixels = np.asarray(Image.open(io.BytesIO(file)))
    assert pixels.shape == (800, 400, 3)
    assert (pixels[50, 350] > 250).all()
    assert (pixels[400, 200] < 5).all()
    assert contrast(pixels[50, 300], (0, 0, 0)) > 3


@pytest.mark.parametrize(("count", "is_drawn"), [(module.MAX_REGIONS - 1, True), (module.MAX_REGIONS, False)])
def test_few_regions_of_many(count: int, is_drawn: bool) -> None:
    """A thousand regions would cover the picture: only the first are drawn."""
    boxes = [[10, 10, 50, 50]] * count + [[200, 200, 300, 280]]
    assert (drawn((0, 0, 0), {"bboxes": boxes})[150:] != 0).any() == is_drawn

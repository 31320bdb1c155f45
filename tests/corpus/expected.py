"""The right result of a file, and the comparison of a decoder's result with the right one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.corpus.scenes import GREY, ITEMS, SIZE, Rgb, scene

#: Width and height of the compared square, in pixels.
SIDE = 48
#: Smallest difference, of 255, between the items and a ground of any colour.
_CONTRAST = 60
#: Largest difference of an item's mean colour from the right colour, of 255, above the tolerance of the file.
_ITEM_SLACK = 24
Square = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Shown:
    """The file is decoded and shows a scene."""

    scene: str = "S"
    #: Upright width and height in the row.
    size: tuple[int, int] = SIZE
    #: None: the ground may have any colour from which the items stand out.
    ground: Rgb | None = GREY
    #: Largest mean absolute difference from the reference drawing, of 255.
    tolerance: float = 6.0
    #: Upright reference other than the drawing of the scene.
    reference: Callable[[], Image.Image] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The file is refused."""

    code: str
    #: Words in the error.
    words: str


@dataclass(frozen=True, slots=True)
class Case:
    """One file of the corpus."""

    #: The heading on the page under which the file is listed, such as "JPEG".
    topic: str
    name: str
    #: A description of the file, for the page.
    what: str
    make: Callable[[], bytes]
    right: Shown | Refused


def difference(found: Square, found_size: tuple[int, int], right: Shown) -> str:
    """The first difference of a decoded square from the right result, in words; empty if the results agree.

    Args:
        found: uint8, [SIDE, SIDE, 3].
        found_size: the decoder's width and height of the upright picture.
        right: the right result.
    """
    if found_size != right.size:
        return f"size {found_size} instead of {right.size}"
    return _items_difference(found, right) or _ground_difference(found, right)


def _items_difference(found: Square, right: Shown) -> str:
    wanted = _square(right)
    for item in ITEMS[right.scene]:
        region = _core(item.box)
        seen, due = found[region].mean(axis=(0, 1)), wanted[region].mean(axis=(0, 1))
        if np.abs(seen - due).max() > _ITEM_SLACK + right.tolerance:
            return f"the {item.label} has the colour {_words(seen)} instead of {_words(due)}"
    return ""


def _ground_difference(found: Square, right: Shown) -> str:
    wanted = _square(right)
    if right.ground is not None or right.reference is not None:
        apart = float(np.abs(found.astype(float) - wanted.astype(float)).mean())
        return "" if apart <= right.tolerance else f"a mean difference of {apart:.1f}, more than {right.tolerance}"
    ground = found.astype(float)[_ground_mask(right)]
    for item in ITEMS[right.scene]:
        if np.abs(ground.mean(axis=0) - np.array(item.rgb)).max() < _CONTRAST or ground.std(axis=0).max() > 12:
            return f"the {item.label} does not stand out from its ground {_words(ground.mean(axis=0))}"
    return ""


def _square(right: Shown) -> Square:
    whole = right.reference() if right.reference else scene(right.scene, right.ground or GREY, right.size)
    return np.asarray(whole.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _core(box: tuple[float, float, float, float]) -> tuple[slice, slice]:
    """The middle of an item's box: inside each shape, slightly below the centre."""
    x, y = (box[0] + box[2]) / 2 * SIDE, (box[1] + box[3]) / 2 * SIDE
    return slice(int(y) - 1, int(y) + 3), slice(int(x) - 1, int(x) + 2)


def _ground_mask(right: Shown) -> npt.NDArray[np.bool_]:
    apart = np.ones((SIDE, SIDE), bool)
    for item in ITEMS[right.scene]:
        x0, y0, x1, y1 = (round(edge * SIDE) for edge in item.box)
        apart[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2] = False
    return apart


def _words(colour: npt.NDArray[np.float64]) -> str:
    return "({:.0f}, {:.0f}, {:.0f})".format(*colour)

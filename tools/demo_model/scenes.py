"""Scenes of coloured shapes: random scenes, and the exact answer to each task."""

import math
import random
from dataclasses import dataclass
from typing import Literal

Shape = Literal["circle", "square", "triangle", "star"]
Size = Literal["small", "large"]
Task = Literal["<CAPTION>", "<DETAILED_CAPTION>", "<OD>"]
Box = tuple[float, float, float, float]

TASKS: tuple[Task, ...] = ("<CAPTION>", "<DETAILED_CAPTION>", "<OD>")
SHAPES: tuple[Shape, ...] = ("circle", "square", "triangle", "star")
SIZES: tuple[Size, ...] = ("small", "large")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 32, 36),
    "orange": (246, 138, 24),
    "yellow": (246, 222, 40),
    "green": (36, 160, 60),
    "blue": (36, 84, 220),
    "purple": (140, 48, 190),
    "white": (248, 248, 248),
    "black": (18, 18, 18),
}
PLACES = ("on the left", "in the middle", "on the right")
BACKGROUNDS = ("plain", "gradient", "noise", "stripes")

#: Location tokens per axis.
LOCATION_BINS = 1000
#: Neighbouring location tokens that share one position in the training texts.
LOCATION_STEP = 20

# Columns of the centres, as fractions of the width. Gaps between the columns make "left", "middle" and the order
# from left to right unambiguous.
_COLUMNS = ((0.12, 0.29), (0.41, 0.59), (0.71, 0.88))
_DIAMETERS: dict[Size, tuple[float, float]] = {"small": (0.19, 0.23), "large": (0.34, 0.42)}
_MARGIN = 0.02
_GAP = 0.025


@dataclass(frozen=True, slots=True)
class Item:
    """One shape: words, column (0 to 2) and box (x0, y0, x1, y1) as fractions of the image."""

    colour: str
    shape: Shape
    size: Size
    column: int
    box: Box
    rgb: tuple[int, int, int]

    @property
    def label(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Background:
    """A muted background; `seed` sets the grain, `angle` (radians) the direction of stripes and gradients."""

    kind: str
    first: tuple[int, int, int]
    second: tuple[int, int, int]
    angle: float
    period: float
    seed: int


@dataclass(frozen=True, slots=True)
class Scene:
    """Items ordered from left to right on a background; `aspect` is width over height."""

    items: tuple[Item, ...]
    background: Background
    aspect: float


def sample_scene(rng: random.Random, count: int | None = None, aspect: float | None = None) -> Scene:
    """A random scene of `count` items (one to three when None); the same generator state gives the same scene."""
    count = count or rng.randint(1, 3)
    aspect = aspect or rng.uniform(0.75, 1.5)
    items = _place(rng, count, aspect)
    while items is None:
        items = _place(rng, count, aspect)
    return Scene(items=items, background=_background(rng), aspect=aspect)


def _place(rng: random.Random, count: int, aspect: float) -> tuple[Item, ...] | None:
    items: list[Item] = []
    for column in sorted(rng.sample(range(3), count)):
        item = _item(rng, column, aspect)
        if item is None or any(_touch(item.box, other.box) for other in items):
            return None
        items.append(item)
    return tuple(items)


def _item(rng: random.Random, column: int, aspect: float) -> Item | None:
    size = rng.choice(SIZES)
    diameter = rng.uniform(*_DIAMETERS[size])
    half_w, half_h = diameter * min(1.0, 1 / aspect) / 2, diameter * min(1.0, aspect) / 2
    low, high = _COLUMNS[column]
    low, high = max(low, _MARGIN + half_w), min(high, 1 - _MARGIN - half_w)
    if low > high:
        return None
    x, y = rng.uniform(low, high), rng.uniform(_MARGIN + half_h, 1 - _MARGIN - half_h)
    colour = rng.choice(tuple(COLOURS))
    return Item(
        colour=colour,
        shape=rng.choice(SHAPES),
        size=size,
        column=column,
        box=(x - half_w, y - half_h, x + half_w, y + half_h),
        rgb=_jitter(rng, COLOURS[colour], 10),
    )


def _touch(a: Box, b: Box) -> bool:
    apart_x = a[2] + _GAP < b[0] or b[2] + _GAP < a[0]
    apart_y = a[3] + _GAP < b[1] or b[3] + _GAP < a[1]
    return not (apart_x or apart_y)


def _background(rng: random.Random) -> Background:
    first = _muted(rng)
    return Background(
        kind=rng.choice(BACKGROUNDS),
        first=first,
        second=_muted(rng),
        angle=rng.uniform(0.0, math.pi),
        period=rng.uniform(0.08, 0.25),
        seed=rng.getrandbits(32),
    )


def _muted(rng: random.Random) -> tuple[int, int, int]:
    # Tinted middle greys: every item colour, black and white included, contrasts with the background.
    return _jitter(rng, (rng.randint(105, 190),) * 3, 18)


def _jitter(rng: random.Random, rgb: tuple[int, ...], by: int) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, value + rng.randint(-by, by))) for value in rgb)
    return red, green, blue


def answer(scene: Scene, task: Task) -> str:
    """The exact answer to a task, location tokens included."""
    if task == "<OD>":
        return "".join(item.label + location_tokens(item.box) for item in scene.items)
    if task == "<CAPTION>":
        return _enumerate([f"{_article(item.colour)} {item.label}" for item in scene.items])
    return _enumerate([f"a {item.size} {item.label} {PLACES[item.column]}" for item in scene.items])


def location_tokens(box: Box) -> str:
    """The four location tokens of a box (fractions of the image), at the precision of the training texts."""
    return "".join(f"<loc_{location_bin(value)}>" for value in box)


def location_bin(value: float) -> int:
    """The location token of a coordinate between 0 and 1 in the training texts: the middle of its step."""
    step = min(int(value * LOCATION_BINS), LOCATION_BINS - 1) // LOCATION_STEP
    return step * LOCATION_STEP + LOCATION_STEP // 2


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _enumerate(phrases: list[str]) -> str:
    if len(phrases) == 1:
        return phrases[0]
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]

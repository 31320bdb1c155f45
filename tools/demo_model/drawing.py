"""A scene drawn with Pillow, at any size."""

import math
import random
from functools import cache

from PIL import Image, ImageDraw

from tools.demo_model.scenes import Background, Item, Scene

Point = tuple[float, float]

# Points in the unit square; each shape touches all four sides, so that its box is exact.
_TRIANGLE: tuple[Point, ...] = ((0.5, 0.0), (1.0, 1.0), (0.0, 1.0))


@cache
def _star() -> tuple[Point, ...]:
    radii = (0.5, 0.21)
    angles = [math.pi * step / 5 - math.pi / 2 for step in range(10)]
    points = [(math.cos(angle) * radii[i % 2], math.sin(angle) * radii[i % 2]) for i, angle in enumerate(angles)]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top, bottom = min(y for _, y in points), max(y for _, y in points)
    return tuple(((x - left) / (right - left), (y - top) / (bottom - top)) for x, y in points)


def draw(scene: Scene, height: int, oversample: int = 3) -> Image.Image:
    """The scene as an RGB image, `height` pixels high and `height * aspect` wide.

    The image is drawn larger by the factor `oversample` and then reduced, which smooths the edges; the factor is 1
    if the caller reduces the image.
    """
    width = round(height * scene.aspect)
    image = _draw_background(scene.background, width * oversample, height * oversample)
    pen = ImageDraw.Draw(image)
    for item in scene.items:
        _draw_item(pen, item, *image.size)
    return image.reduce(oversample) if oversample > 1 else image


def _draw_item(pen: ImageDraw.ImageDraw, item: Item, width: int, height: int) -> None:
    x0, y0, x1, y1 = item.box[0] * width, item.box[1] * height, item.box[2] * width, item.box[3] * height
    if item.shape == "circle":
        pen.ellipse((x0, y0, x1, y1), fill=item.rgb)
    elif item.shape == "square":
        pen.rectangle((x0, y0, x1, y1), fill=item.rgb)
    else:
        outline = _TRIANGLE if item.shape == "triangle" else _star()
        pen.polygon([(x0 + x * (x1 - x0), y0 + y * (y1 - y0)) for x, y in outline], fill=item.rgb)


def _draw_background(background: Background, width: int, height: int) -> Image.Image:
    if background.kind == "gradient":
        return _gradient(background, width, height)
    if background.kind == "noise":
        return _noise(background, width, height)
    image = Image.new("RGB", (width, height), background.first)
    if background.kind == "stripes":
        _stripe(image, background)
    return image


def _gradient(background: Background, width: int, height: int) -> Image.Image:
    # Enlarging keeps a linear gradient, so four corner pixels determine the image.
    across, down = math.cos(background.angle), math.sin(background.angle)
    reach = abs(across) + abs(down)
    corners = Image.new("RGB", (2, 2))
    for x in (0, 1):
        for y in (0, 1):
            share = (across * (2 * x - 1) + down * (2 * y - 1)) / (2 * reach) + 0.5
            corners.putpixel((x, y), _mix(background, share))
    return corners.resize((width, height), Image.Resampling.BILINEAR, box=(0.5, 0.5, 1.5, 1.5))


def _noise(background: Background, width: int, height: int) -> Image.Image:
    rng = random.Random(background.seed)
    grain = Image.frombytes("L", (32, 32), rng.randbytes(32 * 32))
    image = Image.new("RGB", (32, 32), background.first)
    # At most a third of the second tone: more would produce blotches that look like items.
    image.paste(Image.new("RGB", (32, 32), background.second), mask=grain.point(lambda value: value / 3))
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _stripe(image: Image.Image, background: Background) -> None:
    pen = ImageDraw.Draw(image)
    width, height = image.size
    reach = math.hypot(width, height)
    period = background.period * min(width, height)
    cosine, sine = math.cos(background.angle), math.sin(background.angle)
    for step in range(-int(reach / period), int(reach / period) + 1):
        x, y = width / 2 + cosine * step * period, height / 2 + sine * step * period
        ends = (x + sine * reach, y - cosine * reach, x - sine * reach, y + cosine * reach)
        pen.line(ends, fill=_mix(background, 0.6), width=max(1, round(period / 2)))


def _mix(background: Background, share: float) -> tuple[int, int, int]:
    red, green, blue = (
        round(a + (b - a) * share) for a, b in zip(background.first, background.second, strict=True)
    )
    return red, green, blue

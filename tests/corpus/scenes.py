"""The pictures inside the corpus' files: drawings for the demo model."""

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from tools.demo_model.drawing import draw
from tools.demo_model.scenes import COLOURS, Background, Box, Item, Scene, Shape

Rgb = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]

#: Width and height of the picture in most files, in pixels.
SIZE = WIDTH, HEIGHT = 160, 120
GREY: Rgb = (150, 150, 150)
WHITE: Rgb = (255, 255, 255)
_ASPECT = WIDTH / HEIGHT


def _item(colour: str, shape: Shape, x: float, y: float, diameter: float) -> Item:
    half_w, half_h = diameter / _ASPECT / 2, diameter / 2
    box: Box = (x - half_w, y - half_h, x + half_w, y + half_h)
    return Item(colour, shape, "large", int(x * 3), box, COLOURS[colour])


#: Items by the name of the scene. No scene equals a mirror image of the scene, half turn or quarter turn.
ITEMS: dict[str, tuple[Item, ...]] = {
    "S": (
        _item("red", "circle", 0.20, 0.30, 0.40),
        _item("white", "triangle", 0.50, 0.60, 0.40),
        _item("blue", "square", 0.82, 0.40, 0.36),
    ),
    "G": (_item("white", "circle", 0.25, 0.35, 0.42), _item("black", "square", 0.75, 0.60, 0.40)),
    "star": (_item("white", "star", 0.35, 0.40, 0.42),),
    "black star": (_item("black", "star", 0.35, 0.40, 0.42),),
    "S without its square": (
        _item("red", "circle", 0.20, 0.30, 0.40),
        _item("white", "triangle", 0.50, 0.60, 0.40),
    ),
    "nothing": (),
}
#: Captions of the demo model.
CAPTIONS = {
    "S": "a red circle, a white triangle and a blue square",
    "G": "a white circle and a black square",
    "star": "a white star",
    "S without its square": "a red circle and a white triangle",
}


@cache
def _drawn(name: str, ground: Rgb, size: tuple[int, int]) -> Image.Image:
    plain = Background("plain", ground, ground, angle=0.0, period=0.1, seed=0)
    width, height = size
    # Without smoothing: a scene has few colours, as a small palette has.
    return draw(Scene(ITEMS[name], plain, width / height), height, oversample=1)


def scene(name: str, ground: Rgb = GREY, size: tuple[int, int] = SIZE) -> Image.Image:
    """The scene as an RGB image of a few flat colours."""
    return _drawn(name, ground, size).copy()


def pixels(name: str = "S", ground: Rgb = GREY, size: tuple[int, int] = SIZE) -> Pixels:
    """The scene as uint8, [height, width, 3]."""
    return np.asarray(_drawn(name, ground, size))


def grey(name: str = "G", ground: Rgb = GREY, size: tuple[int, int] = SIZE) -> Pixels:
    """A scene without colours as uint8, [height, width]."""
    return pixels(name, ground, size)[..., 0]


def indexed(name: str = "S", ground: Rgb = GREY, size: tuple[int, int] = SIZE) -> tuple[Pixels, list[Rgb]]:
    """The scene as indexes into its own colours, [height, width]; the ground has the index 0."""
    flat = pixels(name, ground, size).reshape(-1, 3)
    colours = [ground, *(item.rgb for item in ITEMS[name])]
    matches = np.stack([(flat == colour).all(axis=1) for colour in colours])
    return matches.argmax(axis=0).astype(np.uint8).reshape(size[1], size[0]), colours


def mask(name: str = "star", size: tuple[int, int] = SIZE) -> Pixels:
    """255 in the items of the scene, 0 on the ground; [height, width]."""
    return np.where(indexed(name, size=size)[0] > 0, 255, 0).astype(np.uint8)


def with_alpha(name: str = "star", hidden: Rgb = GREY) -> Image.Image:
    """The scene as RGBA: opaque items on a transparent ground with the invisible colour `hidden`."""
    image = scene(name, hidden).convert("RGBA")
    image.putalpha(Image.fromarray(mask(name)))
    return image

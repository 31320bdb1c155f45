"""The canvas of an animation around a first frame that does not fill it."""

import numpy as np
from PIL import Image

_OPAQUE = 128


def on_canvas(frame: Image.Image, size: tuple[int, int], left: int, top: int) -> Image.Image:
    """Return the frame at its place on a canvas of `size`.

    Pixels that no frame covers have no colour in the file, and browsers show the page there. Here they get the
    median colour of the frame's edge: white would be a bar beside the frame, and a model would describe the bar.
    A frame whose edge is transparent lies on a transparent canvas.
    """
    if frame.size == size:
        return frame
    frame = frame.convert("RGBA")
    canvas = Image.new("RGBA", size, _edge_colour(frame))
    canvas.paste(frame, (left, top))
    return canvas


def _edge_colour(frame: Image.Image) -> tuple[int, int, int, int]:
    pixels = np.asarray(frame)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    opaque = edge[edge[:, 3] >= _OPAQUE]
    if 2 * len(opaque) < len(edge):
        return (0, 0, 0, 0)
    red, green, blue = (int(value) for value in np.median(opaque[:, :3], axis=0))
    return (red, green, blue, 255)

"""Decode a file of a test, and compare the pixels with the picture that a person should see."""

import numpy as np
import pytest
from PIL import Image

from dropline.errors import PermanentError
from dropline.images.decoded import Decoded
from dropline.images.decoding import decode
from dropline.settings import ImageSettings

#: Width and height of the decoded squares, in pixels.
SIDE = 96


def decoded(data: bytes) -> Decoded:
    """`data` under the default limits."""
    return decode(data, SIDE, ImageSettings())


def refusal(data: bytes) -> PermanentError:
    """The error with which `data` is refused."""
    with pytest.raises(PermanentError) as caught:
        decoded(data)
    return caught.value


def assert_shows(data: bytes, seen: Image.Image, slack: float = 3.0) -> None:
    """Check the decoded pixels against `seen`: the mean difference of a sample is at most `slack` of 255."""
    picture = decoded(data)
    wanted = np.asarray(seen.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
    difference = np.abs(wanted - picture.pixels)
    assert difference.mean() <= slack, f"mean difference {difference.mean():.1f}"
    assert np.quantile(difference, 0.95) <= 8 * slack + 12, (
        f"a part differs by {np.quantile(difference, 0.95):.0f}"
    )
    assert (picture.dimensions.width, picture.dimensions.height) == seen.size


def colour_at(picture: Decoded, x: float, y: float) -> tuple[int, ...]:
    """The colour at shares of the width and the height."""
    return tuple(int(value) for value in picture.pixels[int(y * SIDE), int(x * SIDE)])

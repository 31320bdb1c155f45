"""The result of decoding: the pixels for the engine, and the size of the original. Imports no decoder."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dropline.contract import Dimensions


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded image, ready for the engine."""

    #: uint8, [side_px, side_px, 3], C-contiguous, RGB.
    pixels: npt.NDArray[np.uint8]
    #: Of the upright original, in pixels.
    dimensions: Dimensions

"""TIFF as Pillow decodes it."""

import io

import numpy as np
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from dropline.contract import Dimensions
from dropline.images import refusals
from dropline.images.picture import Picture
from dropline.settings import ImageSettings


def read_tiff(data: bytes, side_px: int, limits: ImageSettings) -> Picture:  # noqa: ARG001
    """Decode the first page."""
    if len(data) < 8 or int.from_bytes(data[4:8], "little" if data.startswith(b"II") else "big") > len(data):
        raise refusals.truncated("TIFF", "its directory is missing")
    image: Image.Image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    dimensions = Dimensions(*image.size)
    refusals.check_size(*image.size, limits)
    image.load()
    orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return Picture(_eight_bits(image), dimensions, orientation)


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
        span = max(values.max() - values.min(), np.finfo(np.float64).tiny)
        return Image.fromarray(np.clip(np.rint((values - values.min()) * (255.0 / span)), 0, 255).astype(np.uint8))
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")

"""Pictures to drop: no two have the same bytes."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Picture:
    """One object to upload."""

    name: str
    content_type: str
    data: bytes


def small_pictures(count: int, prefix: str = "small") -> Iterator[Picture]:
    """PNGs of 64×48 in one colour each: next to nothing to decode."""
    for number in range(count):
        colour = ((number >> 16) & 255, (number >> 8) & 255, number & 255)
        image = Image.new("RGB", (64, 48), colour)
        yield Picture(f"{prefix}/{number:06}.png", "image/png", _encoded(image, "PNG"))


def photographs(count: int) -> Iterator[Picture]:
    """JPEGs of 1600×1200 with detail on coarse and fine scales, as a camera's."""
    texture = _texture(1600, 1200)
    for number in range(count):
        data = _encoded(texture, "JPEG", quality=85, comment=f"photograph {number}")
        yield Picture(f"photographs/{number:06}.jpg", "image/jpeg", data)


def _texture(width: int, height: int) -> Image.Image:
    channels = []
    for divisor in (16, 32, 64):
        coarse = Image.effect_noise((width // divisor, height // divisor), 90).resize((width, height))
        channels.append(Image.blend(coarse, Image.effect_noise((width, height), 30), 0.25))
    return Image.merge("RGB", channels)


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()

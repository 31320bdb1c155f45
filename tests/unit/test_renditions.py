"""Copies for web pages have the proportions, the orientation and the colours of the image, and no metadata."""

import io

import pytest
from PIL import Image

from dropline.contract import Dimensions
from dropline.errors import InvalidImage
from dropline.images.decoded import Decoded
from dropline.images.decoding import decode
from dropline.images.placeholders import GONE, SIZE_PX, placeholder
from dropline.images.renditions import Rendition, fitted, render
from dropline.settings import ImageSettings
from tests.support.image_files import BLUE, RED, SVG, encode, halves


class InProcess:
    """Decodes in this process."""

    def decode(self, data: bytes, side_px: int) -> Decoded:
        """The pixels, as the decoder process gives them."""
        return decode(data, side_px, ImageSettings())


def copy_of(data: bytes, rendition: Rendition = Rendition.THUMBNAIL) -> Image.Image:
    """The copy, opened as a browser does."""
    copy = Image.open(io.BytesIO(render(InProcess(), data, rendition)))
    assert copy.format == "WEBP"
    return copy.convert("RGB")


def near(found: object, expected: tuple[int, int, int]) -> bool:
    """Whether a colour survived the encoding."""
    assert isinstance(found, tuple)
    return all(abs(a - b) < 12 for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("original", "size"),
    [((1024, 512), (512, 256)), ((300, 900), (171, 512)), ((64, 48), (64, 48)), ((30_000, 1), (512, 1))],
)
def test_a_copy_has_the_proportions_of_the_image_and_is_never_larger(
    original: tuple[int, int], size: tuple[int, int]
) -> None:
    """The longest side is at most that of the rendition; no side vanishes."""
    assert fitted(Dimensions(*original), Rendition.THUMBNAIL.side_px) == size


def test_a_copy_shows_the_image() -> None:
    """A wide PNG: red on the left, blue on the right."""
    copy = copy_of(encode(halves(1200, 600), "PNG"))
    assert copy.size == (512, 256)
    assert near(copy.getpixel((20, 128)), RED)
    assert near(copy.getpixel((490, 128)), BLUE)


def test_a_small_image_keeps_its_size() -> None:
    """The view of a small image has its pixels."""
    copy = copy_of(encode(halves(64, 48), "PNG"), Rendition.VIEW)
    assert copy.size == (64, 48)
    assert near(copy.getpixel((10, 24)), RED)


def test_a_copy_is_upright_and_has_no_metadata() -> None:
    """An EXIF orientation is applied; EXIF, with its place and its camera, stays behind."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "secret camera"
    data = encode(halves(64, 48), "JPEG", exif=exif)
    copy = render(InProcess(), data, Rendition.THUMBNAIL)
    assert copy_of(data).size == (48, 64)
    assert b"secret camera" in data
    assert b"secret camera" not in copy
    assert not Image.open(io.BytesIO(copy)).getexif()


def test_a_file_that_is_no_image_has_no_copy() -> None:
    """An SVG, which can hold scripts, is refused by the decoder."""
    with pytest.raises(InvalidImage):
        render(InProcess(), SVG, Rendition.VIEW)


def test_a_placeholder_is_for_every_ground() -> None:
    """Its ground is transparent, and the words are a part of the picture."""
    with (
        Image.open(io.BytesIO(placeholder(GONE, "Gone"))) as drawn,
        Image.open(io.BytesIO(placeholder(GONE, ""))) as wordless,
    ):
        assert (drawn.format, drawn.mode, drawn.size) == ("WEBP", "RGBA", SIZE_PX)
        alphas = [image.getchannel("A") for image in (drawn, wordless)]
    assert [alpha.getpixel((5, 5)) for alpha in alphas] == [0, 0]
    assert [alpha.crop((0, 240, *SIZE_PX)).getextrema()[1] for alpha in alphas] == [255, 0]

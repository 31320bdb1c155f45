"""Decoding: every kind of picture people upload comes out upright, in colour, in the right size."""

import struct
import sys
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile

from dropline.contract import Dimensions
from dropline.errors import InvalidImage
from dropline.images.colours import rendered
from dropline.images.decoded import Decoded
from dropline.images.decoding import decode
from dropline.images.exif import orientation as exif_orientation
from dropline.images.picture import Picture
from dropline.settings import ImageSettings
from tests.support.image_files import BLUE, RED, encode, exif, halves, quadrants

SIZE = 96
WHITE = (255, 255, 255)


def decoded(data: bytes) -> Decoded:
    return decode(data, SIZE, ImageSettings())


def colour(picture: Decoded, x: float, y: float) -> tuple[int, ...]:
    return tuple(int(value) for value in picture.pixels[int(y * SIZE), int(x * SIZE)])


def near(left: tuple[int, ...], right: tuple[int, ...], slack: int = 40) -> bool:
    return all(abs(a - b) <= slack for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 90}),
        ("JPEG", {"quality": 90, "progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {"quality": 90}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("AVIF", {"quality": 90}),
    ],
)
def test_every_format_decodes(kind: str, options: dict[str, object]) -> None:
    """Each supported format gives square, contiguous RGB bytes and the size of the original."""
    picture = decoded(encode(halves(), kind, **options))
    assert picture.pixels.shape == (SIZE, SIZE, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert picture.dimensions == Dimensions(64, 48)
    assert near(colour(picture, 0.25, 0.5), RED)
    assert near(colour(picture, 0.75, 0.5), BLUE)


def test_heic_decodes() -> None:
    """A HEIC photograph decodes where the optional decoder is installed."""
    heif = pytest.importorskip("pillow_heif")
    data = bytearray()

    class Sink:
        def write(self, block: bytes) -> int:
            data.extend(block)
            return len(block)

    heif.from_pillow(halves(256, 192)).save(Sink(), quality=90, format="HEIF")
    picture = decoded(bytes(data))
    assert picture.dimensions == Dimensions(256, 192)
    assert near(colour(picture, 0.25, 0.5), RED)
    assert "HEIF" not in Image.OPEN


def test_heic_without_its_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the optional decoder, a HEIC photograph fails with a separate code and a remedy."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InvalidImage, match=r"dropline\[heic\]") as caught:
        decoded(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + b"\x00" * 40)
    assert caught.value.code == "heic_unsupported"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_come_out_upright(kind: str, orientation: int) -> None:
    """The EXIF orientation is applied to the pixels and to the dimensions."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    upright = quadrants().resize((120, 90))
    stored = upright.transpose(turn) if turn is not None else upright
    picture = decoded(encode(stored, kind, exif=exif(orientation)))
    assert picture.dimensions == Dimensions(120, 90)
    shades = [colour(picture, x, y)[0] for y in (0.25, 0.75) for x in (0.25, 0.75)]
    assert all(abs(shade - wanted) <= 12 for shade, wanted in zip(shades, (20, 90, 160, 230), strict=True)), shades


def test_avif_is_turned_too() -> None:
    """The orientation in the AVIF box is applied."""
    picture = decoded(encode(halves(96, 64).transpose(Image.Transpose.ROTATE_90), "AVIF", exif=exif(6)))
    assert picture.dimensions == Dimensions(96, 64)
    assert near(colour(picture, 0.25, 0.5), RED)


@pytest.mark.parametrize(
    "broken", [b"Exif\x00\x00", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00" + b"\xff" * 900]
)
def test_broken_exif_is_tolerated(broken: bytes) -> None:
    """An image with damaged EXIF is decoded without an orientation."""
    assert decoded(encode(halves(), "JPEG", exif=broken)).dimensions == Dimensions(64, 48)


def test_an_orientation_of_two_values_is_ignored() -> None:
    """As in browsers: the tag has one SHORT."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 2, 6, 6)
    two = b"Exif\x00\x00II*\x00" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    assert exif_orientation(two) == 1
    assert exif_orientation(two.replace(entry, struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0))) == 6


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_senseless_orientations_are_ignored(orientation: int) -> None:
    """An invalid orientation leaves the image unchanged."""
    picture = decoded(encode(halves(), "JPEG", quality=90, exif=exif(orientation)))
    assert near(colour(picture, 0.25, 0.5), RED)


def test_cmyk_jpeg() -> None:
    """A CMYK JPEG keeps the colours and is not inverted."""
    assert near(colour(decoded(encode(halves(mode="CMYK"), "JPEG", quality=95)), 0.25, 0.5), RED)


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B")])
def test_sixteen_bit_greys_are_scaled(kind: str, mode: str) -> None:
    """Half of 65535 is half of 255: scaled, and not clipped to white."""
    order = ">u2" if mode == "I;16B" else "<u2"
    values = np.full((40, 40), 32768, dtype=order)
    stored = Image.frombytes(mode, (40, 40), values.tobytes())
    assert near(colour(decoded(encode(stored, kind)), 0.5, 0.5), (128, 128, 128), slack=1)


@pytest.mark.parametrize(("mode", "dtype", "top"), [("F", "<f4", 1.0), ("F", "<f4", 4000.0), ("I", "<i4", 2**30)])
def test_deep_greys_are_stretched(mode: str, dtype: str, top: float) -> None:
    """Floating-point and 32-bit greys run from black to white, in any unit."""
    values = np.tile(np.linspace(0, top, 60), (60, 1)).astype(dtype)
    picture = decoded(encode(Image.frombytes(mode, (60, 60), values.tobytes()), "TIFF"))
    assert colour(picture, 0, 0.5)[0] <= 4
    assert colour(picture, 0.5, 0.5)[0] == pytest.approx(128, abs=4)
    assert colour(picture, 0.99, 0.5)[0] >= 251


def test_not_a_number_is_no_crash() -> None:
    """Holes in scientific images do not spoil the rest."""
    values = np.linspace(0, 1, 400, dtype="<f4").reshape(20, 20)
    values[3, 3] = np.nan
    values[4, 4] = np.inf
    decoded(encode(Image.frombytes("F", (20, 20), values.tobytes()), "TIFF"))


@pytest.mark.parametrize("mode", ["1", "L"])
def test_greys_become_rgb(mode: str) -> None:
    """Greyscale and black-and-white files give three equal channels."""
    pixels = decoded(encode(Image.new("L", (33, 21), 255).convert(mode), "PNG")).pixels
    assert (pixels == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_transparency_is_laid_on_white(kind: str) -> None:
    """Fully transparent pixels become white, for any colour below."""
    stored = halves().convert("RGBA")
    stored.paste((0, 0, 0, 0), (0, 0, 32, 48))
    picture = decoded(encode(stored, kind))
    assert near(colour(picture, 0.2, 0.5), WHITE, slack=3)
    assert near(colour(picture, 0.8, 0.5), BLUE)


def test_transparent_palette() -> None:
    """A palette with a transparent entry is laid on white."""
    stored = Image.new("P", (40, 40), 1)
    stored.putpalette([0, 0, 0, *RED, *BLUE])
    stored.paste(2, (0, 0, 20, 40))
    picture = decoded(encode(stored, "PNG", transparency=2))
    assert near(colour(picture, 0.2, 0.5), WHITE, slack=3)
    assert near(colour(picture, 0.8, 0.5), RED, slack=3)


@pytest.mark.parametrize(("mode", "transparent"), [("LA", None), ("L", 0), ("RGB", (0, 0, 0)), ("1", 0)])
def test_other_transparency(mode: str, transparent: object) -> None:
    """Greys with alpha and files with a transparent colour get a white background too."""
    black = (0, 0) if mode == "LA" else (0 if mode != "RGB" else (0, 0, 0))
    options = {} if transparent is None else {"transparency": transparent}
    assert (decoded(encode(Image.new(mode, (30, 30), black), "PNG", **options)).pixels == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF", "MPO"])
def test_animations_give_their_first_frame(kind: str) -> None:
    """Of an animation, or of a file with pages, the first frame counts."""
    frames = [Image.new("RGB", (40, 40), RED), Image.new("RGB", (40, 40), BLUE)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert near(colour(decoded(data), 0.5, 0.5), RED)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20_000, 40), (40, 20_000), (3, 2)])
def test_odd_shapes(width: int, height: int) -> None:
    """A single pixel and a very long strip decode like any other image."""
    for kind in ("PNG", "JPEG"):
        picture = decoded(encode(Image.new("RGB", (width, height), RED), kind))
        assert picture.dimensions == Dimensions(width, height)
        assert near(colour(picture, 0.5, 0.5), RED)


def test_lab_and_other_colour_spaces() -> None:
    """TIFFs in the colour spaces of print shops keep the colours."""
    assert near(colour(decoded(encode(halves(mode="LAB"), "TIFF")), 0.25, 0.5), RED)
    assert near(colour(decoded(encode(halves(mode="YCbCr"), "TIFF")), 0.75, 0.5), BLUE)


def test_large_jpegs_are_shrunk_while_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder shrinks a large JPEG, but never below the size of the model's input."""
    loaded: list[tuple[int, int]] = []

    def spy(picture: Picture, size: int) -> Image.Image:
        loaded.append(picture.image.size)
        return rendered(picture, size)

    monkeypatch.setattr("dropline.images.decoding.rendered", spy)
    assert decoded(encode(halves(1600, 1200), "JPEG")).dimensions == Dimensions(1600, 1200)
    decoded(encode(halves(1600, 150), "JPEG"))
    assert loaded == [(200, 150), (1600, 150)]


def test_nothing_is_left_behind() -> None:
    """Pillow's global switches are unchanged."""
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    decoded(encode(halves(), "PNG"))
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))


def test_as_the_model_was_trained() -> None:
    """Without shrinking by the decoder, the resize equals the resize of Florence-2's processor to the bit."""
    noise = np.random.default_rng(7).integers(0, 256, (120, 150, 3), dtype=np.uint8)
    reference = Image.fromarray(noise).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    assert (decoded(encode(Image.fromarray(noise), "PNG")).pixels == np.asarray(reference)).all()

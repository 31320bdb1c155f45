"""GIF and WebP: the first frame as browsers show it, and ends that are missing."""

import struct

import pytest
from PIL import Image

from tests.support.image_checks import assert_shows, colour_at, decoded, refusal
from tests.support.image_files import encode, exif, halves, scene

SCREEN_AT = 6


def gif(left: int, top: int, screen: tuple[int, int], palette: bool = True) -> bytes:
    """A GIF with a red frame of 20 by 10 on a screen; index 0 is black."""
    image = Image.new("P", (20, 10), 1)
    image.putpalette([0, 0, 0, 200, 30, 30])
    data = bytearray(encode(image, "GIF", optimize=False))
    at = data.index(b"\x2c\x00\x00\x00\x00")
    data[SCREEN_AT : SCREEN_AT + 4] = struct.pack("<2H", *screen)
    data[at + 1 : at + 5] = struct.pack("<2H", left, top)
    if not palette:
        table = 3 << (data[10] & 7) + 1
        data[10] &= 0x7F
        del data[13 : 13 + table]
    return bytes(data)


def test_around_a_partial_frame_no_shape_appears() -> None:
    """The screen around the frame gets the colour of the frame's edge, not that of index 0; the row, its size."""
    picture = decoded(gif(0, 0, (40, 20)))
    assert (picture.dimensions.width, picture.dimensions.height) == (40, 20)
    assert (colour_at(picture, 0.2, 0.2), colour_at(picture, 0.8, 0.8)) == ((200, 30, 30), (200, 30, 30))


@pytest.mark.parametrize(
    ("screen", "left", "size"), [((0, 0), 0, (20, 10)), ((5, 5), 0, (20, 10)), ((20, 10), 20, (40, 10))]
)
def test_a_frame_beyond_the_screen(screen: tuple[int, int], left: int, size: tuple[int, int]) -> None:
    """Browsers enlarge a screen that is smaller than its first frame, and one without a size."""
    picture = decoded(gif(left, 0, screen))
    assert (picture.dimensions.width, picture.dimensions.height) == size


def test_gifs_that_are_no_picture() -> None:
    """Without a palette, or without a frame, a GIF is damaged."""
    assert "palette" in str(refusal(gif(0, 0, (20, 10), palette=False)))
    whole = gif(0, 0, (20, 10))
    assert "no frame" in str(refusal(whole[: whole.index(b"\x2c\x00\x00\x00\x00")] + b";"))


@pytest.mark.parametrize("missing", [1, 2])
def test_a_gif_without_its_end(missing: int) -> None:
    """All pixels are there: neither the trailer nor the end of the blocks is needed."""
    assert_shows(encode(scene().quantize(32), "GIF")[:-missing], scene(), slack=12)


def test_a_cut_gif() -> None:
    """Missing pixels are a reason, and damaged codes are another."""
    whole = encode(Image.effect_noise((300, 200), 80), "GIF")
    assert refusal(whole[: len(whole) // 2]).code == "truncated_image"
    assert refusal(whole[:-40] + b"\x00;").code == "truncated_image"


def test_extensions_before_the_first_frame_are_bounded() -> None:
    """A file of nothing but comments ends early; a long comment is skipped."""
    whole = encode(halves(), "GIF")
    start = 13 + (3 << (whole[10] & 7) + 1)
    comment = b"\x21\xfe" + (b"\xff" + b"a" * 255) * 200 + b"\x00"
    assert_shows(whole[:start] + comment + whole[start:], halves())
    assert refusal(whole[:start] + b"\x21\xfe" + b"\x01a" * 200_000).code == "image_too_complex"


def webp_chunks(data: bytes) -> dict[bytes, bytes]:
    """The chunks of a WebP, by name."""
    chunks: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.setdefault(data[at : at + 4], data[at : at + 8 + size + size % 2])
        at += 8 + size + size % 2
    return chunks


def test_the_first_frame_of_a_webp_animation() -> None:
    """Later frames are not read: damaged or missing, they change nothing."""
    frames = [scene(), halves(160, 120), scene()]
    whole = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert_shows(whole, scene())
    first = whole.index(b"ANMF")
    second = whole.index(b"ANMF", first + 4)
    assert_shows(whole[: second + 30], scene())


def test_webp_metadata_behind_the_pixels_may_be_cut() -> None:
    """EXIF turns; a file that ends inside the EXIF has all its pixels."""
    whole = encode(scene(), "WEBP", lossless=True, exif=exif(3))
    assert_shows(whole, scene().transpose(Image.Transpose.ROTATE_180))
    assert_shows(whole[:-12], scene())


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}])
def test_a_cut_webp(options: dict[str, object]) -> None:
    """Missing pixels are a reason."""
    whole = encode(Image.effect_noise((300, 200), 80).convert("RGB"), "WEBP", **options)
    assert refusal(whole[: len(whole) * 2 // 3]).code == "truncated_image"


def test_a_webp_of_small_chunks_is_bounded() -> None:
    """A file of nothing but empty chunks ends early."""
    chunks = webp_chunks(encode(scene(), "WEBP"))
    assert b"VP8 " in chunks
    assert refusal(b"RIFF\xff\xff\xff\x00WEBP" + b"JUNK\x00\x00\x00\x00" * 20_000).code == "image_too_complex"

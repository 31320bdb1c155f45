"""PNG and APNG: depths, transparency, damaged and unused chunks, the first frame, missing pixels."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.corpus.writers import png as corpus_png
from tests.corpus.writers.png import chunk as png_chunk
from tests.support.image_checks import assert_shows, colour_at, decoded, refusal
from tests.support.image_files import encode, exif, filtered, png, png_with, png_with_text_bomb, scene

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
NOISE = encode(Image.effect_noise((300, 200), 80).convert("RGB"), "PNG")


def shade(bits: int, value: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A grey PNG of one shade, 16 by 16, in any depth."""
    count = 16 * bits // 8
    row = struct.pack(">H", value) * 16 if bits == 16 else bytes((value * (255 // ((1 << bits) - 1)),)) * count
    return png((16, 16, bits, GREY, 0), (b"\x00" + row) * 16, *chunks)


@pytest.mark.parametrize(
    ("bits", "value", "seen"), [(1, 1, 255), (2, 2, 170), (4, 5, 85), (8, 85, 85), (16, 0x7FFF, 127)]
)
def test_greys_of_all_depths(bits: int, value: int, seen: int) -> None:
    """The largest sample of a depth is white, and 16 bits keep their high byte."""
    assert colour_at(decoded(shade(bits, value)), 0.5, 0.5) == (seen,) * 3


@pytest.mark.parametrize(("bits", "value"), [(1, 0), (2, 2), (4, 5), (8, 85), (16, 0x1234)])
def test_a_transparent_shade_in_all_depths(bits: int, value: int) -> None:
    """The transparent shade is compared in the bits of the file; the shade beside it stays."""
    hidden = (b"tRNS", struct.pack(">H", value))
    assert colour_at(decoded(shade(bits, value, hidden)), 0.5, 0.5) == (255, 255, 255)
    other = (b"tRNS", struct.pack(">H", value ^ 1))
    assert colour_at(decoded(shade(bits, value, other)), 0.5, 0.5) != (255, 255, 255)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour(bits: int) -> None:
    """A hidden colour never shows, and a colour that differs in its low bytes alone is not hidden."""
    kind = ">u2" if bits == 16 else "u1"
    samples = np.full((40, 40, 3), 0x12 if bits == 8 else 0x1234, dtype=kind)
    samples[:, 20:] += 1
    data = png(
        (40, 40, bits, RGB, 0), filtered(samples), (b"tRNS", struct.pack(">3H", *[int(samples[0, 0, 0])] * 3))
    )
    picture = decoded(data)
    assert colour_at(picture, 0.2, 0.5) == (255, 255, 255)
    assert max(colour_at(picture, 0.8, 0.5)) <= 0x13


def test_sixteen_bits_with_alpha() -> None:
    """RGBA and grey with alpha of 16 bits keep the high bytes of both."""
    samples = np.zeros((20, 20, 4), dtype=">u2")
    samples[..., 0], samples[:, 10:, 3] = 0xC8FF, 0xFFFF
    picture = decoded(png((20, 20, 16, RGB_ALPHA, 0), filtered(samples)))
    assert (colour_at(picture, 0.2, 0.5), colour_at(picture, 0.8, 0.5)) == ((255, 255, 255), (0xC8, 0, 0))
    picture = decoded(png((20, 20, 16, GREY_ALPHA, 0), filtered(samples[..., (0, 3)])))
    assert (colour_at(picture, 0.2, 0.5), colour_at(picture, 0.8, 0.5)) == ((255, 255, 255), (0xC8,) * 3)


def test_a_palette_with_fewer_colours_than_indices() -> None:
    """An index beyond the palette is black, as in browsers."""
    picture = decoded(
        png((8, 8, 8, PALETTE, 0), (b"\x00" + bytes(4) + b"\x09" * 4) * 8, (b"PLTE", b"\xff\x00\x00"))
    )
    assert (colour_at(picture, 0.2, 0.5), colour_at(picture, 0.9, 0.5)) == ((255, 0, 0), (0, 0, 0))


@pytest.mark.parametrize(
    ("chunk", "body"),
    [
        (b"tEXt", b"Comment\x00hello"),
        (b"zTXt", b"Comment\x00\x00not zlib"),
        (b"iCCP", b"name\x00\x00not zlib"),
        (b"iCCP", b"name\x00\x00" + zlib.compress(bytes(5_000_000))),
        (b"eXIf", b"no EXIF"),
        (b"gAMA", b"\x00"),
        (b"gAMA", bytes(4)),
        (b"pHYs", b"short"),
        (b"tIME", b""),
    ],
)
def test_unused_chunks_are_not_read(chunk: bytes, body: bytes) -> None:
    """A chunk that no pixel depends on is no reason to refuse: damaged, wrong or large."""
    assert_shows(png_with(encode(scene(), "PNG"), chunk, body), scene())


def test_checksums_of_unused_chunks_are_not_read() -> None:
    """A text with a wrong checksum changes nothing; neither does a text of a hundred megabytes."""
    data = png_with(encode(scene(), "PNG"), b"tEXt", b"Comment\x00hello")
    assert_shows(data.replace(b"hello", b"HELLO"), scene())
    decoded(png_with_text_bomb(100))


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_wrong_checksum_of_whole_pixels_is_no_reason(interlaced: bool) -> None:
    """The last four bytes of the compressed pixels are a checksum; all pixels are there."""
    samples = np.asarray(scene().convert("RGB"))
    right = corpus_png.png(samples, interlaced=interlaced)
    packed = corpus_png.compressed(samples, interlaced=interlaced)
    body = packed[:-4] + b"\x00\x00\x00\x00"
    wrong = right.replace(png_chunk(b"IDAT", packed), png_chunk(b"IDAT", body))
    assert wrong != right
    assert (decoded(wrong).pixels == decoded(right).pixels).all()


def test_needed_chunks_are_checked() -> None:
    """A damaged header or palette is a reason, and so is a palette that is missing."""
    good = encode(scene().quantize(16), "PNG")
    for name in (b"IHDR", b"PLTE"):
        at = good.index(name) + 12
        damaged = good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :]
        assert name.decode() in str(refusal(damaged))
    at, size = good.index(b"PLTE") - 4, int.from_bytes(good[good.index(b"PLTE") - 4 :][:4], "big")
    error = refusal(good[:at] + good[at + 12 + size :])
    assert error.code == "corrupt_image"
    assert "palette" in str(error)


def test_critical_chunks_without_a_meaning_here() -> None:
    """A chunk that may not be skipped is named; Apple's variant, too."""
    assert "ABCD" in str(refusal(png_with(encode(scene(), "PNG"), b"ABCD", b"")))
    apple = encode(scene(), "PNG")
    error = refusal(apple[:8] + png_chunk(b"CgBI", b"\x50\x00\x20\x02") + apple[8:])
    assert error.code == "unsupported_format"


@pytest.mark.parametrize("interlaced", [0, 1])
def test_missing_pixels(interlaced: int) -> None:
    """Rows that the compressed data does not have are missing, also where the data ends without an error."""
    whole = filtered(np.full((20, 20, 3), 200, dtype=np.uint8))
    assert refusal(png((20, 20, 8, RGB, interlaced), whole[:300])).code == "corrupt_image"
    assert refusal(NOISE[: len(NOISE) // 2]).code == "truncated_image"


@pytest.mark.parametrize("height", [19, 20])
def test_a_missing_last_pass(height: int) -> None:
    """An interlaced picture without the last row of its last pass lacks pixels."""
    whole = bytes(adam7_bytes(20, height, 3))
    assert colour_at(decoded(png((20, height, 8, RGB, 1), whole)), 0.5, 0.9) == (0, 0, 0)
    assert refusal(png((20, height, 8, RGB, 1), whole[:-61])).code == "corrupt_image"


def test_a_black_picture_has_all_its_pixels() -> None:
    """Zero rows that the file has are black."""
    assert colour_at(decoded(encode(Image.new("RGB", (50, 40)), "PNG")), 0.5, 0.9) == (0, 0, 0)
    for colour, channels in ((GREY, 1), (RGB, 3)):
        data = png((13, 9, 8, colour, 1), bytes(adam7_bytes(13, 9, channels)))
        assert colour_at(decoded(data), 0.5, 0.9) == (0, 0, 0)


def adam7_bytes(width: int, height: int, channels: int) -> int:
    """The bytes of an interlaced picture, counted pixel by pixel."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    sizes = [(len(range(x, width, right)), len(range(y, height, down))) for x, y, right, down in passes]
    return sum(rows * (1 + columns * channels) for columns, rows in sizes if columns)


def test_a_missing_end_is_no_reason() -> None:
    """All pixels are there: without the end chunk, or with other bytes behind it, the picture is captioned."""
    whole = encode(scene(), "PNG")
    assert_shows(whole[:-12], scene())
    assert_shows(whole[:-20], scene())
    assert_shows(whole + b"trailing" * 100, scene())


def test_too_many_chunks() -> None:
    """A file of empty chunks ends early."""
    header = encode(scene(), "PNG")[:33]
    assert refusal(header + png_chunk(b"IDAT", b"") * 100_001).code == "image_too_complex"


def animation(default_is_first: bool, frame: tuple[int, int, int, int]) -> bytes:
    """An APNG with a blue default picture, and a red first frame of width, height, left and top."""
    width, height, left, top = frame
    blue = filtered(np.full((40, 60, 3), (0, 0, 255), dtype=np.uint8))
    red = filtered(np.full((height, width, 3), (255, 0, 0), dtype=np.uint8))
    whole = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 60, 40, 0, 0, 1, 10, 0, 0))
    part = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 1, width, height, left, top, 1, 10, 0, 0))
    data = png((60, 40, 8, RGB, 0), blue, (b"acTL", struct.pack(">II", 2, 0)))
    at = data.index(b"IDAT") - 4
    data = data[:at] + (whole if default_is_first else b"") + data[at:]
    return data[:-12] + part + png_chunk(b"fdAT", struct.pack(">I", 2) + zlib.compress(red)) + data[-12:]


def test_the_first_frame_of_an_animation() -> None:
    """The default picture counts only where it is part of the animation."""
    assert colour_at(decoded(animation(True, (60, 40, 0, 0))), 0.5, 0.5) == (0, 0, 255)
    assert colour_at(decoded(animation(False, (60, 40, 0, 0))), 0.5, 0.5) == (255, 0, 0)


def test_around_a_partial_first_frame_no_shape_appears() -> None:
    """The size is that of the canvas, and the rest of the canvas has the colour of the frame's edge."""
    picture = decoded(animation(False, (30, 40, 30, 0)))
    assert (picture.dimensions.width, picture.dimensions.height) == (60, 40)
    assert (colour_at(picture, 0.2, 0.5), colour_at(picture, 0.8, 0.5)) == ((255, 0, 0), (255, 0, 0))
    assert refusal(animation(False, (60, 40, 1, 0))).code == "corrupt_image"


def test_exif_behind_the_pixels_turns() -> None:
    """EXIF may stand before or behind the pixels."""
    data = encode(scene(), "PNG")
    turn = png_chunk(b"eXIf", exif(3).removeprefix(b"Exif\x00\x00"))
    assert_shows(data[:-12] + turn + data[-12:], scene().transpose(Image.Transpose.ROTATE_180))

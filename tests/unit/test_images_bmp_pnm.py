"""BMP in its versions, and PNM: each comes out as the scene, and damage has its name."""

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from dropline.images import bmp_rle
from tests.support.image_checks import assert_shows, colour_at, decoded, refusal
from tests.support.image_files import encode, scene

NONE, RLE8, RLE4, MASKS, JPEG, PNG = range(6)
SCENE = np.asarray(scene())
MASKS_565, MASKS_8888 = (0xF800, 0x07E0, 0x001F, 0), (0xFF0000, 0xFF00, 0xFF, 0xFF000000)

MASKS_10 = (0x3FF00000, 0xFFC00, 0x3FF)


def bmp(
    rows: bytes, bits: int, *, size: int = 40, compression: int = NONE, masks: Sequence[int] = (),
    palette: bytes = b"", shape: tuple[int, int] = (160, 120), colours: int = 0,
) -> bytes:  # fmt: skip
    """A BMP of rows as they are stored."""
    width, height = shape
    if size == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        header = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, 0, 0, 0, colours, 0)
        header = (header + struct.pack(f"<{len(masks)}I", *masks)).ljust(14 + size - 14, b"\x00")
    at = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", at + len(rows), 0, 0, at) + header + palette + rows


def bgr(samples: npt.NDArray[np.uint8]) -> bytes:
    return samples[::-1, :, ::-1].tobytes()


def packed(samples: npt.NDArray[np.uint8], masks: Sequence[int], kind: str, alpha: int = 0) -> bytes:
    """Pixels with the samples under the masks, bottom row first."""
    pixels = np.zeros(samples.shape[:2], dtype=np.uint32)
    for channel, mask in enumerate(masks[:3]):
        shift = (mask & -mask).bit_length() - 1
        pixels |= (samples[..., channel].astype(np.uint32) * (mask >> shift) // 255) << shift
    return (pixels[::-1] | alpha).astype(kind).tobytes()


@pytest.mark.parametrize(
    "data",
    [
        bmp(bgr(SCENE), 24),
        bmp(bgr(SCENE), 24, size=12),
        bmp(bgr(SCENE), 24, size=64),
        bmp(bgr(SCENE[::-1]), 24, shape=(160, -120)),
        bmp(packed(SCENE, MASKS_8888, "<u4"), 32),
        bmp(packed(SCENE, (0x7C00, 0x3E0, 0x1F), "<u2"), 16),
        bmp(packed(SCENE, MASKS_565, "<u2"), 16, compression=MASKS, masks=MASKS_565[:3]),
        bmp(packed(SCENE, MASKS_8888, "<u4"), 32, size=56, compression=MASKS, masks=MASKS_8888),
        bmp(packed(SCENE, MASKS_8888, "<u4"), 32, size=108, compression=MASKS, masks=MASKS_8888),
        bmp(packed(SCENE, MASKS_10, "<u4"), 32, size=124, compression=MASKS, masks=MASKS_10),
        bmp(encode(scene(), "PNG"), 0, compression=PNG),
        bmp(encode(scene(), "JPEG", quality=95), 0, compression=JPEG),
    ],
    ids=[
        "24", "OS/2 1", "OS/2 2", "top down", "32", "555", "565", "v3 no alpha", "v4 no alpha", "v5 10 bits",
        "PNG", "JPEG",
    ],
)  # fmt: skip
def test_versions(data: bytes) -> None:
    """Each version of the header and each layout of the pixels; alpha that leaves nothing is not believed."""
    assert_shows(data, scene(), slack=5)


def test_alpha_is_believed_where_something_is_left() -> None:
    """Half of the picture is opaque: the other half is transparent."""
    rows = packed(SCENE[:, :80], MASKS_8888, "<u4", 0xFF000000)
    opaque = np.frombuffer(rows, "<u4").reshape(120, 80)
    data = bmp(np.hstack([opaque, opaque & 0xFFFFFF]).tobytes(), 32, size=108, compression=MASKS, masks=MASKS_8888)
    picture = decoded(data)
    assert (colour_at(picture, 0.02, 0.1), colour_at(picture, 0.55, 0.1)) == ((150, 150, 150), (255, 255, 255))


PALETTE = bytes((0, 0, 0, 0, 0, 0, 200, 0, 200, 0, 0, 0, 255, 255, 255, 0))


@pytest.mark.parametrize(
    ("bits", "row"), [(1, b"\x0f\0\0\0"), (2, b"\x00\x55\0\0"), (4, b"\0\0\x11\x11"), (8, b"\0\0\0\0\1\1\1\1")]
)
def test_palettes(bits: int, row: bytes) -> None:
    """Four colours of which the right half has the second, in each depth."""
    picture = decoded(bmp(row * 4, bits, palette=PALETTE, shape=(8, 4), colours=4))
    assert (colour_at(picture, 0.1, 0.5), colour_at(picture, 0.9, 0.5)) == ((0, 0, 0), (200, 0, 0))


@pytest.mark.parametrize(
    ("bits", "compression", "runs"),
    [
        (8, RLE8, b"\x04\x01\x04\x02\x00\x00\x00\x04\x01\x01\x01\x01\x04\x02\x00\x01"),
        (4, RLE4, b"\x04\x11\x04\x22\x00\x00\x00\x08\x11\x11\x22\x22\x00\x01"),
    ],
)
def test_run_lengths(bits: int, compression: int, runs: bytes) -> None:
    """Runs and literal pixels, in both compressions."""
    picture = decoded(bmp(runs, bits, compression=compression, palette=PALETTE, shape=(8, 2), colours=4))
    for y in (0.2, 0.8):
        assert (colour_at(picture, 0.1, y), colour_at(picture, 0.9, y)) == ((200, 0, 0), (0, 0, 200))


def test_skipped_pixels_are_transparent() -> None:
    """Pixels that the runs skip are white and not of the palette's first colour, as in browsers."""
    runs = b"\x04\x01\x00\x02\x04\x00\x00\x00\x08\x01\x00\x01"
    picture = decoded(bmp(runs, 8, compression=RLE8, palette=PALETTE, shape=(8, 2), colours=4))
    assert (colour_at(picture, 0.1, 0.9), colour_at(picture, 0.9, 0.9)) == ((200, 0, 0), (255, 255, 255))


def test_runs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run is a step: too many end early."""
    monkeypatch.setattr(bmp_rle, "MAX_RUNS", 3)
    runs = b"\x01\x01" * 8 + b"\x00\x01"
    assert refusal(bmp(runs, 8, compression=RLE8, palette=PALETTE, shape=(8, 2))).code == "image_too_complex"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (bmp(bgr(SCENE)[:-4000], 24), "truncated_image"),
        (bmp(b"\x04\x01", 8, compression=RLE8, palette=PALETTE, shape=(8, 2)), "truncated_image"),
        (bmp(b"", 24)[:30], "truncated_image"),
        (bmp(b"", 24, shape=(0, 5)), "corrupt_image"),
        (bmp(b"no file", 0, compression=PNG), "corrupt_image"),
        (bmp(bgr(SCENE), 24, size=64, compression=4), "unsupported_format"),
        (bmp(bgr(SCENE), 64), "unsupported_format"),
        (bmp(b"", 24, shape=(20_000, 20_000)), "image_too_large"),
        (b"BMW 320d, bought 2019. See photo in the other folder.\n" * 3, "not_an_image"),
    ],
)
def test_damage(data: bytes, code: str) -> None:
    """What is missing, senseless or of another program has its code."""
    assert refusal(data).code == code


def test_the_last_rows_padding_is_not_needed() -> None:
    """Many programs leave the padding of the last row out."""
    rows = np.zeros((9, 32), dtype=np.uint8)
    assert decoded(bmp(rows.tobytes()[:-2], 24, shape=(10, 9))).dimensions.width == 10


def numbers(samples: npt.NDArray[np.uint8]) -> bytes:
    return b"# a comment\n" + " ".join(map(str, samples.reshape(-1))).encode()


GREY = np.asarray(scene(mode="L"))
BITS = np.asarray(scene(mode="L").point(lambda value: 255 if value > 100 else 0))


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (b"P6\n160 120\n255\n" + SCENE.tobytes(), "RGB"),
        (b"P6 # made by hand\n160\t120 65535\n" + (SCENE.astype(">u2") * 257).tobytes(), "RGB"),
        (b"P5 160 120 255\n" + GREY.tobytes(), "L"),
        (b"P5 160 120 1000\n" + (GREY.astype(np.uint32) * 1000 // 255).astype(">u2").tobytes(), "L"),
        (b"P3 160 120 255\n" + numbers(SCENE), "RGB"),
        (b"P2 160 120 255\n" + numbers(GREY), "L"),
        (b"P4 160 120\n" + np.packbits(BITS == 0, axis=1).tobytes(), "1"),
        (b"P1 160 120\n" + bytes(ord("1" if value == 0 else "0") for value in BITS.reshape(-1)), "1"),
        (b"P7\nWIDTH 160\nHEIGHT 120\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + SCENE.tobytes(), "RGB"),
    ],
)
def test_pnm(data: bytes, mode: str) -> None:
    """Text and binary, bits, greys and colours, 8 and 16 bits per sample."""
    seen = Image.fromarray(BITS) if mode == "1" else scene(mode=mode)
    assert_shows(data, seen)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"P6 160 120 255\n" + SCENE.tobytes()[:-1], "truncated_image"),
        (b"P3 160 120 255\n1 2 3", "truncated_image"),
        (b"P3 2 2 255\n1 2 x 1 1 1 1 1 1 1 1 1", "corrupt_image"),
        (b"P6 0 120 255\n", "corrupt_image"),
        (b"P5 160 120 0\n" + bytes(19_200), "corrupt_image"),
        (b"P6 20000 20000 255\n", "image_too_large"),
        (b"P1 is the first paragraph of this text.", "not_an_image"),
    ],
)
def test_damaged_pnm(data: bytes, code: str) -> None:
    """A short or senseless PNM has its code, and a text is no PNM."""
    assert refusal(data).code == code

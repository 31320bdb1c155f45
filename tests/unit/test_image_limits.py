"""Untrusted bytes of any kind are refused with a code and a reason, within the memory limit."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from dropline.errors import ImageRefused, InvalidImage, PermanentError
from dropline.images.decoding import decode
from dropline.settings import ImageSettings
from tests.support import image_files
from tests.support.image_files import MP4, PDF, SVG, TEXT, encode, halves

LIMITS = ImageSettings()
SIZE = 32
KINDS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
SAMPLES = {kind: encode(halves(40, 30), kind) for kind in KINDS}
GIB = 2**30
NAMED = {
    "decoded",
    "corrupt_image",
    "truncated_image",
    "not_an_image",
    "unsupported_format",
    "image_too_large",
    "image_too_complex",
    "out_of_memory",
}


def refusal(data: bytes, limits: ImageSettings = LIMITS) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        decode(data, SIZE, limits)
    assert str(caught.value)
    return caught.value


def outcome(data: bytes) -> str:
    try:
        decode(data, SIZE, LIMITS)
    except PermanentError as error:
        return error.code
    return "decoded"


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "empty_object", "0 bytes"),
        (TEXT, "not_an_image", "text"),
        (b"\xef\xbb\xbf" + TEXT, "not_an_image", "text"),
        (b"<!doctype html><html><body>404</body></html>", "not_an_image", "HTML"),
        (SVG, "unsupported_format", "SVG"),
        (PDF, "not_an_image", "PDF"),
        (MP4, "not_an_image", "MP4"),
        (b"RIFF\x10\x00\x00\x00AVI LIST", "not_an_image", "AVI"),
        (b"PK\x03\x04" + b"\x00" * 60, "not_an_image", "ZIP"),
        (b"\x1f\x8b\x08" + b"\x00" * 60, "not_an_image", "gzip"),
        (b"8BPS\x00\x01" + b"\x00" * 60, "unsupported_format", "Photoshop"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "unsupported_format", "JPEG XL"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "unsupported_format", "PostScript"),
        (b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01crx isom", "unsupported_format", "raw photograph (CR3)"),
        (b"\x00\x01\x02\x03" * 20, "not_an_image", "of no kind known here"),
    ],
)
def test_what_is_no_image_is_told_what_it_is(data: bytes, code: str, words: str) -> None:
    """Objects other than images fail with a code, and with the name of the detected type."""
    error = refusal(data)
    assert isinstance(error, InvalidImage)
    assert error.code == code
    assert words in str(error)


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "JPEG2000", "SGI", "DDS"])
def test_exotic_decoders_are_out_of_reach(kind: str) -> None:
    """Unsupported formats never reach Pillow's decoder of the format."""
    assert refusal(encode(halves(16, 16), kind)).code in {"unsupported_format", "not_an_image"}


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_file_is_called_truncated(kind: str) -> None:
    """A file cut in the middle fails as truncated."""
    whole = encode(Image.effect_noise((300, 200), 80).convert("RGB"), kind)
    error = refusal(whole[: len(whole) // 2])
    assert error.code == "truncated_image"
    assert "cut short" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_is_named(kind: str) -> None:
    """A file cut at any byte is decoded or fails as a damaged image."""
    whole = SAMPLES[kind]
    codes = set()
    for end in range(1, len(whole), max(1, len(whole) // 250)):
        try:
            decode(whole[:end], SIZE, LIMITS)
        except InvalidImage as error:
            codes.add(error.code)
    assert "truncated_image" in codes
    assert codes <= {"truncated_image", "corrupt_image", "not_an_image"}


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [("PNG", b"IDAT", b"IDAT\x00"), ("WEBP", b"\x9d\x01\x2a", b"xxx"), ("AVIF", b"meta", b"atem")],
)
def test_damage_is_called_corrupt(kind: str, good: bytes, bad: bytes) -> None:
    """A file of full length with wrong bytes fails as corrupt."""
    error = refusal(SAMPLES[kind].replace(good, bad))
    assert error.code == "corrupt_image"
    assert "damaged" in str(error)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
@example(b"\xff\xd8\xff")
@example(b"II*\x00\xff\xff\xff\xff")
@example(b"\x00\x00\x00\x01ftypavif")
@example(b"RIFF\x00\x00\x00\x00WEBPVP8X")
def test_junk_never_escapes(junk: bytes) -> None:
    """Random bytes end in a permanent error."""
    with pytest.raises(PermanentError):
        decode(junk, SIZE, LIMITS)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_flipped_bytes_never_escape(kind: str, flips: list[tuple[float, int]]) -> None:
    """A file with some wrong bytes is decoded, or ends in a permanent error with a code."""
    data = bytearray(SAMPLES[kind])
    for place, value in flips:
        data[int(place * len(data))] = value
    assert outcome(bytes(data)) in NAMED


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_junk_behind_a_good_beginning_never_escapes(kind: str, junk: bytes) -> None:
    """Random bytes behind a true signature end in a permanent error."""
    assert outcome(SAMPLES[kind][:12] + junk) in NAMED


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (30_001, 10), (10, 30_001), (10_001, 10_000)])
def test_too_many_pixels_are_refused_by_the_header(width: int, height: int) -> None:
    """Sizes beyond the limits are refused with the setting to change, even without any pixel data."""
    error = refusal(image_files.png_header(width, height))
    assert isinstance(error, ImageRefused)
    assert error.code == "image_too_large"
    assert "DROPLINE_IMAGES__MAX" in str(error) or "DOS" in str(error)


def test_limits_are_the_settings() -> None:
    """A picture at the limit is decoded; a picture with another pixel is refused."""
    limits = ImageSettings(max_pixels=1200, max_side=40)
    decode(SAMPLES["PNG"], SIZE, limits)
    assert refusal(SAMPLES["PNG"], ImageSettings(max_pixels=1199)).code == "image_too_large"
    assert refusal(SAMPLES["PNG"], ImageSettings(max_side=39)).code == "image_too_large"


def test_sizes_pillow_warns_about_are_no_error() -> None:
    """Between Pillow's own warning and our limit, pictures are let through to the decoder."""
    assert refusal(image_files.png_header(9_990, 9_990)).code == "corrupt_image"


def test_text_is_not_read() -> None:
    """A comment of many decompressed megabytes is skipped: no pixel depends on the comment."""
    decode(image_files.png_with_text_bomb(100), SIZE, LIMITS)


def test_large_exif_is_fine() -> None:
    """EXIF of some hundred thousand bytes, with a directory across all segments, is accepted."""
    decode(image_files.jpeg_with_huge_exif(10), SIZE, LIMITS)


def test_time_limits_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A soft time limit raised during decoding passes unchanged."""

    def strike(*_: object) -> None:
        raise SoftTimeLimitExceeded

    monkeypatch.setattr("dropline.images.decoding.rendered", strike)
    with pytest.raises(SoftTimeLimitExceeded):
        decode(SAMPLES["PNG"], SIZE, LIMITS)


BOMBS: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "claims 50,000 x 50,000": (lambda: image_files.png_header(50_000, 50_000), "image_too_large"),
    "complete PNG of 13,000 x 13,000": (lambda: image_files.png_bomb(13_000), "image_too_large"),
    "EXIF of 19 MB": (lambda: image_files.jpeg_with_huge_exif(300), None),
    "text of 500 MB": (lambda: image_files.png_with_text_bomb(500), None),
    "WebP of 10,000 x 10,000": (
        lambda: encode(Image.new("RGB", (10_000, 10_000)), "WEBP", quality=1, method=0),
        None,
    ),
}
CHILD = """
import json, resource, sys
from dropline.errors import DroplineError
from dropline.images.decoder import DecoderProcess
from dropline.settings import ImageSettings
with DecoderProcess(ImageSettings(decode_timeout_s=300)) as decoder:
    try:
        decoder.decode(open(sys.argv[1], "rb").read(), 768)
        code = None
    except DroplineError as error:
        code = error.code
# Of the largest descendant, in KiB.
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"code": code, "peak": peak * 1024}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory ceilings are Linux's")
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_stay_under_the_memory_limit(bomb: str, tmp_path: Path) -> None:
    """A process with a decompression bomb reports the bomb and never holds 1.5 GiB."""
    make, code = BOMBS[bomb]
    path = tmp_path / "bomb"
    path.write_bytes(make())
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True, timeout=300
    )
    seen = json.loads(child.stdout)
    assert seen["code"] == code
    assert seen["peak"] < 1.5 * GIB

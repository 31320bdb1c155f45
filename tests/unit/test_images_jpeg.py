"""JPEG: variants, missing ends, metadata that nobody needs, and work that is refused before it is done."""

import io
import struct

import pytest
from PIL import Image, ImageOps

from dropline.images import jpeg
from tests.support.image_checks import assert_shows, decoded, refusal
from tests.support.image_files import encode, exif, jpeg_segment, jpeg_with, scene

EOI = b"\xff\xd9"


def scene_jpeg(mode: str = "RGB", **options: object) -> bytes:
    return encode(scene(mode=mode), "JPEG", quality=95, **options)


def frame_at(data: bytes) -> int:
    """Where the frame's marker lies."""
    return next(at for at in (data.find(b"\xff" + bytes((kind,))) for kind in (0xC0, 0xC1, 0xC2)) if at > 0)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_kinds_that_are_decoded(mode: str, progressive: bool) -> None:
    """Grey, colour and CMYK, baseline and progressive."""
    assert_shows(scene_jpeg(mode, progressive=progressive), scene(mode=mode))


def test_cmyk_without_adobes_segment_is_inverted_too() -> None:
    """CMYK samples count as inverted, as in all browsers, with and without Adobe's segment."""
    data = scene_jpeg("CMYK")
    at = data.index(b"\xff\xee")
    assert_shows(data[:at] + data[at + 16 :], scene())


def test_rgb_samples_by_adobes_segment() -> None:
    """Adobe's segment decides that three components are RGB and not YCbCr."""
    image = scene()
    data = encode(image, "JPEG", quality=95, keep_rgb=True)
    assert_shows(data, image)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_missing_end_marker_is_no_reason(progressive: bool) -> None:
    """All pixels are there: the picture is captioned, and bytes behind the end have no effect either."""
    whole = scene_jpeg(progressive=progressive)
    assert_shows(whole.removesuffix(EOI), scene())
    assert_shows(whole + b"\xff\xda trailing bytes" * 500, scene())


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("end", [b"", b"\x00" * 100_000, b"\x00" * 400 + EOI])
def test_missing_pixels_are_a_reason(progressive: bool, share: float, end: bytes) -> None:
    """A file cut in its pixels is refused, with a tail of zero bytes and with an end marker, too."""
    noise = encode(Image.effect_noise((300, 200), 80).convert("RGB"), "JPEG", progressive=progressive)
    cut = noise[: int(len(noise) * share)]
    if progressive and end.endswith(EOI):
        pytest.skip("with an end marker, a progressive JPEG has all pixels, less sharp")
    assert refusal(cut + end).code in {"truncated_image", "corrupt_image"}


def test_a_cut_file_with_an_end_marker_is_truncated() -> None:
    """Some programs end a cut file with a marker: the missing rows come out of the decoder as grey."""
    noise = encode(Image.effect_noise((300, 200), 80).convert("RGB"), "JPEG")
    for share in (0.3, 0.6, 0.95):
        assert refusal(noise[: int(len(noise) * share)] + EOI).code == "truncated_image"


def test_a_grey_corner_is_no_missing_pixel() -> None:
    """A whole file that ends in middle grey is decoded."""
    image = scene()
    image.paste((128, 128, 128), (100, 80, 160, 120))
    assert_shows(encode(image, "JPEG", quality=95), image)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ((0xC1, 12, 3), "12 bits per sample"),
        ((0xC3, 8, 1), "lossless JPEG"),
        ((0xC5, 8, 3), "hierarchical JPEG"),
        ((0xCB, 8, 3), "lossless JPEG"),
        ((0xF7, 8, 3), "JPEG-LS"),
        ((0xC0, 8, 2), "2 components"),
    ],
)
def test_features_without_a_decoder_are_named(change: tuple[int, int, int], name: str) -> None:
    """A valid JPEG of another kind is unsupported, with the feature and without an address."""
    marker, bits, components = change
    body = struct.pack(">BHHB", bits, 120, 160, components) + b"\x01\x11\x00" * components
    data = (
        b"\xff\xd8"
        + jpeg_segment(marker, body)
        + jpeg_segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
        + b"\x11" * 40
        + EOI
    )
    error = refusal(data)
    assert error.code == "unsupported_format"
    assert name in str(error)
    assert "convert it" in str(error)


def test_arithmetic_coding_is_bounded() -> None:
    """Arithmetic coding takes time without taking bytes: large pictures are refused."""
    data = bytearray(scene_jpeg())
    at = frame_at(bytes(data))
    data[at + 1], data[at + 5 : at + 9] = 0xC9, struct.pack(">HH", 8_000, 8_000)
    assert refusal(bytes(data)).code == "image_too_complex"


def test_thousands_of_scans_are_refused() -> None:
    """Scans that bring no data cost the time of a whole picture each; the file is refused before decoding."""
    data = scene_jpeg(progressive=True).removesuffix(EOI)
    empty = jpeg_segment(0xDA, b"\x01\x01\x00\x01\x3f\x00")
    error = refusal(data + empty * 3_000 + EOI)
    assert error.code == "image_too_complex"
    assert "scans" in str(error)
    # A segment between the scans that contains an end marker hides none of them.
    hidden = jpeg_segment(0xC4, b"\x10" + b"\x00" * 14 + EOI) + empty
    assert refusal(data + hidden * 3_000 + EOI).code == "image_too_complex"


def test_scans_of_large_pictures_are_bounded_earlier() -> None:
    """The bound is on scans times pixels."""
    data = bytearray(scene_jpeg(progressive=True).removesuffix(EOI))
    at = frame_at(bytes(data))
    data[at + 5 : at + 9] = struct.pack(">HH", 9_984, 9_984)
    error = refusal(bytes(data) + jpeg_segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") * 60 + EOI)
    assert error.code == "image_too_complex"


def test_dozens_of_scans_are_decoded() -> None:
    """A progressive file with many scans, each refining a band, is decoded."""
    data = scene_jpeg(progressive=True)
    assert data.count(b"\xff\xda") > 5
    more = jpeg_segment(0xDA, b"\x01\x01\x00\x3f\x3f\x10") + b"\xff"
    assert decoded(data.removesuffix(EOI) + more * 60 + EOI).dimensions.width == 160


def test_too_many_segments_are_refused() -> None:
    """A file of nothing but segments ends early."""
    data = jpeg_with(scene_jpeg(), jpeg_segment(0xFE, b"") * (jpeg.MAX_SEGMENTS + 1))
    assert refusal(data).code == "image_too_complex"


def test_only_exif_turns() -> None:
    """Browsers turn by EXIF's own tag, and never by XMP or a second EXIF."""
    packet = b'http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta tiff:Orientation="6" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"/>'
    assert_shows(jpeg_with(scene_jpeg(), jpeg_segment(0xE1, packet)), scene())
    first, second = (
        jpeg_segment(0xE1, b"Exif\x00\x00" + exif(turn).removeprefix(b"Exif\x00\x00")) for turn in (1, 6)
    )
    assert_shows(jpeg_with(scene_jpeg(), first, second), scene())
    assert_shows(jpeg_with(scene_jpeg(), second, first), scene().transpose(Image.Transpose.ROTATE_270))


def test_metadata_is_not_decoded() -> None:
    """Segments of other programs, damaged or large, change nothing."""
    junk = [
        jpeg_segment(marker, b"\xff\xd9 ICC_PROFILE\x00 MPF\x00 \xff" * 900) for marker in (0xE2, 0xE5, 0xED, 0xFE)
    ]
    assert_shows(jpeg_with(scene_jpeg(), *junk), scene())


def test_a_second_picture_is_ignored() -> None:
    """Of an MPO, a camera's file with a large picture and smaller ones, the first counts."""
    buffer = io.BytesIO()
    scene().save(buffer, "MPO", save_all=True, append_images=[ImageOps.invert(scene())], quality=95)
    assert_shows(buffer.getvalue(), scene())


def test_equal_causes_have_equal_texts() -> None:
    """Two files cut at different bytes have the same text: `GROUP BY error` counts them together."""
    noise = encode(Image.effect_noise((300, 200), 80).convert("RGB"), "JPEG")
    assert str(refusal(noise[: len(noise) // 2])) == str(refusal(noise[: len(noise) // 3]))


@pytest.mark.parametrize("rest", [b"", b"\xe0", b"\xe0\x00", b"\xff" * 50, b"\xda" * 50])
def test_stumps(rest: bytes) -> None:
    """A file that ends before its frame is cut short or damaged."""
    assert refusal(b"\xff\xd8\xff" + rest).code in {"truncated_image", "corrupt_image"}

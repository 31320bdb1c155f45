"""JPEG files."""

import io
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from tests.corpus.expected import Case, Refused, Shown
from tests.corpus.scenes import HEIGHT, SIZE, WIDTH, grey, pixels, scene
from tests.corpus.writers import exif, icc
from tests.corpus.writers.jpeg import (
    arithmetic_grey,
    flat_blocks,
    icc_segments,
    in_scans,
    lossless,
    many_scans,
    segment,
    with_segments,
    without,
)
from tests.support.image_files import encode

_case = partial(Case, "JPEG")
_BLOCKS = (640, 480)
_XMP = (
    b'http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
#: From an upright picture to the stored one, by orientation.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def jpeg(image: Image.Image | None = None, **options: Any) -> bytes:
    """A scene as JPEG."""
    return encode(image or scene("S"), "JPEG", quality=92, **options)


def stored(image: Image.Image, orientation: int) -> Image.Image:
    """The upright picture, stored as in a file of the given orientation."""
    return image.transpose(_STORED[orientation]) if orientation in _STORED else image


def _turned(orientation: int, order: str = "<", **options: int) -> bytes:
    block = segment(0xE1, exif.app1(orientation, order, **options))
    return with_segments(jpeg(stored(scene("S"), orientation)), block)


def _in_scans(count: int) -> bytes:
    """The first scans of a file with a scan each for Y, Cb and Cr."""
    bands = scene("S").convert("YCbCr").split()[:count]
    return in_scans([encode(band, "JPEG", quality=92) for band in bands])


def _with_app1(*bodies: bytes, image: Image.Image | None = None) -> bytes:
    return with_segments(jpeg(image), *(segment(0xE1, body) for body in bodies))


def _with_profile(image: Image.Image, profile: bytes) -> bytes:
    return with_segments(jpeg(image), *icc_segments(profile))


def _swapped() -> bytes:
    """Red and blue are exchanged in the samples, and in the profile."""
    red, green, blue = scene("S").split()
    return _with_profile(Image.merge("RGB", (blue, green, red)), icc.rgb(icc.SRGB[::-1]))


def _with_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """Samples of sRGB, taken as exponent 2.2, with another exponent."""
    return image.point(
        [round(255 * (value / 255) ** (2.2 / gamma)) for value in range(256)] * len(image.getbands())
    )


def _cmyk(transform: int | None = 0, swapped: bool = False) -> bytes:
    """Plain inks; Adobe's files, and Pillow's, have inverted samples."""
    inks = 255 - pixels("S")
    black = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    planes = np.concatenate([inks[..., ::-1] if swapped else inks, black], axis=2)
    if transform == 2:
        ycc = np.asarray(Image.fromarray(planes[..., :3]).convert("YCbCr"))
        planes = np.concatenate([255 - ycc, black], axis=2)
    data = jpeg(Image.frombytes("CMYK", SIZE, planes.tobytes()), subsampling=0)
    at = data.index(b"Adobe") + 11
    return data[:at] + bytes([transform or 0]) + data[at + 1 :]


def _mpo() -> bytes:
    buffer = io.BytesIO()
    scene("S").save(buffer, "MPO", save_all=True, append_images=[scene("G")], quality=92)
    return buffer.getvalue()


def _jfif_thumbnail() -> bytes:
    thumbnail = scene("G", size=(40, 30)).tobytes()
    return with_segments(
        without(jpeg(), 0xE0), segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x28\x1e" + thumbnail)
    )


def _exif_thumbnail() -> bytes:
    return _with_app1(exif.app1(1) + jpeg(scene("G", size=(40, 30))))


def _block_planes(precision: int = 8, grey_only: bool = True) -> list[Any]:
    image = scene("G" if grey_only else "S", size=_BLOCKS).resize((80, 60), Image.Resampling.NEAREST)
    planes = np.asarray(image if grey_only else image.convert("YCbCr")).astype(int)
    channels = [planes[..., 0]] if grey_only else [planes[..., 0], planes[:, ::4, 1], planes[:, ::4, 2]]
    return [channel * ((1 << precision) - 1) // 255 for channel in channels]


def _cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def _with_sof(data: bytes, sof: int) -> bytes:
    return data.replace(b"\xff\xc0\x00\x11", bytes([0xFF, sof, 0, 17]), 1)


def _rgb_ids() -> bytes:
    """Three components R, G and B, without a marker of JFIF or Adobe."""
    data = encode(scene("S"), "JPEG", quality=92, keep_rgb=True)
    return without(without(data, 0xEE), 0xE0)


def _swapped_pixels() -> bytes:
    red, green, blue = scene("S").split()
    return jpeg(Image.merge("RGB", (blue, green, red)))


_S, _G = Shown("S"), Shown("G")
_TRUNCATED = Refused("truncated_image", "cut short")
_DAMAGED = Refused("corrupt_image", "damaged")

# fmt: off
CASES = (
    _case("jpeg_baseline_420.jpg", "baseline, 4:2:0", lambda: jpeg(subsampling=2), _S),
    _case("jpeg_baseline_422.jpg", "baseline, 4:2:2", lambda: jpeg(subsampling=1), _S),
    _case("jpeg_baseline_444.jpg", "baseline, 4:4:4", lambda: jpeg(subsampling=0), _S),
    _case("jpeg_411.jpg", "4:1:1",
          lambda: flat_blocks(_block_planes(grey_only=False), sof=0xC0, sampling=(4, 1, 1)),
          Shown("S", size=_BLOCKS, tolerance=10)),
    _case("jpeg_progressive.jpg", "progressive", lambda: jpeg(progressive=True), _S),
    _case("jpeg_optimized.jpg", "own Huffman tables", lambda: jpeg(optimize=True), _S),
    _case("jpeg_restart_markers.jpg", "restart markers", lambda: jpeg(restart_marker_blocks=3), _S),
    _case("jpeg_extended_8bit.jpg", "extended sequential, 8 bits", lambda: _with_sof(jpeg(), 0xC1), _S),
    _case("jpeg_grey.jpg", "grey", lambda: jpeg(scene("G").convert("L")), _G),
    _case("jpeg_rgb_adobe.jpg", "RGB, told by Adobe's marker", lambda: jpeg(keep_rgb=True), _S),
    _case("jpeg_rgb_ids.jpg", "RGB, told by the names of the components", _rgb_ids, _S),
    _case("jpeg_two_components.jpg", "two components", lambda: flat_blocks(_block_planes() * 2),
          Refused("unsupported_format", "")),
    _case("jpeg_cmyk_adobe.jpg", "CMYK with Adobe's inverted samples", _cmyk, Shown("S", tolerance=40)),
    _case("jpeg_ycck_adobe.jpg", "YCCK", lambda: _cmyk(2), Shown("S", tolerance=40)),
    _case("jpeg_cmyk_profile_swapped.jpg", "CMYK with a profile in which cyan and yellow are exchanged",
          lambda: with_segments(_cmyk(swapped=True), *icc_segments(icc.cmyk(swapped=True))),
          Shown("S", tolerance=50)),
    _case("jpeg_no_huffman_tables.jpg", "a frame of a video, without tables", lambda: without(jpeg(), 0xC4), _S),
    _case("jpeg_no_eoi.jpg", "all pixels, without the end marker", lambda: jpeg()[:-2], _S),
    _case("jpeg_trailing_text.jpg", "text behind the end marker", lambda: jpeg() + b"\r\n--boundary--" * 9, _S),
    _case("jpeg_trailing_nulls.jpg", "zeros behind the end marker", lambda: jpeg() + bytes(5000), _S),
    _case("jpeg_trailing_video.jpg", "a video behind the end marker",
          lambda: jpeg() + b"\0\0\0\x18ftypmp42" * 60, _S),
    _case("jpeg_fill_bytes.jpg", "fill bytes before a marker", lambda: jpeg()[:2] + b"\xff" * 9 + jpeg()[2:], _S),
    _case("jpeg_long_comments.jpg", "half a megabyte of comments",
          lambda: with_segments(jpeg(), *[segment(0xFE, b"c" * 65_000)] * 8), _S),
    _case("jpeg_scan_per_component.jpg", "a scan for each component", lambda: _in_scans(3), _S),
    _case("jpeg_no_colour_scans.jpg", "the scans of the colours are missing", lambda: _in_scans(1), _TRUNCATED),
    _case("jpeg_one_colour_scan.jpg", "the scan of one colour is missing", lambda: _in_scans(2), _TRUNCATED),
    _case("jpeg_missing_half.jpg", "the second half is missing", lambda: _cut(jpeg(), 0.5), _TRUNCATED),
    _case("jpeg_missing_tenth.jpg", "the last tenth is missing", lambda: _cut(jpeg(), 0.9), _TRUNCATED),
    _case("jpeg_missing_half_progressive.jpg", "progressive, the second half is missing",
          lambda: _cut(jpeg(progressive=True), 0.5), _TRUNCATED),
    _case("jpeg_half_then_zeros.jpg", "the second half is zeros",
          lambda: _cut(jpeg(), 0.5) + bytes(len(jpeg()) // 2), Refused("truncated_image", "")),
    _case("jpeg_headers_only.jpg", "no pixels at all", lambda: jpeg()[: jpeg().index(b"\xff\xda")], _TRUNCATED),
    _case("jpeg_start_only.jpg", "three bytes", lambda: b"\xff\xd8\xff", _TRUNCATED),
    _case("jpeg_two_starts.jpg", "two start markers", lambda: b"\xff\xd8" + jpeg(), _DAMAGED),
    _case("jpeg_bad_table.jpg", "a Huffman table of impossible lengths",
          lambda: with_segments(without(jpeg(), 0xC4), segment(0xC4, b"\x00" + b"\xff" * 40)), _DAMAGED),
    _case("jpeg_no_quantization.jpg", "a missing quantization table", lambda: without(jpeg(), 0xDB), _DAMAGED),
    _case("jpeg_zero_width.jpg", "a width of zero",
          lambda: jpeg().replace(b"\x00\x11\x08\x00\x78\x00\xa0", b"\x00\x11\x08\x00\x78\x00\x00"), _DAMAGED),
    _case("jpeg_leading_garbage.jpg", "bytes before the start",
          lambda: b"\n\x01\x02\x03" + jpeg(), Refused("not_an_image", "of no kind known here")),
    _case("jpeg_12bit.jpg", "12 bits per sample",
          lambda: flat_blocks(_block_planes(12), 12), Refused("unsupported_format", "12 bits per sample")),
    _case("jpeg_lossless.jpg", "lossless", lambda: lossless(grey()), Refused("unsupported_format", "lossless")),
    _case("jpeg_lossless_16bit.jpg", "lossless, 16 bits per sample",
          lambda: lossless(grey().astype(int) * 257, 16), Refused("unsupported_format", "")),
    _case("jpeg_hierarchical.jpg", "hierarchical",
          lambda: _with_sof(jpeg(), 0xC5), Refused("unsupported_format", "hierarchical")),
    _case("jpeg_arithmetic.jpg", "arithmetic coding",
          lambda: arithmetic_grey(*SIZE), Shown("nothing", ground=(128, 128, 128))),
    _case("jpeg_ls.jpg", "JPEG-LS",
          lambda: b"\xff\xd8\xff\xf7\x00\x0b\x08\x00\x78\x00\xa0\x01\x01\x11\x00" + bytes(99),
          Refused("unsupported_format", "JPEG-LS")),
    _case("jpeg_many_scans_large.jpg", "thousands of scans without any change",
          lambda: many_scans(9984, 9984, 600), Refused("image_too_complex", "scans")),
    _case("jpeg_many_scans_small.jpg", "thousands of scans of a small picture",
          lambda: many_scans(*SIZE, 3000), Refused("image_too_complex", "scans")),
    _case("jpeg_too_large.jpg", "a header of 60,000 by 60,000 pixels",
          lambda: jpeg().replace(b"\x00\x11\x08\x00\x78\x00\xa0", b"\x00\x11\x08\xea\x60\xea\x60"),
          Refused("image_too_large", "DROPLINE_IMAGES__MAX_PIXELS")),
    *(
        _case(f"jpeg_orientation_{turn}.jpg", f"EXIF orientation {turn}", partial(_turned, turn), _S)
        for turn in range(1, 9)
    ),
    _case("jpeg_orientation_6_big_endian.jpg", "EXIF orientation, big-endian", lambda: _turned(6, ">"), _S),
    _case("jpeg_orientation_0.jpg", "an EXIF orientation of 0, which is none", lambda: _turned(0), _S),
    _case("jpeg_orientation_9.jpg", "an EXIF orientation of 9, which is none", lambda: _turned(9), _S),
    _case("jpeg_orientation_of_thumbnail.jpg", "an orientation of the EXIF thumbnail alone",
          lambda: _turned(1, thumbnail_orientation=6), _S),
    _case("jpeg_orientation_xmp_only.jpg", "an orientation in XMP alone, which browsers ignore",
          lambda: _with_app1(_XMP), _S),
    _case("jpeg_orientation_xmp_against_exif.jpg", "an orientation in XMP against EXIF's",
          lambda: with_segments(_turned(3), segment(0xE1, _XMP)), _S),
    _case("jpeg_orientation_progressive.jpg", "progressive with EXIF orientation 8",
          lambda: with_segments(jpeg(stored(scene("S"), 8), progressive=True), segment(0xE1, exif.app1(8))), _S),
    _case("jpeg_exif_cut.jpg", "EXIF that is cut short", lambda: _with_app1(exif.app1(6)[:17]), _S),
    _case("jpeg_exif_random.jpg", "EXIF of random bytes", lambda: _with_app1(b"Exif\0\0" + bytes(range(256))), _S),
    _case("jpeg_exif_bad_offset.jpg", "EXIF whose directory lies outside",
          lambda: _with_app1(b"Exif\0\0II*\0\xff\xff\xff\xff"), _S),
    _case("jpeg_exif_loop.jpg", "EXIF whose directories form a ring",
          lambda: _with_app1(exif.app1(1)[:-4] + b"\x08\0\0\0"), _S),
    _case("jpeg_exif_650kb.jpg", "650 KB of EXIF",
          lambda: with_segments(jpeg(), *[segment(0xE1, exif.app1(1).ljust(65_000, b"x"))] * 10), _S),
    _case("jpeg_exif_3mb.jpg", "3 MB of EXIF that no caption needs",
          lambda: with_segments(jpeg(), *[segment(0xE1, exif.app1(1).ljust(65_000, b"x"))] * 50), _S),
    _case("jpeg_exif_thumbnail.jpg", "another picture as EXIF thumbnail", _exif_thumbnail, _S),
    _case("jpeg_jfif_thumbnail.jpg", "another picture as JFIF thumbnail", _jfif_thumbnail, _S),
    _case("jpeg_mpo.mpo", "two pictures (MPO): the first", _mpo, _S),
    _case("jpeg_icc_srgb.jpg", "a profile near sRGB", lambda: _with_profile(scene("S"), icc.rgb()), _S),
    _case("jpeg_icc_swapped.jpg", "a profile with red and blue exchanged", _swapped, Shown("S", tolerance=8)),
    _case("jpeg_icc_linear.jpg", "a profile of linear light",
          lambda: _with_profile(_with_gamma(scene("S"), 1.0), icc.rgb(gamma=1.0)), Shown("S", tolerance=8)),
    _case("jpeg_icc_grey_linear.jpg", "grey with a profile of linear light",
          lambda: _with_profile(_with_gamma(scene("G").convert("L"), 1.0), icc.grey(1.0)),
          Shown("G", tolerance=8)),
    _case("jpeg_icc_grey_on_rgb.jpg", "a profile of grey in a picture of colours",
          lambda: _with_profile(scene("S"), icc.grey()), _S),
    _case("jpeg_icc_broken.jpg", "a profile of random bytes",
          lambda: _with_profile(scene("S"), b"no profile" * 40), _S),
    _case("jpeg_icc_cut.jpg", "a profile that is cut short",
          lambda: _with_profile(scene("S"), icc.rgb()[:300]), _S),
    _case("jpeg_icc_part_missing.jpg", "a profile without its second part",
          lambda: with_segments(jpeg(), icc_segments(icc.rgb(icc.SRGB[::-1]), 300)[0]), _S),
    _case("jpeg_icc_in_parts.jpg", "a profile in three parts",
          lambda: with_segments(_swapped_pixels(), *icc_segments(icc.rgb(icc.SRGB[::-1]), 200)),
          Shown("S", tolerance=8)),
    _case("jpeg_icc_1mb.jpg", "a profile of 1 MB",
          lambda: _with_profile(scene("S"), icc.rgb().ljust(2**20, b"\0")), _S),
)
# fmt: on

"""TIFF files."""

import io
import lzma
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.corpus.expected import Case, Refused, Shown
from tests.corpus.jpeg import jpeg, stored
from tests.corpus.scenes import GREY, HEIGHT, WHITE, WIDTH, grey, indexed, mask, pixels, scene
from tests.corpus.webp import webp
from tests.corpus.writers import icc
from tests.corpus.writers.bits import scaled
from tests.corpus.writers.jpeg import lossless
from tests.corpus.writers.tiff import Page, deflate, lzw, packbits, page, tiff
from tests.support.image_files import encode

_case = partial(Case, "TIFF")
MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, MASK, CMYK, YCC, CIELAB = 0, 1, 2, 3, 4, 5, 6, 8
_S, _G, _STAR = Shown("S"), Shown("G"), Shown("star", ground=None)
_S8, _G8, _BW = Shown("S", tolerance=8), Shown("G", tolerance=8), Shown("black star", ground=WHITE)
#: Where a viewer stretches the range of the samples, black and white move by these few steps.
_STRETCHED = Shown("G", tolerance=16)
_TRUNCATED = Refused("truncated_image", "cut short")
_DAMAGED = Refused("corrupt_image", "damaged")
Samples = npt.NDArray[np.generic]


def _rgb(**options: Any) -> Page:
    return page(pixels(), RGB, **options)


def _depth(depth: int, photometric: int = MIN_IS_BLACK, order: str = "<") -> bytes:
    """G, or a black star where the depth has no middle grey, in samples of `depth` bits."""
    name, ground = ("black star", WHITE) if depth < 4 else ("G", GREY)
    samples = grey(name, ground)
    samples = 255 - samples if photometric == MIN_IS_WHITE else samples
    wide = scaled(samples, depth)
    if depth in (8, 16, 32):
        return tiff(page(wide.astype(f"u{depth // 8}"), photometric, order=order), order=order)
    return tiff(page(wide, photometric, depth=depth, order=order), order=order)


def _floats(kind: str, high: float = 1.0, low: float = 0.0, order: str = "<") -> bytes:
    samples = grey().astype(float) / 255 * (high - low) + low
    return tiff(page(samples.astype(kind), MIN_IS_BLACK, order=order), order=order)


def _rgb_depth(depth: int, planar: bool = False) -> bytes:
    wide = scaled(pixels(), depth)
    if depth in (8, 16, 32):
        return tiff(page(wide.astype(f"u{depth // 8}"), RGB, planar=planar))
    return tiff(page(wide, RGB, depth=depth, planar=planar))


def _palette(depth: int = 8, factor: int = 257) -> bytes:
    indexes, colours = indexed()
    table = np.zeros((3, 2**depth), int)
    table[:, : len(colours)] = np.array(colours).T * factor
    options: dict[str, Any] = {} if depth == 8 else {"depth": depth}
    return tiff(page(indexes, PALETTE, more={320: table.reshape(-1).tolist()}, **options))


def _with_alpha(kind: int, colours: Samples, alpha: Samples, photometric: int = RGB) -> bytes:
    samples = np.concatenate([colours.reshape(HEIGHT, WIDTH, -1), alpha.reshape(HEIGHT, WIDTH, -1)], axis=2)
    return tiff(page(samples, photometric, more={338: [kind] * alpha.reshape(HEIGHT, WIDTH, -1).shape[2]}))


def _inks() -> npt.NDArray[np.uint8]:
    return np.concatenate([255 - pixels(), np.zeros((HEIGHT, WIDTH, 1), np.uint8)], axis=2)


def _lab() -> bytes:
    """L*a*b* of S by the matrix of sRGB: L from 0 to 255, a and b as signed bytes."""
    profile = icc.SRGB
    light = (pixels().astype(float) / 255) ** 2.2
    xyz = light @ np.array(profile) / np.array([0.9642, 1.0, 0.8249])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack(
        [(116 * f[..., 1] - 16) * 2.55, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=2
    )
    return tiff(page(np.rint(lab).astype(np.int16).astype(np.uint8), CIELAB, more={339: [1, 1, 1]}))


def _ycc(subsampled: bool = False) -> bytes:
    ycc = np.asarray(scene("S").convert("YCbCr"))
    if not subsampled:
        return tiff(page(ycc, YCC, more={530: [1, 1]}))
    luma = (
        ycc[..., 0]
        .reshape(HEIGHT // 2, 2, WIDTH // 2, 2)
        .transpose(0, 2, 1, 3)
        .reshape(HEIGHT // 2, WIDTH // 2, 4)
    )
    units = np.concatenate([luma, ycc[::2, ::2, 1:]], axis=2)
    made = page(ycc, YCC, more={530: [2, 2]})
    made.parts = [units.tobytes()]
    return tiff(made)


def _jpeg_strip(photometric: int = YCC, **options: Any) -> bytes:
    made = _rgb(compression=7)
    made.parts, made.tags[262] = [jpeg(**options)], photometric
    return tiff(made if photometric == RGB else _subsampled(made))


def _subsampled(made: Page) -> Page:
    made.tags[530] = [2, 2]
    return made


def _payload(compression: int, data: bytes, photometric: int = RGB, samples: Samples | None = None) -> bytes:
    """One strip of a codec's own file."""
    made = page(pixels() if samples is None else samples, photometric, compression=compression)
    made.parts = [data]
    return tiff(made)


def _fax(compression: str) -> bytes:
    return encode(scene("black star", WHITE).convert("1"), "TIFF", compression=compression)


def _old_jpeg() -> bytes:
    data = jpeg()
    made = page(pixels(), YCC, compression=6, more={513: 8, 514: len(data), 530: [2, 2]})
    made.parts = [data]
    return tiff(made)


def _predicted(samples: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Differences from the left neighbour: predictor 2."""
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    return differences


def _float_predicted() -> bytes:
    """Predictor 3: bytes of a row by their significance, then differences."""
    rows = (grey().astype(np.float32) / 255).astype(">f4").tobytes()
    cube = np.frombuffer(rows, np.uint8).reshape(HEIGHT, WIDTH, 4).transpose(0, 2, 1).reshape(HEIGHT, WIDTH * 4)
    made = page(grey().astype(np.float32), MIN_IS_BLACK, compression=8, more={317: 3})
    made.parts = [deflate(_predicted(cube).tobytes())]
    return tiff(made)


def _fill_order() -> bytes:
    """The bits of each byte are reversed."""
    made = page(scaled(grey("black star", WHITE), 1), MIN_IS_BLACK, depth=1, more={266: 2})
    made.parts = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in part) for part in made.parts]
    return tiff(made)


def _turned(turn: int) -> bytes:
    return tiff(page(np.asarray(stored(scene("S"), turn)), RGB, more={274: turn}))


def _small(name: str = "G") -> npt.NDArray[np.uint8]:
    return pixels(name, size=(40, 30))


def _with_children(*children: Page, tags: dict[int, Any] | None = None) -> bytes:
    made = _rgb(more=tags)
    made.children = list(children)
    return tiff(made)


def _no_tag(tag: int) -> bytes:
    """Without one tag; the strip's place and length are added by the writer, and renamed there."""
    made = _rgb()
    made.tags.pop(tag, None)
    data = tiff(made)
    entry = struct.pack("<H", tag)
    if tag in (273, 279):
        at = data.rindex(entry + b"\x04\x00")
        data = data[:at] + struct.pack("<H", 65_000) + data[at + 2 :]
    return data


def _many_tiles() -> bytes:
    """390,625 empty tiles."""
    made = page(np.zeros((1, 1), np.uint8), MIN_IS_BLACK, tile=(16, 16))
    made.parts = [b""] * 625**2
    made.tags |= {256: 10_000, 257: 10_000}
    return tiff(made)


def _saved(image: Image.Image, **options: Any) -> bytes:
    return encode(image, "TIFF", **options)


def _multi_page() -> bytes:
    buffer = io.BytesIO()
    scene("S").save(buffer, "TIFF", save_all=True, append_images=[scene("G")])
    return buffer.getvalue()


def _swapped_profile() -> bytes:
    return tiff(page(pixels()[..., ::-1], RGB, more={34675: icc.rgb(icc.SRGB[::-1])}))


def _half(data: bytes) -> bytes:
    """The directory comes first, so that the pixels are cut."""
    return data[: len(data) // 2]


def _directory_first(make: Callable[..., bytes] = _saved) -> bytes:
    return _saved(scene("S"))


def _tiny_pages(count: int) -> list[Page]:
    return [Page([], {254: 0, 256: 1, 257: 1})] * count


def _thumbnail_with_full() -> bytes:
    first = page(_small(), RGB, more={254: 1})
    first.children = [_rgb()]
    return tiff(first)


def _with_nan() -> Page:
    samples = grey().astype(np.float32) / 255
    samples[0, :4] = (np.nan, np.inf, -np.inf, np.nan)
    return page(samples, MIN_IS_BLACK)


_WHITE4 = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
_OPAQUE = np.full((HEIGHT, WIDTH), 255, np.uint8)
_INDEXES = indexed()[0]

# fmt: off
CASES = (
    _case("tiff_rgb.tif", "RGB", lambda: tiff(_rgb()), _S),
    _case("tiff_rgb_big_endian.tif", "RGB, big-endian", lambda: tiff(_rgb(order=">"), order=">"), _S),
    _case("tiff_rgb_bigtiff.tif", "RGB, BigTIFF", lambda: tiff(_rgb(), big=True), _S),
    _case("tiff_rgb_bigtiff_big_endian.tif", "RGB, BigTIFF, big-endian",
          lambda: tiff(_rgb(order=">"), order=">", big=True), _S),
    _case("tiff_rgb_strips.tif", "RGB in strips", lambda: tiff(_rgb(strip_rows=7)), _S),
    _case("tiff_rgb_tiles.tif", "RGB in tiles", lambda: tiff(_rgb(tile=(48, 32))), _S),
    _case("tiff_rgb_planar.tif", "RGB, planar", lambda: tiff(_rgb(planar=True)), _S),
    _case("tiff_rgb_planar_tiles.tif", "RGB, planar, in tiles",
          lambda: tiff(_rgb(planar=True, tile=(64, 64), compression=8, pack=deflate)), _S),
    _case("tiff_rgb_packbits.tif", "PackBits", lambda: tiff(_rgb(compression=32773, pack=packbits)), _S),
    _case("tiff_rgb_lzw.tif", "LZW", lambda: tiff(_rgb(compression=5, pack=lzw)), _S),
    _case("tiff_rgb_deflate.tif", "Deflate", lambda: tiff(_rgb(compression=8, pack=deflate)), _S),
    _case("tiff_rgb_deflate_old.tif", "Deflate under its old number",
          lambda: tiff(_rgb(compression=32946, pack=deflate)), _S),
    _case("tiff_rgb_deflate_predictor.tif", "Deflate with differences",
          lambda: tiff(page(_predicted(pixels()), RGB, compression=8, pack=deflate, more={317: 2})), _S),
    _case("tiff_rgb16_deflate_predictor.tif", "16 bits, Deflate with differences",
          lambda: tiff(page(_predicted(scaled(pixels(), 16).astype(np.uint16)), RGB, compression=8,
          pack=deflate, more={317: 2})),
          _S),
    _case("tiff_rgb_lzma.tif", "LZMA", lambda: tiff(_rgb(compression=34925, pack=lzma.compress)), _S),
    _case("tiff_jpeg.tif", "JPEG inside, YCbCr", _jpeg_strip, _S),
    _case("tiff_jpeg_rgb.tif", "JPEG inside, RGB", lambda: _jpeg_strip(RGB, keep_rgb=True), _S),
    _case("tiff_jpeg_old.tif", "old-style JPEG inside", _old_jpeg, _S),
    _case("tiff_webp.tif", "WebP inside", lambda: _payload(50001, webp(lossless=True)), _S),
    _case("tiff_jpeg2000.tif", "JPEG 2000 inside",
          lambda: _payload(34712, encode(scene("S"), "JPEG2000", no_jp2=True)), _S),
    _case("tiff_lossless_jpeg.tif", "lossless JPEG inside",
          lambda: _payload(7, lossless(grey()), MIN_IS_BLACK, grey()), _G),
    _case("tiff_jbig.tif", "JBIG inside",
          lambda: _payload(34661, bytes(99), 0, grey()), Refused("unsupported_format", "JBIG")),
    _case("tiff_unknown_compression.tif", "an unknown compression",
          lambda: tiff(_rgb(compression=64_999)), Refused("unsupported_format", "64999")),
    _case("tiff_fax3.tif", "fax, group 3", lambda: _fax("group3"), _BW),
    _case("tiff_fax4.tif", "fax, group 4", lambda: _fax("group4"), _BW),
    _case("tiff_fax_huffman.tif", "fax, run lengths", lambda: _fax("tiff_ccitt"), _BW),
    *(
        _case(f"tiff_grey{depth}.tif", f"grey, {depth} bits", partial(_depth, depth), _BW if depth < 4 else _G8)
        for depth in (1, 2, 4, 8, 10, 12, 14, 16, 32)
    ),
    *(
        _case(
            f"tiff_grey{depth}_white_is_zero.tif",
            f"grey, {depth} bits, zero is white",
            partial(_depth, depth, MIN_IS_WHITE),
            _BW if depth < 4 else _G8,
        )
        for depth in (1, 2, 4, 8, 12, 16, 32)
    ),
    _case("tiff_grey16_big_endian.tif", "grey, 16 bits, big-endian", lambda: _depth(16, order=">"), _G8),
    _case("tiff_grey16_white_big_endian.tif", "grey, 16 bits, zero is white, big-endian",
          lambda: _depth(16, MIN_IS_WHITE, ">"), _G8),
    _case("tiff_grey12_big_endian.tif", "grey, 12 bits, big-endian", lambda: _depth(12, order=">"), _G8),
    _case("tiff_grey1_fill_order.tif", "1 bit, low bits first", _fill_order, _BW),
    _case("tiff_int8.tif", "signed grey, 8 bits: from the smallest to the largest value",
          lambda: tiff(page((grey().astype(int) - 128).astype(np.int8), MIN_IS_BLACK)), _STRETCHED),
    _case("tiff_int16.tif", "signed grey, 16 bits: from the smallest to the largest value",
          lambda: tiff(page((grey().astype(int) * 100 - 9000).astype(np.int16), MIN_IS_BLACK)), _STRETCHED),
    _case("tiff_int32.tif", "signed grey, 32 bits: from the smallest to the largest value",
          lambda: tiff(page((grey().astype(int) * 100 - 9000).astype(np.int32), MIN_IS_BLACK)), _STRETCHED),
    _case("tiff_float16.tif", "grey, 16-bit floats", lambda: _floats("f2"), _STRETCHED),
    _case("tiff_float32.tif", "grey, 32-bit floats", lambda: _floats("f4"), _STRETCHED),
    _case("tiff_float32_range.tif", "grey, 32-bit floats from −40 to 3,000",
          lambda: _floats("f4", 3000, -40), _STRETCHED),
    _case("tiff_float32_nan.tif", "grey, 32-bit floats with NaN and infinity",
          lambda: tiff(_with_nan()), _STRETCHED),
    _case("tiff_float64.tif", "grey, 64-bit floats", lambda: _floats("f8"), _STRETCHED),
    _case("tiff_float32_big_endian.tif", "grey, 32-bit floats, big-endian",
          lambda: _floats("f4", order=">"), _STRETCHED),
    _case("tiff_float32_predictor.tif", "grey, 32-bit floats with differences", _float_predicted, _STRETCHED),
    _case("tiff_rgb_float32.tif", "RGB, 32-bit floats",
          lambda: tiff(page(pixels().astype(np.float32) / 255, RGB)), Shown("S", tolerance=16)),
    _case("tiff_rgb12.tif", "RGB, 12 bits", lambda: _rgb_depth(12), _S8),
    _case("tiff_rgb16.tif", "RGB, 16 bits", lambda: _rgb_depth(16), _S8),
    _case("tiff_rgb16_planar.tif", "RGB, 16 bits, planar", lambda: _rgb_depth(16, planar=True), _S8),
    _case("tiff_rgb32.tif", "RGB, 32 bits", lambda: _rgb_depth(32), _S8),
    _case("tiff_complex.tif", "complex numbers",
          lambda: tiff(page(np.zeros((HEIGHT, WIDTH), np.float64), MIN_IS_BLACK, more={339: [6]})),
          Refused("unsupported_format", "complex")),
    _case("tiff_palette8.tif", "palette, 8 bits", _palette, _S),
    _case("tiff_palette4.tif", "palette, 4 bits", lambda: _palette(4), _S),
    _case("tiff_palette_small_values.tif", "a palette of 8-bit values", lambda: _palette(factor=1), _S),
    _case("tiff_cmyk.tif", "CMYK", lambda: tiff(page(_inks(), CMYK)), Shown("S", tolerance=40)),
    _case("tiff_cmyk16.tif", "CMYK, 16 bits",
          lambda: tiff(page(scaled(_inks(), 16).astype(np.uint16), CMYK)), Shown("S", tolerance=40)),
    _case("tiff_cmyk_planar.tif", "CMYK, planar",
          lambda: tiff(page(_inks(), CMYK, planar=True)), Shown("S", tolerance=40)),
    _case("tiff_cmyk_alpha.tif", "CMYK with alpha",
          lambda: _with_alpha(2, _inks(), _OPAQUE, CMYK), Shown("S", tolerance=40)),
    _case("tiff_lab.tif", "L*a*b*", _lab, Shown("S", tolerance=14)),
    _case("tiff_ycc.tif", "YCbCr, not subsampled", _ycc, _S8),
    _case("tiff_ycc_420.tif", "YCbCr, subsampled", lambda: _ycc(True), _S8),
    _case("tiff_alpha.tif", "RGB with alpha: on white",
          lambda: _with_alpha(2, pixels("black star"), mask("black star")), _BW),
    _case("tiff_alpha_premultiplied.tif", "RGB with premultiplied alpha: on white",
          lambda: _with_alpha(1, np.where(mask("black star")[..., None] > 0, 18, 0).astype(np.uint8),
          mask("black star")),
          _BW),
    _case("tiff_alpha_unspecified.tif", "RGB with a fourth channel without meaning",
          lambda: _with_alpha(0, pixels(), np.zeros_like(_OPAQUE)), _S),
    _case("tiff_alpha_white.tif", "white on transparent: on a contrasting ground",
          lambda: _with_alpha(2, _WHITE4, mask()), _STAR),
    _case("tiff_alpha_16.tif", "RGB with alpha, 16 bits: on white",
          lambda: _with_alpha(2, scaled(pixels("black star"), 16).astype(np.uint16), scaled(mask("black star"),
          16).astype(np.uint16)),
          _BW),
    _case("tiff_grey_alpha.tif", "grey with alpha: on white",
          lambda: _with_alpha(2, grey("black star"), mask("black star"), MIN_IS_BLACK), _BW),
    _case("tiff_grey16_alpha.tif", "grey with alpha, 16 bits: on white",
          lambda: _with_alpha(2, scaled(grey("black star"), 16).astype(np.uint16), scaled(mask("black star"),
          16).astype(np.uint16), MIN_IS_BLACK),
          _BW),
    _case("tiff_rgb_nir.tif", "RGB and two more channels, 16 bits",
          lambda: _with_alpha(0, scaled(pixels(), 16).astype(np.uint16), np.zeros((HEIGHT, WIDTH, 2), np.uint16)),
          _S8),
    _case("tiff_rgb_nir_as_grey.tif", "five channels under a photometric of grey",
          lambda: _with_alpha(0, scaled(pixels(), 16).astype(np.uint16)[..., :1], scaled(pixels(),
          16).astype(np.uint16).repeat(2, axis=2)[..., 2:], MIN_IS_BLACK),
          Refused("unsupported_format", "5")),
    *(
        _case(f"tiff_orientation_{turn}.tif", f"orientation {turn}", partial(_turned, turn), _S)
        for turn in range(1, 9)
    ),
    _case("tiff_icc_swapped.tif", "a profile with red and blue exchanged", _swapped_profile, _S8),
    _case("tiff_icc_broken.tif", "a profile of random bytes",
          lambda: tiff(_rgb(more={34675: b"no profile" * 30})), _S),
    _case("tiff_thumbnail_first.tif", "a thumbnail as the first page",
          lambda: tiff(page(_small(), RGB, more={254: 1}), _rgb()), _S),
    _case("tiff_thumbnail_second.tif", "a thumbnail as the second page",
          lambda: tiff(_rgb(), page(_small(), RGB, more={254: 1})), _S),
    _case("tiff_thumbnail_old_tag.tif", "a thumbnail as the first page, told by the old tag",
          lambda: tiff(page(_small(), RGB, more={255: 2}), _rgb(more={255: 1})), _S),
    _case("tiff_multi_page.tif", "two pages: the first", _multi_page, _S),
    _case("tiff_multi_page_larger_second.tif", "a second, larger page: the first",
          lambda: tiff(_rgb(), page(pixels("G", size=(320, 240)), RGB)), _S),
    _case("tiff_mask_first.tif", "a mask as the first page",
          lambda: tiff(page(scaled(mask(), 1), MASK, depth=1, more={254: 4}), _rgb()), _S),
    _case("tiff_pyramid.tif", "a pyramid of sizes",
          lambda: tiff(_rgb(tile=(64, 64)), *(page(pixels("S", size=s), RGB, more={254: 1}) for s in ((80, 60),
          (40, 30)))),
          _S),
    _case("tiff_pyramid_in_subifds.tif", "a pyramid in subdirectories",
          lambda: _with_children(page(_small("S"), RGB, more={254: 1})), _S),
    _case("tiff_full_size_in_subifd.tif", "a thumbnail whose full picture is in a subdirectory",
          _thumbnail_with_full, _S),
    _case("tiff_pages_in_a_ring.tif", "pages in a ring", lambda: tiff(_rgb(), loop=True), _S),
    _case("tiff_many_pages.tif", "10,000 pages",
          lambda: tiff(_rgb(), *_tiny_pages(10_000)), Refused("image_too_complex", "directories")),
    _case("tiff_many_tiles.tif", "390,625 tiles", _many_tiles, Refused("image_too_complex", "tiles")),
    _case("tiff_xmp.tif", "100 KB of XMP", lambda: tiff(_rgb(more={700: b"<x:xmpmeta/>" * 9000})), _S),
    _case("tiff_unknown_tags.tif", "unknown tags",
          lambda: tiff(_rgb(more={60_000 + i: i for i in range(99)})), _S),
    _case("tiff_trailing_bytes.tif", "bytes behind the file", lambda: tiff(_rgb()) + bytes(999), _S),
    _case("tiff_missing_half.tif", "the second half is missing", lambda: _half(_directory_first()), _TRUNCATED),
    _case("tiff_directory_missing.tif", "the directory at the end is missing",
          lambda: tiff(_rgb())[:40_000], _TRUNCATED),
    _case("tiff_signature_only.tif", "four bytes", lambda: b"II*\x00", _TRUNCATED),
    _case("tiff_no_directory.tif", "a directory at zero", lambda: b"II*\x00" + bytes(60), _DAMAGED),
    _case("tiff_no_width.tif", "no width", lambda: _no_tag(256), _DAMAGED),
    _case("tiff_no_photometric.tif", "no photometric meaning: RGB by its three channels",
          lambda: _no_tag(262), _S),
    _case("tiff_no_strip_lengths.tif", "no lengths of strips", lambda: _no_tag(279), _S),
    _case("tiff_no_strips.tif", "no places of strips", lambda: _no_tag(273), _DAMAGED),
    _case("tiff_deflate_broken.tif", "pixels that are not compressed",
          lambda: tiff(_rgb(compression=8, pack=lambda data: data[:500])), _DAMAGED),
    _case("tiff_lzw_broken.tif", "LZW with impossible codes",
          lambda: tiff(_rgb(compression=5, pack=lambda _: b"\xff" * 200)), _DAMAGED),
    _case("tiff_zero_width.tif", "a width of zero", lambda: tiff(_rgb(more={256: 0})), _DAMAGED),
    _case("tiff_too_large.tif", "a header of 60,000 by 60,000 pixels",
          lambda: tiff(_rgb(more={256: 60_000, 257: 60_000})),
          Refused("image_too_large", "DROPLINE_IMAGES__MAX_PIXELS")),
    _case("tiff_text_ii.tif", "text that begins with II*",
          lambda: b"II*** the second world war " * 40, Refused("not_an_image", "text")),
)
# fmt: on

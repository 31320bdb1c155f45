"""TIFF files by their samples: depths, formats, photometric meanings, alpha."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.corpus.expected import Case, Refused, Shown
from tests.corpus.scenes import GREY, HEIGHT, WHITE, WIDTH, grey, indexed, mask, pixels, scene
from tests.corpus.writers import icc
from tests.corpus.writers.bits import scaled
from tests.corpus.writers.tiff import (
    CIELAB,
    CMYK,
    MIN_IS_BLACK,
    MIN_IS_WHITE,
    PALETTE,
    RGB,
    YCC,
    Page,
    deflate,
    differences,
    page,
    tiff,
)

_case = partial(Case, "TIFF")
_S, _G, _STAR = Shown("S"), Shown("G"), Shown("star", ground=None)
_S8, _G8, _BW = Shown("S", tolerance=8), Shown("G", tolerance=8), Shown("black star", ground=WHITE)
#: Where a viewer stretches the range of the samples, black and white move by a few steps.
_STRETCHED = Shown("G", tolerance=16)
Samples = npt.NDArray[np.generic]


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


def _words(bits: int, stated: int | None = None, photometric: int = MIN_IS_BLACK) -> bytes:
    """G in samples of `bits` bits, each stored in 16, with MaxSampleValue on request."""
    samples = 255 - grey() if photometric == MIN_IS_WHITE else grey()
    more = {} if stated is None else {281: stated}
    return tiff(page(scaled(samples, bits).astype("u2"), photometric, more=more))


def _rgb_words(bits: int, stated: int | None = None) -> bytes:
    more = {} if stated is None else {281: [stated] * 3}
    return tiff(page(scaled(pixels(), bits).astype("u2"), RGB, more=more))


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


def _float_predicted() -> bytes:
    """Predictor 3: bytes of a row by their significance, then differences."""
    rows = (grey().astype(np.float32) / 255).astype(">f4").tobytes()
    cube = np.frombuffer(rows, np.uint8).reshape(HEIGHT, WIDTH, 4).transpose(0, 2, 1).reshape(HEIGHT, WIDTH * 4)
    made = page(grey().astype(np.float32), MIN_IS_BLACK, compression=8, more={317: 3})
    made.parts = [deflate(differences(cube).tobytes())]
    return tiff(made)


def _fill_order() -> bytes:
    """The bits of each byte are reversed."""
    made = page(scaled(grey("black star", WHITE), 1), MIN_IS_BLACK, depth=1, more={266: 2})
    made.parts = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in part) for part in made.parts]
    return tiff(made)


def _with_nan() -> Page:
    samples = grey().astype(np.float32) / 255
    samples[0, :4] = (np.nan, np.inf, -np.inf, np.nan)
    return page(samples, MIN_IS_BLACK)


_WHITE4 = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
_OPAQUE = np.full((HEIGHT, WIDTH), 255, np.uint8)


def _by_depth(depth: int) -> Shown:
    """Up to 16 bits have the full range; viewers stretch wider samples."""
    if depth < 4:
        return _BW
    return _G8 if depth <= 16 else _STRETCHED


# fmt: off
CASES = (
    *(
        _case(f"tiff_grey{depth}.tif", f"grey, {depth} bits", partial(_depth, depth), _by_depth(depth))
        for depth in (1, 2, 4, 8, 10, 12, 14, 16, 32)
    ),
    *(
        _case(
            f"tiff_grey{depth}_white_is_zero.tif",
            f"grey, {depth} bits, zero is white",
            partial(_depth, depth, MIN_IS_WHITE),
            _by_depth(depth),
        )
        for depth in (1, 2, 4, 8, 12, 16, 32)
    ),
    _case("tiff_grey16_big_endian.tif", "grey, 16 bits, big-endian", lambda: _depth(16, order=">"), _G8),
    _case("tiff_grey16_white_big_endian.tif", "grey, 16 bits, zero is white, big-endian",
          lambda: _depth(16, MIN_IS_WHITE, ">"), _G8),
    _case("tiff_grey12_big_endian.tif", "grey, 12 bits, big-endian", lambda: _depth(12, order=">"), _G8),
    _case("tiff_grey12_in_16.tif", "grey, 12 bits in words of 16 bits", lambda: _words(12), _G8),
    _case("tiff_grey12_in_16_white.tif", "grey, 12 bits in words of 16 bits, zero is white",
          lambda: _words(12, photometric=MIN_IS_WHITE), _G8),
    _case("tiff_grey14_in_16_stated.tif", "grey, 14 bits in words of 16 bits, told by MaxSampleValue",
          lambda: _words(14, 16_383), _G8),
    _case("tiff_grey16_stated_too_low.tif", "grey, 16 bits, with a MaxSampleValue that samples exceed",
          lambda: _words(16, 255), _G8),
    _case("tiff_rgb12_in_16.tif", "RGB, 12 bits in words of 16 bits", lambda: _rgb_words(12), _S8),
    _case("tiff_rgb14_in_16_stated.tif", "RGB, 14 bits in words of 16 bits, told by MaxSampleValue",
          lambda: _rgb_words(14, 16_383), _S8),
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
    _case("tiff_rgb_float32_planar.tif", "RGB, 32-bit floats, planar",
          lambda: tiff(page(pixels().astype(np.float32) / 255, RGB, planar=True)), Shown("S", tolerance=16)),
    _case("tiff_rgb12.tif", "RGB, 12 bits", lambda: _rgb_depth(12), _S8),
    _case("tiff_rgb16.tif", "RGB, 16 bits", lambda: _rgb_depth(16), _S8),
    _case("tiff_rgb16_planar.tif", "RGB, 16 bits, planar", lambda: _rgb_depth(16, planar=True), _S8),
    _case("tiff_rgb32.tif", "RGB, 32 bits", lambda: _rgb_depth(32), Shown("S", tolerance=16)),
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
          lambda: _with_alpha(1, pixels("black star", (0, 0, 0)), mask("black star")),
          _BW),
    _case("tiff_alpha_planar.tif", "RGB with alpha, planar: on white",
          lambda: tiff(page(np.dstack([pixels("black star"), mask("black star")]), RGB, planar=True,
          more={338: [2]})), _BW),
    _case("tiff_alpha_tag_missing.tif", "RGB with a fourth channel and without the tag of its meaning",
          lambda: tiff(page(np.dstack([pixels(), _OPAQUE]), RGB)), _S),
    _case("tiff_alpha_white_is_zero.tif", "grey with alpha, zero is white: on white",
          lambda: _with_alpha(2, 255 - grey("black star"), mask("black star"), MIN_IS_WHITE), _BW),
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
)
# fmt: on

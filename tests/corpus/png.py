"""PNG files."""

import itertools
import struct
import zlib
from functools import partial

import numpy as np
import numpy.typing as npt

from tests.corpus.expected import Case, Refused, Shown
from tests.corpus.scenes import GREY, HEIGHT, WHITE, WIDTH, grey, indexed, mask, pixels, with_alpha
from tests.corpus.writers import exif, icc
from tests.corpus.writers.bits import scaled
from tests.corpus.writers.png import (
    END,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    SIGNATURE,
    chunk,
    compressed,
    header,
    palette,
    png,
)
from tests.corpus.writers.png import (
    GREY as GREY_TYPE,
)

_case = partial(Case, "PNG")
_DEPTHS = {GREY_TYPE: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
_NAMES = {GREY_TYPE: "grey", RGB: "RGB", PALETTE: "palette", GREY_ALPHA: "grey with alpha", RGBA: "RGB with alpha"}
_S, _G, _STAR = Shown("S"), Shown("G"), Shown("star", ground=None)
_TRUNCATED = Refused("truncated_image", "cut short")
_DAMAGED = Refused("corrupt_image", "damaged")
_BW = Shown("black star", ground=WHITE)


def _plain(*before: bytes, after: tuple[bytes, ...] = ()) -> bytes:
    return png(pixels(), before=before, after=after)


def _variant(colour: int, depth: int, interlaced: bool) -> tuple[bytes, Shown]:
    """A file of one colour type and depth, and the scene that the type can hold."""
    if colour == PALETTE:
        name, ground = ("black star", WHITE) if depth == 1 else ("S", GREY)
        indexes, colours = indexed(name, ground)
        return png(indexes, colour, depth, interlaced=interlaced, before=[palette(colours)]), Shown(
            name, ground=ground
        )
    name, ground = ("S", GREY) if colour in (RGB, RGBA) else ("G", GREY)
    if depth < 4 and colour == GREY_TYPE:
        name, ground = ("black star", WHITE)
    samples = pixels(name, ground) if colour in (RGB, RGBA) else grey(name, ground)[..., None]
    if colour in (GREY_ALPHA, RGBA):
        samples = np.concatenate([samples, np.full((HEIGHT, WIDTH, 1), 255, np.uint8)], axis=2)
    return png(scaled(samples, depth), colour, depth, interlaced=interlaced), Shown(
        name, ground=ground, tolerance=8
    )


def _variant_file(colour: int, depth: int, interlaced: bool) -> bytes:
    return _variant(colour, depth, interlaced)[0]


def _variants() -> list[Case]:
    return [
        _case(
            f"png_type{colour}_{depth}bit{'_interlaced' * interlaced}.png",
            f"{_NAMES[colour]}, {depth} bits{', interlaced' * interlaced}",
            partial(_variant_file, colour, depth, interlaced),
            _variant(colour, depth, interlaced)[1],
        )
        for colour, depths in _DEPTHS.items()
        for depth, interlaced in itertools.product(depths, (False, True))
    ]


def _trns_grey(depth: int) -> bytes:
    """The ground has the transparent grey; the items are white."""
    samples = scaled(np.where(mask() > 0, 248, 90).astype(np.uint8), depth)
    hidden = int(samples[0, 0])
    return png(samples, GREY_TYPE, depth, before=[chunk(b"tRNS", struct.pack(">H", hidden))])


def _trns_rgb(depth: int) -> bytes:
    """A blue star with the transparent colour on white; visible is a white star on the hidden colour's place."""
    hidden = (0x1234, 0x5678, 0x9ABC) if depth == 16 else (0x12, 0x56, 0x9A)
    white = 0xFFFF if depth == 16 else 0xFF
    samples = np.full((HEIGHT, WIDTH, 3), hidden, np.uint16)
    samples[mask() > 0] = white
    return png(samples, RGB, depth, before=[chunk(b"tRNS", struct.pack(">HHH", *hidden))])


def _trns_near_rgb16() -> bytes:
    """Colours near the transparent colour, with an equal high byte and another low byte, are opaque."""
    samples = scaled(pixels(), 16).astype(np.uint16)
    near = struct.pack(">HHH", *(int(value) ^ 1 for value in samples[0, 0]))
    return png(samples, RGB, 16, before=[chunk(b"tRNS", near)])


def _trns_palette() -> bytes:
    indexes, colours = indexed("black star", (200, 30, 30))
    return png(indexes, PALETTE, before=[palette(colours), chunk(b"tRNS", b"\x00")])


def _alpha(name: str = "star", hidden: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    return png(np.asarray(with_alpha(name, hidden)), RGBA)


def _translucent() -> bytes:
    """Half transparent black on white is middle grey."""
    samples = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    samples[..., 3] = np.where(mask("black star") > 0, 237, 105)
    return png(samples, RGBA)


def _gamma(samples: npt.NDArray[np.uint8], gamma: float) -> bytes:
    """Linear light, or another exponent, told by gAMA."""
    light = (samples / 255) ** 2.2
    stored = np.rint(255 * light**gamma).astype(np.uint8)
    return png(stored, before=[chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))])


def _iccp(profile: bytes, name: bytes = b"icc") -> bytes:
    return chunk(b"iCCP", name + b"\x00\x00" + zlib.compress(profile, 9))


def _linear(samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.rint(255 * (samples / 255) ** 2.2).astype(np.uint8)


def _frame_control(number: int) -> bytes:
    return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0))


def _apng(default_is_a_frame: bool) -> bytes:
    """The default picture is S as a frame of the animation, or G before an animation with S as the first frame."""
    control = chunk(b"acTL", struct.pack(">II", 1 + default_is_a_frame, 0))
    later = compressed(pixels("G") if default_is_a_frame else pixels())
    if default_is_a_frame:
        frames = [_frame_control(1), chunk(b"fdAT", struct.pack(">I", 2) + later)]
        return png(pixels(), before=[control, _frame_control(0)], after=frames)
    frames = [_frame_control(0), chunk(b"fdAT", struct.pack(">I", 1) + later)]
    return png(pixels("G"), before=[control], after=frames)


def _iphone() -> bytes:
    """Apple's variant: a first chunk CgBI, blue before red, deflate without a header."""
    packer = zlib.compressobj(wbits=-15)
    bgra = np.concatenate([pixels()[..., ::-1], np.full((HEIGHT, WIDTH, 1), 255, np.uint8)], axis=2)
    body = packer.compress(b"".join(b"\x00" + row.tobytes() for row in bgra)) + packer.flush()
    first = chunk(b"CgBI", b"\x50\x00\x20\x02") + header(WIDTH, HEIGHT, 8, RGBA)
    return SIGNATURE + first + chunk(b"IDAT", body) + END


def _idat(body: bytes, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    return SIGNATURE + header(*size) + chunk(b"IDAT", body) + END


def _split_idat() -> bytes:
    body = compressed(pixels())
    parts = [chunk(b"IDAT", body[at : at + 50]) for at in range(0, len(body), 50)]
    return SIGNATURE + header(WIDTH, HEIGHT) + b"".join(parts) + END


def _wrong_checksum(name: bytes) -> bytes:
    data = bytearray(_plain(chunk(b"tEXt", b"Comment\0hello")))
    at = data.index(name)
    end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
    data[end] ^= 0xFF
    return bytes(data)


def _flipped() -> bytes:
    """The compressed pixels have wrong bytes, with a right checksum of the chunk."""
    body = bytearray(compressed(pixels()))
    for at in range(len(body) // 2, len(body) // 2 + 8):
        body[at] ^= 0xA5
    return _idat(bytes(body))


def _big_text(kind: bytes, megabytes: int) -> bytes:
    packed = zlib.compress(b"a" * (megabytes * 2**20), 1)
    keyword = b"Comment\0\0" if kind == b"zTXt" else b"Comment\0\1\0\0\0"
    return _plain(chunk(kind, keyword + packed))


_INDEXES, _COLOURS = indexed()
# fmt: off
CASES = (
    *_variants(),
    *(
        _case(
            f"png_trns_grey_{depth}bit.png",
            f"one transparent grey, {depth} bits",
            partial(_trns_grey, depth),
            _STAR,
        )
        for depth in (2, 4, 8, 16)
    ),
    _case("png_trns_rgb_8bit.png", "one transparent colour, 8 bits", lambda: _trns_rgb(8), _STAR),
    _case("png_trns_rgb_16bit.png", "one transparent colour, 16 bits", lambda: _trns_rgb(16), _STAR),
    _case("png_trns_rgb_16bit_near.png", "a transparent colour that differs in the low bits only",
          _trns_near_rgb16, _S),
    _case("png_trns_palette.png", "a palette with a transparent colour", _trns_palette, _BW),
    _case("png_trns_short_palette.png", "a palette of four with one entry of transparency",
          lambda: png(_INDEXES, PALETTE, before=[palette(_COLOURS), chunk(b"tRNS", b"\xff")]), _S),
    _case("png_black_on_transparent.png", "black on transparent: on white", lambda: _alpha("black star"), _BW),
    _case("png_white_on_transparent.png", "white on transparent: on a contrasting ground", _alpha, _STAR),
    _case("png_white_on_transparent_white.png", "white on transparent white", lambda: _alpha(hidden=WHITE), _STAR),
    _case("png_white_on_transparent_grey_alpha.png", "white on transparent, grey with alpha",
          lambda: png(np.stack([np.full_like(mask(), 255), mask()], axis=2), GREY_ALPHA), _STAR),
    _case("png_white_on_transparent_palette.png", "white on transparent, palette",
          lambda: png(indexed("star")[0], PALETTE, before=[palette([WHITE, WHITE]), chunk(b"tRNS", b"\0\xff")]),
          _STAR),
    _case("png_colours_on_transparent.png", "colours on transparent: on white",
          lambda: _alpha("S without its square"), Shown("S without its square", ground=WHITE, tolerance=8)),
    _case("png_translucent.png", "half transparent", _translucent, Shown("black star", ground=GREY)),
    _case("png_fully_transparent.png", "nothing but transparent pixels: white",
          lambda: png(np.zeros((HEIGHT, WIDTH, 4), np.uint8), RGBA), Shown("nothing", ground=WHITE)),
    _case("png_gama_linear.png", "gAMA of linear light", lambda: _gamma(pixels(), 1.0), Shown("S", tolerance=8)),
    _case("png_gama_srgb.png", "gAMA of 1/2.2", lambda: _gamma(pixels(), 1 / 2.2), _S),
    _case("png_gama_zero.png", "gAMA of zero, which is none", lambda: _plain(chunk(b"gAMA", bytes(4))), _S),
    _case("png_srgb_over_gama.png", "sRGB and a gAMA that contradicts it",
          lambda: _plain(chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 100_000))), _S),
    _case("png_iccp_linear.png", "a profile of linear light",
          lambda: png(_linear(pixels()), before=[_iccp(icc.rgb(gamma=1.0))]), Shown("S", tolerance=8)),
    _case("png_iccp_swapped.png", "a profile with red and blue exchanged",
          lambda: png(pixels()[..., ::-1], before=[_iccp(icc.rgb(icc.SRGB[::-1]))]), Shown("S", tolerance=8)),
    _case("png_iccp_swapped_palette.png", "a palette with a profile with red and blue exchanged",
          lambda: png(_INDEXES, PALETTE, before=[_iccp(icc.rgb(icc.SRGB[::-1])),
          palette([c[::-1] for c in _COLOURS])]),
          Shown("S", tolerance=8)),
    _case("png_iccp_grey_linear.png", "grey with a profile of linear light",
          lambda: png(_linear(grey()), GREY_TYPE, before=[_iccp(icc.grey(1.0))]), Shown("G", tolerance=8)),
    _case("png_iccp_broken.png", "a profile of random bytes", lambda: _plain(_iccp(b"no profile" * 40)), _S),
    _case("png_iccp_not_compressed.png", "a profile that is not compressed",
          lambda: _plain(chunk(b"iCCP", b"icc\0\0abc")), _S),
    _case("png_iccp_1_5mb.png", "a profile of 1.5 MB",
          lambda: _plain(_iccp(icc.rgb().ljust(1_500_000, b"\0"))), _S),
    _case("png_exif_orientation.png", "EXIF orientation before the pixels",
          lambda: png(np.rot90(pixels()), before=[chunk(b"eXIf", exif.block(6))]), _S),
    _case("png_exif_behind.png", "EXIF orientation behind the pixels",
          lambda: png(pixels()[::-1, ::-1], after=[chunk(b"eXIf", exif.block(3))]), _S),
    _case("png_exif_broken.png", "EXIF of random bytes", lambda: _plain(chunk(b"eXIf", bytes(range(99)))), _S),
    _case("png_apng_default_in.png", "animated, the default picture is the first frame", lambda: _apng(True), _S),
    _case("png_apng_default_out.png", "animated, the default picture is no frame", lambda: _apng(False), _S),
    _case("png_bad_crc_text.png", "a wrong checksum of text", lambda: _wrong_checksum(b"tEXt"), _S),
    _case("png_bad_crc_end.png", "a wrong checksum of the end", lambda: _plain()[:-1] + b"x", _S),
    _case("png_bad_crc_pixels.png", "a wrong checksum of pixels that are whole",
          lambda: _wrong_checksum(b"IDAT"), _S),
    _case("png_flipped_bits.png", "flipped bits in the pixels", _flipped, _DAMAGED),
    _case("png_bad_crc_header.png", "a wrong checksum of the header", lambda: _wrong_checksum(b"IHDR"), _DAMAGED),
    _case("png_unknown_ancillary.png", "an unknown chunk that may be skipped",
          lambda: _plain(chunk(b"abCd", b"x")), _S),
    _case("png_unknown_critical.png", "an unknown chunk that may not be skipped",
          lambda: _plain(chunk(b"ABCD", b"x")), Refused("unsupported_format", "ABCD")),
    _case("png_split_idat.png", "pixels in many chunks", _split_idat, _S),
    _case("png_empty_idat.png", "an empty chunk of pixels", lambda: _plain(chunk(b"IDAT", b"")), _S),
    _case("png_no_end.png", "all pixels, without the end chunk", lambda: _plain()[:-12], _S),
    _case("png_trailing_bytes.png", "bytes behind the end chunk", lambda: _plain() + bytes(4000), _S),
    _case("png_missing_half.png", "the second half is missing",
          lambda: _plain()[: len(_plain()) // 2], _TRUNCATED),
    _case("png_idat_short.png", "a chunk of pixels that ends early",
          lambda: _idat(zlib.compress(b"\0" * (WIDTH * 3 + 1) * 40)), _DAMAGED),
    _case("png_idat_no_adler.png", "pixels without their own checksum",
          lambda: _idat(compressed(pixels())[:-4]), _S),
    _case("png_idat_not_zlib.png", "pixels that are not compressed", lambda: _idat(b"no zlib" * 40), _DAMAGED),
    _case("png_idat_longer.png", "more pixels than the header tells",
          lambda: _idat(compressed(np.concatenate([pixels(), pixels()]))), _S),
    _case("png_header_only.png", "a header without pixels",
          lambda: SIGNATURE + header(WIDTH, HEIGHT) + END, _DAMAGED),
    _case("png_signature_only.png", "eight bytes", lambda: SIGNATURE, _TRUNCATED),
    _case("png_zero_size.png", "a width of zero", lambda: _idat(zlib.compress(b""), (0, 10)), _DAMAGED),
    _case("png_bad_colour_type.png", "colour type 5", lambda: SIGNATURE + header(8, 8, 8, 5) + END, _DAMAGED),
    _case("png_bad_depth.png", "3 bits per sample", lambda: SIGNATURE + header(8, 8, 3, 0) + END, _DAMAGED),
    _case("png_missing_palette.png", "a palette that is missing", lambda: png(_INDEXES, PALETTE), _DAMAGED),
    _case("png_palette_short.png", "pixels beyond the palette: black, as in browsers",
          lambda: png(np.where(mask() > 0, 1, 7).astype(np.uint8), PALETTE, before=[palette([(90, 90, 90),
          WHITE])]),
          Shown("star", ground=(0, 0, 0))),
    _case("png_crlf_mangled.png", "CR LF turned into LF by a transfer",
          lambda: _plain().replace(b"\r\n", b"\n"), Refused("corrupt_image", "text-mode transfer")),
    _case("png_lf_mangled.png", "LF turned into CR LF by a transfer",
          lambda: _plain().replace(b"\n", b"\r\n"), Refused("corrupt_image", "text-mode transfer")),
    _case("png_high_bit_lost.png", "the high bit lost by a transfer",
          lambda: bytes(b & 127 for b in _plain()), Refused("corrupt_image", "transfer")),
    _case("png_text_3mb.png", "compressed text of 3 MB", lambda: _big_text(b"zTXt", 3), _S),
    _case("png_text_40mb.png", "compressed text of 40 MB", lambda: _big_text(b"zTXt", 40), _S),
    _case("png_itxt_40mb.png", "compressed international text of 40 MB", lambda: _big_text(b"iTXt", 40), _S),
    _case("png_many_texts.png", "20,000 texts", lambda: _plain(*[chunk(b"tEXt", b"k\0v")] * 20_000), _S),
    _case("png_too_large.png", "a header of 60,000 by 60,000 pixels",
          lambda: _idat(b"", (60_000, 60_000)), Refused("image_too_large", "DROPLINE_IMAGES__MAX_PIXELS")),
    _case("png_iphone.png", "Apple's own variant (CgBI)", _iphone, Refused("unsupported_format", "CgBI")),
    _case("png_mng.mng", "MNG", lambda: b"\x8aMNG\r\n\x1a\n" + bytes(60), Refused("unsupported_format", "MNG")),
    _case("png_jng.jng", "JNG", lambda: b"\x8bJNG\r\n\x1a\n" + bytes(60), Refused("unsupported_format", "JNG")),
)
# fmt: on

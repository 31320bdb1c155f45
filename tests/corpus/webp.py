"""WebP files."""

import io
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from tests.corpus.expected import Case, Refused, Shown
from tests.corpus.jpeg import stored
from tests.corpus.scenes import WHITE, scene, with_alpha
from tests.corpus.writers import exif, icc
from tests.support.image_files import encode

_case = partial(Case, "WebP")
_S, _BW, _STAR = Shown("S", tolerance=8), Shown("black star", ground=WHITE), Shown("star", ground=None)
_TRUNCATED = Refused("truncated_image", "cut short")
_DAMAGED = Refused("corrupt_image", "damaged")


def webp(image: Image.Image | None = None, **options: Any) -> bytes:
    """A scene as WebP."""
    return encode(image or scene("S"), "WEBP", **({"quality": 92} | options))


def chunk(name: bytes, body: bytes) -> bytes:
    """One chunk, padded to an even length."""
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    """A whole file of chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _animated(*images: Image.Image) -> bytes:
    buffer = io.BytesIO()
    images[0].save(buffer, "WEBP", save_all=True, append_images=images[1:], duration=100, quality=92)
    return buffer.getvalue()


def _partial_first_frame() -> bytes:
    """A frame of 120 by 100 at (20, 10) of the canvas."""
    part = scene("black star", WHITE).crop((20, 10, 140, 110))
    frame = webp(part, lossless=True)[12:]
    place = b"".join(value.to_bytes(3, "little") for value in (10, 5, 119, 99, 100))
    canvas = bytes([0x12, 0, 0, 0]) + (159).to_bytes(3, "little") + (119).to_bytes(3, "little")
    return riff(chunk(b"VP8X", canvas), chunk(b"ANIM", bytes(6)), chunk(b"ANMF", place + b"\x02" + frame))


def _turned(turn: int) -> bytes:
    return webp(stored(scene("S"), turn), exif=exif.block(turn))


def _swapped() -> bytes:
    red, green, blue = scene("S").split()
    return webp(Image.merge("RGB", (blue, green, red)), icc_profile=icc.rgb(icc.SRGB[::-1]))


def _linear() -> Image.Image:
    return scene("S").point([round(255 * (value / 255) ** 2.2) for value in range(256)] * 3)


def _xmp_orientation() -> bytes:
    return webp(xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>')


def _all_transparent() -> Image.Image:
    return Image.fromarray(np.zeros((120, 160, 4), np.uint8))


def _half(make: Callable[[], bytes]) -> bytes:
    return make()[: len(make()) // 2]


# fmt: off
CASES = (
    _case("webp_lossy.webp", "lossy", webp, _S),
    _case("webp_lossless.webp", "lossless", lambda: webp(lossless=True), _S),
    _case("webp_lossy_alpha.webp", "lossy, black on transparent: on white",
          lambda: webp(with_alpha("black star")), _BW),
    _case("webp_lossless_alpha.webp", "lossless, black on transparent: on white",
          lambda: webp(with_alpha("black star"), lossless=True), _BW),
    _case("webp_white_on_transparent.webp", "white on transparent: on a contrasting ground",
          lambda: webp(with_alpha(), lossless=True), _STAR),
    _case("webp_all_transparent.webp", "nothing but transparent pixels: white",
          lambda: webp(_all_transparent(), lossless=True), Shown("nothing", ground=WHITE)),
    _case("webp_animated.webp", "animated: the first frame", lambda: _animated(scene("S"), scene("G")), _S),
    _case("webp_partial_first_frame.webp", "animated, a first frame inside the canvas", _partial_first_frame, _BW),
    _case("webp_many_frames.webp", "animated, 200 frames: the first",
          lambda: _animated(scene("S"), *(scene("S", (150, 150, i)) for i in range(200))), _S),
    *(
        _case(f"webp_orientation_{turn}.webp", f"EXIF orientation {turn}", partial(_turned, turn), _S)
        for turn in (3, 6, 8)
    ),
    _case("webp_orientation_xmp.webp", "an orientation in XMP alone, which browsers ignore", _xmp_orientation, _S),
    _case("webp_exif_broken.webp", "EXIF of random bytes", lambda: webp(exif=bytes(range(200))), _S),
    _case("webp_icc_swapped.webp", "a profile with red and blue exchanged", _swapped, Shown("S", tolerance=10)),
    _case("webp_icc_linear.webp", "a profile of linear light",
          lambda: webp(_linear(), lossless=True, icc_profile=icc.rgb(gamma=1.0)), _S),
    _case("webp_icc_broken.webp", "a profile of random bytes", lambda: webp(icc_profile=b"no profile" * 40), _S),
    _case("webp_trailing_bytes.webp", "bytes behind the file", lambda: webp() + bytes(999), _S),
    _case("webp_unknown_chunk.webp", "an unknown chunk",
          lambda: riff(webp(exif=exif.block(1))[12:], chunk(b"abcd", b"x")), _S),
    _case("webp_missing_half.webp", "the second half is missing", lambda: _half(webp), _TRUNCATED),
    _case("webp_lossless_missing_half.webp", "lossless, the second half is missing",
          lambda: _half(lambda: webp(lossless=True)), _TRUNCATED),
    _case("webp_header_only.webp", "twelve bytes", lambda: webp()[:12], _TRUNCATED),
    _case("webp_bad_frame.webp", "a frame without its signature",
          lambda: webp().replace(b"\x9d\x01\x2a", b"xxx"), _DAMAGED),
    _case("webp_empty.webp", "a file without a picture", riff, _DAMAGED),
    _case("webp_too_large.webp", "a frame of 16,383 by 16,383 pixels",
          lambda: riff(chunk(b"VP8L", b"\x2f" + struct.pack("<I", 16382 | 16382 << 14) + bytes(40))),
          Refused("image_too_large", "DROPLINE_IMAGES__MAX_PIXELS")),
)
# fmt: on

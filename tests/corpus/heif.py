"""HEIF and AVIF files."""

import io
from functools import partial
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from tests.corpus.expected import Case, Refused, Shown
from tests.corpus.jpeg import jpeg, stored
from tests.corpus.scenes import SIZE, WHITE, pixels, scene, with_alpha
from tests.corpus.writers import exif, icc
from tests.corpus.writers.bits import scaled
from tests.corpus.writers.boxes import box, file_type, full_box
from tests.corpus.writers.heif import grid, single
from tests.support.image_files import encode

_heif, _avif = partial(Case, "HEIF"), partial(Case, "AVIF")
_S, _BW, _STAR = (
    Shown("S", tolerance=8),
    Shown("black star", ground=WHITE, tolerance=8),
    Shown("star", ground=None),
)
_TRUNCATED = Refused("truncated_image", "cut short")
_DAMAGED = Refused("corrupt_image", "damaged")


def heif(image: Image.Image | None = None, **options: Any) -> bytes:
    """A scene as HEIC."""
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image or scene("S")).save(buffer, **({"quality": 90} | options))
    return buffer.getvalue()


def avif(image: Image.Image | None = None, **options: Any) -> bytes:
    """A scene as AVIF."""
    return encode(image or scene("S"), "AVIF", **({"quality": 90, "speed": 10} | options))


def _turned(turn: int) -> bytes:
    return heif(stored(scene("S"), turn), exif=exif.block(turn))


def _avif_turned(turn: int) -> bytes:
    return avif(stored(scene("S"), turn), exif=exif.block(turn))


def _exif_only() -> bytes:
    """EXIF tells a quarter turn; the file's own turn is none, and decides."""
    return heif(exif=exif.block(6)).replace(b"irot\x03", b"irot\x00")


def _ten_bits() -> bytes:
    buffer = io.BytesIO()
    wide = scaled(pixels(), 16).astype(np.uint16).tobytes()
    pillow_heif.encode("RGB;16", SIZE, wide, buffer, quality=90)
    return buffer.getvalue()


def _two_pictures() -> bytes:
    """The second picture is the primary one."""
    file = pillow_heif.from_pillow(scene("G"))
    file.add_from_pillow(scene("S"))
    buffer = io.BytesIO()
    file.save(buffer, quality=90, primary_index=1)
    return buffer.getvalue()


def _with_thumbnail() -> bytes:
    file = pillow_heif.from_pillow(scene("S"))
    sides: Any = [64]
    file[0].info["thumbnails"] = sides
    buffer = io.BytesIO()
    file.save(buffer, quality=90)
    return buffer.getvalue()


def _swapped_bands() -> Image.Image:
    red, green, blue = scene("S").split()
    return Image.merge("RGB", (blue, green, red))


def _other_codec(kind: bytes) -> bytes:
    """The codec of the picture is not HEVC."""
    return heif().replace(b"hvc1", kind).replace(b"hvcC", b"xxxC")


def _animated() -> bytes:
    buffer = io.BytesIO()
    scene("S").save(buffer, "AVIF", save_all=True, append_images=[scene("G")], quality=90, speed=10)
    return _without_times(buffer.getvalue())


def _without_times(data: bytes) -> bytes:
    """Zeros in place of the times of creation and change, so that each run gives the same bytes."""
    out = bytearray(data)
    for name in (b"mvhd", b"tkhd", b"mdhd"):
        at = data.index(name) + 8
        out[at : at + 16] = bytes(16)
    return bytes(out)


def _small_tile() -> bytes:
    return heif(scene("G", size=(64, 64)))


def _grid_reference() -> Image.Image:
    whole = Image.new("RGB", (320, 256))
    for place in ((0, 0), (160, 0), (0, 128), (160, 128)):
        whole.paste(scene("G", size=(160, 128)), place)
    return whole


# fmt: off
HEIF_CASES = (
    _heif("heif.heic", "HEVC", heif, _S),
    _heif("heif_named.jpg", "HEVC under the name of a JPEG", heif, _S),
    _heif("heif_grey.heic", "grey", lambda: heif(scene("G").convert("L")), Shown("G", tolerance=8)),
    _heif("heif_10bit.heic", "10 bits", _ten_bits, Shown("S", tolerance=10)),
    _heif("heif_alpha.heic", "alpha: on white", lambda: heif(with_alpha("black star")), _BW),
    _heif("heif_white_on_transparent.heic", "white on transparent: on a contrasting ground",
          lambda: heif(with_alpha()), _STAR),
    *(
        _heif(
            f"heif_irot_{turn}.heic", f"turned or mirrored as EXIF orientation {turn}", partial(_turned, turn), _S
        )
        for turn in range(2, 9)
    ),
    _heif("heif_exif_turn_only.heic", "an orientation in EXIF alone, which HEIF ignores", _exif_only, _S),
    _heif("heif_two_pictures.heic", "two pictures: the primary one", _two_pictures, _S),
    _heif("heif_thumbnail.heic", "a thumbnail beside the picture", _with_thumbnail, _S),
    _heif("heif_grid.heic", "a grid of tiles",
          lambda: grid(heif(scene("G", size=(160, 128))), (160, 128), 2, 2),
          Shown("nothing", size=(320, 256), reference=_grid_reference)),
    _heif("heif_grid_10000.heic", "a grid that shows one tile 10,000 times",
          lambda: grid(_small_tile(), (64, 64), 100, 100), Refused("image_too_complex", "tiles")),
    _heif("heif_grid_65025.heic", "a grid of 16,320 by 16,320 pixels",
          lambda: grid(_small_tile(), (64, 64), 255, 255),
          Refused("image_too_large", "DROPLINE_IMAGES__MAX_PIXELS")),
    _heif("heif_icc_swapped.heic", "a profile with red and blue exchanged",
          lambda: heif(_swapped_bands(), icc_profile=icc.rgb(icc.SRGB[::-1])), Shown("S", tolerance=12)),
    _heif("heif_trailing_bytes.heic", "bytes behind the file", lambda: heif() + bytes(99), _S),
    _heif("heif_missing_half.heic", "the second half is missing", lambda: heif()[:-1100], _TRUNCATED),
    _heif("heif_no_media.heic", "the media box is missing", lambda: heif()[:300], _TRUNCATED),
    _heif("heif_bad_meta.heic", "a meta box without content",
          lambda: file_type(b"heic") + full_box(b"meta") + box(b"mdat", bytes(99)), _DAMAGED),
    _heif("heif_jpeg.heif", "the codec JPEG", lambda: single(b"jpeg", jpeg(), SIZE),
          Refused("unsupported_format", "JPEG")),
    _heif("heif_av1.heif", "the codec AV1 under a brand of HEIF", lambda: avif().replace(b"avif", b"mif1"),
          Refused("unsupported_format", "AV1")),
    _heif("heif_vvc.heic", "the codec VVC", lambda: _other_codec(b"vvc1"), Refused("unsupported_format", "VVC")),
    _heif("heif_h264.heic", "the codec H.264",
          lambda: _other_codec(b"avc1"), Refused("unsupported_format", "AVC")),
)
# fmt: on
# fmt: off
AVIF_CASES = (
    _avif("avif.avif", "AV1", avif, _S),
    _avif("avif_lossless_444.avif", "4:4:4", lambda: avif(subsampling="4:4:4", quality=100), _S),
    _avif("avif_grey.avif", "grey",
          lambda: avif(scene("G").convert("L"), subsampling="4:0:0"), Shown("G", tolerance=8)),
    _avif("avif_alpha.avif", "alpha: on white", lambda: avif(with_alpha("black star")), _BW),
    _avif("avif_white_on_transparent.avif", "white on transparent: on a contrasting ground",
          lambda: avif(with_alpha()), _STAR),
    _avif("avif_animated.avif", "a sequence: the first frame", _animated, _S),
    *(
        _avif(
            f"avif_turned_{turn}.avif",
            f"turned or mirrored as EXIF orientation {turn}",
            partial(_avif_turned, turn),
            _S,
        )
        for turn in (2, 3, 5, 6, 8)
    ),
    _avif("avif_icc_swapped.avif", "a profile with red and blue exchanged",
          lambda: avif(_swapped_bands(), icc_profile=icc.rgb(icc.SRGB[::-1])), Shown("S", tolerance=12)),
    _avif("avif_missing_half.avif", "the second half is missing", lambda: avif()[:-400], _TRUNCATED),
    _avif("avif_bad_meta.avif", "a meta box without content",
          lambda: file_type(b"avif") + full_box(b"meta") + box(b"mdat", bytes(99)), _DAMAGED),
    _avif("avif_renamed_meta.avif", "without a meta box", lambda: avif().replace(b"meta", b"atem"), _DAMAGED),
)
# fmt: on
CASES = HEIF_CASES + AVIF_CASES

"""TIFF files."""

import io
import lzma
import struct
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.corpus.expected import Case, Refused, Shown
from tests.corpus.jpeg import jpeg, stored
from tests.corpus.scenes import GREY, WHITE, grey, mask, pixels, scene
from tests.corpus.webp import webp
from tests.corpus.writers import icc
from tests.corpus.writers.bits import scaled
from tests.corpus.writers.jpeg import lossless, without
from tests.corpus.writers.tiff import (
    MASK,
    MIN_IS_BLACK,
    RGB,
    YCC,
    Page,
    deflate,
    differences,
    lzw,
    packbits,
    page,
    tiff,
    zstandard,
)
from tests.support.image_files import encode

_case = partial(Case, "TIFF")
_S, _G, _STAR = Shown("S"), Shown("G"), Shown("star", ground=None)
_S8, _G8, _BW = Shown("S", tolerance=8), Shown("G", tolerance=8), Shown("black star", ground=WHITE)
_TRUNCATED = Refused("truncated_image", "cut short")
_DAMAGED = Refused("corrupt_image", "damaged")
Samples = npt.NDArray[np.generic]


def _rgb(**options: Any) -> Page:
    return page(pixels(), RGB, **options)


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


def _turned(turn: int) -> bytes:
    return tiff(page(np.asarray(stored(scene("S"), turn)), RGB, more={274: turn}))


def _small(name: str = "G") -> npt.NDArray[np.uint8]:
    return pixels(name, size=(40, 30))


def _with_children(*children: Page, tags: dict[int, Any] | None = None) -> bytes:
    made = _rgb(more=tags)
    made.children = list(children)
    return tiff(made)


def _no_tag(tag: int) -> bytes:
    """Without a tag; the tags of the strip's place and length are renamed, since the writer adds both."""
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


def _multi_page() -> bytes:
    buffer = io.BytesIO()
    scene("S").save(buffer, "TIFF", save_all=True, append_images=[scene("G")])
    return buffer.getvalue()


def _swapped_profile() -> bytes:
    return tiff(page(pixels()[..., ::-1], RGB, more={34675: icc.rgb(icc.SRGB[::-1])}))


def _half() -> bytes:
    """Pillow writes the directory before the pixels, so that pixels are cut."""
    data = encode(scene("S"), "TIFF")
    return data[: len(data) // 2]


def _jpeg_tiles() -> bytes:
    """Tiles of JPEG without tables; the tables are in a tag, as scanners of slides write."""
    made = page(pixels(), YCC, compression=7, tile=(80, 64), more={530: [2, 2]})
    whole = Image.new("RGB", (160, 128), GREY)
    whole.paste(scene("S"))
    corners = [(x, y) for y in (0, 64) for x in (0, 80)]
    made.parts = [jpeg(whole.crop((x, y, x + 80, y + 64))) for x, y in corners]
    tables = made.parts[0]
    for marker in (0xE0, 0xC0):
        tables = without(tables, marker)
    made.tags[347] = tables[: tables.index(b"\xff\xda")] + b"\xff\xd9"
    made.parts = [without(without(part, 0xDB), 0xC4) for part in made.parts]
    return tiff(made)


def _subdirectory_ring() -> bytes:
    """The tag of subdirectories names the directory itself."""
    made = _rgb(more={330: 0})
    data = bytearray(tiff(made))
    directory = int.from_bytes(data[4:8], "little")
    at = data.index(struct.pack("<HHI", 330, 4, 1), directory)
    data[at + 8 : at + 12] = struct.pack("<I", directory)
    return bytes(data)


def _tiny_pages(count: int) -> list[Page]:
    return [Page([], {254: 0, 256: 1, 257: 1})] * count


def _thumbnail_with_full() -> bytes:
    first = page(_small(), RGB, more={254: 1})
    first.children = [_rgb()]
    return tiff(first)


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
          lambda: tiff(page(differences(pixels()), RGB, compression=8, pack=deflate, more={317: 2})), _S),
    _case("tiff_rgb16_deflate_predictor.tif", "16 bits, Deflate with differences",
          lambda: tiff(page(differences(scaled(pixels(), 16).astype(np.uint16)), RGB, compression=8,
          pack=deflate, more={317: 2})),
          _S),
    _case("tiff_rgb_lzma.tif", "LZMA", lambda: tiff(_rgb(compression=34925, pack=lzma.compress)), _S),
    _case("tiff_jpeg.tif", "JPEG inside, YCbCr", _jpeg_strip, _S),
    _case("tiff_jpeg_tiles.tif", "JPEG inside, in tiles with shared tables", _jpeg_tiles, _S8),
    _case("tiff_jpeg_rgb.tif", "JPEG inside, RGB", lambda: _jpeg_strip(RGB, keep_rgb=True), _S),
    _case("tiff_jpeg_old.tif", "old-style JPEG inside", _old_jpeg, _S),
    _case("tiff_webp.tif", "WebP inside", lambda: _payload(50001, webp(lossless=True)), _S),
    _case("tiff_jpeg2000.tif", "JPEG 2000 inside",
          lambda: _payload(34712, encode(scene("S"), "JPEG2000", no_jp2=True)), _S),
    _case("tiff_lossless_jpeg.tif", "lossless JPEG inside",
          lambda: _payload(7, lossless(grey()), MIN_IS_BLACK, grey()), _G),
    _case("tiff_zstd.tif", "Zstandard inside", lambda: tiff(_rgb(compression=50000, pack=zstandard)), _S),
    _case("tiff_jpegxl.tif", "JPEG XL inside", lambda: _payload(52546, b"\xff\x0a" + bytes(60)),
          Refused("unsupported_format", "JPEG XL")),
    _case("tiff_logluv.tif", "LogLuv", lambda: tiff(page(pixels(), 32845, compression=34676)),
          Refused("unsupported_format", "")),
    _case("tiff_jbig.tif", "JBIG inside",
          lambda: _payload(34661, bytes(99), 0, grey()), Refused("unsupported_format", "JBIG")),
    _case("tiff_unknown_compression.tif", "an unknown compression",
          lambda: tiff(_rgb(compression=64_999)), Refused("unsupported_format", "64999")),
    _case("tiff_fax3.tif", "fax, group 3", lambda: _fax("group3"), _BW),
    _case("tiff_fax4.tif", "fax, group 4", lambda: _fax("group4"), _BW),
    _case("tiff_fax_huffman.tif", "fax, run lengths", lambda: _fax("tiff_ccitt"), _BW),
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
    _case("tiff_subdirectories_in_a_ring.tif", "subdirectories in a ring", _subdirectory_ring, _S),
    _case("tiff_pages_in_a_ring.tif", "pages in a ring", lambda: tiff(_rgb(), loop=True), _S),
    _case("tiff_many_pages.tif", "10,000 pages: the first", lambda: tiff(_rgb(), *_tiny_pages(10_000)), _S),
    _case("tiff_many_thumbnails.tif", "2,000 thumbnails before the full page",
          lambda: tiff(*[Page([], {254: 1, 256: 1, 257: 1})] * 2000, _rgb()),
          Refused("image_too_complex", "directories")),
    _case("tiff_many_tiles.tif", "390,625 tiles", _many_tiles, Refused("image_too_complex", "tiles")),
    _case("tiff_xmp.tif", "100 KB of XMP", lambda: tiff(_rgb(more={700: b"<x:xmpmeta/>" * 9000})), _S),
    _case("tiff_unknown_tags.tif", "unknown tags",
          lambda: tiff(_rgb(more={60_000 + i: i for i in range(99)})), _S),
    _case("tiff_trailing_bytes.tif", "bytes behind the file", lambda: tiff(_rgb()) + bytes(999), _S),
    _case("tiff_missing_half.tif", "the second half is missing", _half, _TRUNCATED),
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

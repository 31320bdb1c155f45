"""The stored bytes of a TIFF page: strips and tiles, decompressed.

libtiff, through Pillow, decompresses. The file's own directory stays unread: a directory of few tags, made here,
is put in its place, in which each stored row is a row of grey bytes. So the meaning of the samples is not
libtiff's decision, and tags that a caption does not need cannot do harm.
"""

import io
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from dropline.errors import InvalidImage
from dropline.images import refusals
from dropline.images.tiff_directories import NAME
from dropline.images.tiff_files import DECODER_ERRORS, FILES, refuse_many_files
from dropline.images.tiff_pages import BLACK_IS_ZERO, CMYK, RGB, YCBCR, Page

Bytes = npt.NDArray[np.uint8]
UNCOMPRESSED, OLD_JPEG, JPEG = 1, 6, 7
_FAX = {2: "fax", 3: "fax", 4: "fax", 32771: "fax"}
_GENERAL = {5: "LZW", 8: "Deflate", 32773: "PackBits", 32946: "Deflate", 34925: "LZMA", 50000: "Zstandard"}
#: Memory of the decompressors with the largest: the window of the compressor's highest usual level.
_WINDOW_BYTES = {34925: 70_000_000, 50000: 20_000_000}
_REFUSED = {
    OLD_JPEG: "old-style JPEG",
    32766: "NeXT",
    32809: "ThunderScan",
    32895: "IT8",
    32908: "Pixar film",
    32909: "Pixar log",
    34661: "JBIG",
    34663: "JBIG 2",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34718: "Microsoft Document Imaging",
    34887: "LERC",
    22610: "JPEG XR",
    34934: "JPEG XR",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_MOST_SCANS = 100
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def compression_name(page: Page) -> str:
    """The name of a compression; of an unknown one, the number in the file."""
    known = {**_FAX, **_GENERAL, **_REFUSED, JPEG: "JPEG", **FILES}
    return known.get(page.compression, str(page.compression))


def refuse_undecoded(page: Page) -> None:
    """Refuse a compression without a decoder, and more work than the pixels justify.

    Raises:
        InvalidImage: `unsupported_format`.
        ImageRefused: `image_too_complex`.
    """
    name = compression_name(page)
    if page.compression not in {UNCOMPRESSED, JPEG, *_FAX, *_GENERAL, *FILES}:
        raise refusals.unsupported(f"a TIFF with {name} compression")
    if page.compression in _FAX and (page.bits, page.stored_samples) != (1, 1):
        raise refusals.corrupt(NAME, "fax compression of pixels that are not bilevel")
    if page.compression == JPEG:
        _refuse_undecoded_jpeg(page)
    if page.compression in FILES:
        refuse_many_files(page)


def _refuse_undecoded_jpeg(page: Page) -> None:
    if page.bits != 8:
        raise refusals.unsupported(f"a TIFF with JPEG compression of {page.bits} bits per sample")
    if page.planar and page.photometric == YCBCR:
        raise refusals.unsupported("a TIFF with JPEG compression of separate YCbCr planes")
    if page.stored_samples not in (1, 3, 4):
        raise refusals.unsupported(f"a TIFF with JPEG compression of {page.stored_samples} samples per pixel")
    data = page.directory.data
    for at, count in zip(page.offsets, page.counts, strict=True):
        if data.count(b"\xff\xda", at, at + count) > _MOST_SCANS:
            raise refusals.too_complex(
                NAME, f"more than {_MOST_SCANS} JPEG scans in a strip or tile", f"{_MOST_SCANS}"
            )


def pixels_of_bytes(page: Page) -> Image.Image | None:
    """Decode a page whose pixels are Pillow's own, in one step; None for other pages.

    Returns:
        An image of the stored samples: mode L, RGB, RGBA (four samples, whatever the fourth means) or CMYK.

    Raises:
        InvalidImage: `corrupt_image`.
    """
    if not _has_mode(page) or page.predictor == 3 or page.is_subsampled:
        return None
    if page.compression == UNCOMPRESSED:
        return None if page.tiled else _uncompressed_pixels(page)
    if page.compression != JPEG and page.compression not in _GENERAL:
        return None
    return _decoded(page, _pixel_tags(page), *page.plane(0))


def _has_mode(page: Page) -> bool:
    """Return True if Pillow unpacks the pixels; of 16 bits, Pillow keeps the highest 8, at half the memory."""
    if page.sample_format != 1 or page.planar or page.bits_reversed or page.samples not in (1, 3, 4):
        return False
    return page.bits == 8 or (page.bits == 16 and page.samples > 1 and page.photometric in (RGB, CMYK))


def _uncompressed_pixels(page: Page) -> Image.Image:
    mode = {1: "L", 3: "RGB", 4: "CMYK" if page.photometric == CMYK else "RGBA"}[page.samples]
    raw_mode = mode if page.bits == 8 else f"{mode};16{'L' if page.directory.layout.order == '<' else 'B'}"
    rows = _uncompressed_rows(page, *page.plane(0))
    return Image.frombuffer(mode, (page.width, page.height), rows, "raw", raw_mode, 0, 1)


def _pixel_tags(page: Page) -> dict[int, tuple[int, ...] | bytes]:
    photometric = {1: BLACK_IS_ZERO, 3: RGB, 4: CMYK if page.photometric == CMYK else RGB}[page.samples]
    tags: dict[int, tuple[int, ...] | bytes] = {
        256: (page.width,), 257: (page.height,), 258: (page.bits,) * page.samples, 262: (photometric,),
        277: (page.samples,), 317: (page.predictor,),
    }  # fmt: skip
    if page.tiled:
        tags |= {322: (page.segment_width,), 323: (page.segment_height,)}
    else:
        tags |= {278: (page.segment_height,)}
    if page.samples == 4 and photometric == RGB:
        tags[338] = (2,)
    if page.compression == JPEG:
        tags |= _jpeg_tags(page, page.samples == 3 and page.photometric == YCBCR)
    return tags


def _jpeg_tags(page: Page, in_ycbcr: bool) -> dict[int, tuple[int, ...] | bytes]:
    tags: dict[int, tuple[int, ...] | bytes] = {317: (1,)}
    if tables := page.directory.raw(347, 65_536):
        tags[347] = tables
    return tags | ({262: (YCBCR,), 530: page.subsampling} if in_ycbcr else {})


def stored_rows(page: Page, plane: int) -> Bytes:
    """Decompress one plane.

    Returns:
        uint8, [page.plane_rows, page.row_bytes]: all segments, one below the other.

    Raises:
        InvalidImage: `corrupt_image`.
    """
    offsets, counts = page.plane(plane)
    if page.compression == UNCOMPRESSED:
        rows = _uncompressed_rows(page, offsets, counts)
        return _reverse_bits(rows) if page.bits_reversed else rows
    tags: dict[int, tuple[int, ...] | bytes] = {
        256: (page.row_bytes,), 257: (page.plane_rows,), 258: (8,), 262: (BLACK_IS_ZERO,), 277: (1,),
        278: (page.segment_rows,),
    }  # fmt: skip
    if page.compression in _FAX:
        tags |= {256: (page.segment_width,), 258: (1,), 292: page.directory.integers(292, 1) or (0,)}
    if page.compression == JPEG:
        tags |= _jpeg_tags(page, in_ycbcr=False)
    image = _decoded(page, tags, offsets, counts)
    # Bilevel pixels are a byte each in Pillow.
    return np.packbits(np.asarray(image), axis=1) if image.mode == "1" else np.asarray(image)


def _reverse_bits(rows: Bytes) -> Bytes:
    return np.frombuffer(_REVERSED, np.uint8)[rows]


def _uncompressed_rows(page: Page, offsets: tuple[int, ...], counts: tuple[int, ...]) -> Bytes:
    data = page.directory.data
    ends = tuple(at + count for at, count in zip(offsets, counts, strict=True))
    if offsets[1:] == ends[:-1]:
        block = np.frombuffer(data, np.uint8, sum(counts), offsets[0])
    else:
        view = memoryview(data)
        joined = b"".join(view[at:end] for at, end in zip(offsets, ends, strict=True))
        block = np.frombuffer(joined, np.uint8)
    return block.reshape(page.plane_rows, page.row_bytes)


def _decoded(
    page: Page, tags: dict[int, tuple[int, ...] | bytes], offsets: tuple[int, ...], counts: tuple[int, ...]
) -> Image.Image:
    where = (324, 325) if 322 in tags else (273, 279)
    tags = {**tags, 259: (page.compression,), where[0]: offsets, where[1]: counts}
    data = page.directory.data
    if page.bits_reversed and page.compression != JPEG:
        data = data.translate(_REVERSED)
    try:
        image: Image.Image = TiffImagePlugin.TiffImageFile(io.BytesIO(_with_directory(page, data, tags)))
        image.load()
    except DECODER_ERRORS as error:
        refusals.check_room(_WINDOW_BYTES.get(page.compression, 0))
        raise _damaged(page) from error
    return image


def _damaged(page: Page) -> InvalidImage:
    return refusals.corrupt(NAME, f"its {compression_name(page)} data cannot be decompressed")


def _with_directory(page: Page, data: bytes, tags: dict[int, tuple[int, ...] | bytes]) -> bytes:
    """The file's bytes with a directory of `tags` behind them, to which the header points.

    The header becomes that of a classic TIFF: Pillow cannot read a big-endian BigTIFF.
    """
    order = page.directory.layout.order
    behind = len(data) + len(data) % 2
    values, entries = bytearray(), bytearray(struct.pack(f"{order}H", len(tags)))
    for tag in sorted(tags):
        kind, number, block = _packed(tags[tag], order)
        if len(block) > 4:
            at = behind + len(values)
            values += block + bytes(len(block) % 2)
            block = struct.pack(f"{order}I", at)
        entries += struct.pack(f"{order}HHI", tag, kind, number) + block.ljust(4, b"\0")
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, behind + len(values))
    return b"".join((start, memoryview(data)[8:], bytes(len(data) % 2), values, entries, bytes(4)))


def _packed(values: tuple[int, ...] | bytes, order: str) -> tuple[int, int, bytes]:
    """Type, number and bytes of a tag's values."""
    if isinstance(values, bytes):
        return 7, len(values), values
    kind, letter = (3, "H") if max(values) < 65_536 else (4, "I")
    return kind, len(values), struct.pack(f"{order}{len(values)}{letter}", *values)

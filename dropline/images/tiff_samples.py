"""From the stored bytes of a TIFF page to samples: depths, byte orders, differences, planes and tiles."""

from typing import Any

import numpy as np
import numpy.typing as npt

from dropline.images import refusals
from dropline.images.tiff_directories import NAME
from dropline.images.tiff_files import is_of_files, samples_of_files
from dropline.images.tiff_pages import FLOAT, SIGNED, Page
from dropline.images.tiff_segments import Bytes, stored_rows

Samples = npt.NDArray[Any]
#: Samples that are unpacked at once: bounds the memory for single bits.
_BLOCK = 4_194_304
#: Depths of whole bytes that numpy has a type for.
_WHOLE = {8: 1, 16: 2, 32: 4, 64: 8}


def page_samples(page: Page) -> Samples:
    """Decode the samples of a page that are seen: the colours and alpha.

    Returns:
        uint, int or float in native byte order, [height, width, samples]; of a planar page, alpha is the last.

    Raises:
        InvalidImage: `corrupt_image` or `unsupported_format`.
    """
    if not page.planar:
        return _plane(page, 0)
    seen = [*range(page.colours), *([page.alpha] if page.alpha is not None else [])]
    return np.concatenate([_plane(page, number) for number in seen], axis=2)


def _plane(page: Page, number: int) -> Samples:
    if is_of_files(page):
        return _assembled(page, samples_of_files(page, number))
    return _assembled(page, _typed(page, _values(page, stored_rows(page, number))))


def _values(page: Page, rows: Bytes) -> Samples:
    """The unsigned values, without differences: [rows, segment_width, samples]."""
    if page.predictor == 3:
        return _without_float_differences(page, rows)
    values = _unpacked(page, rows).reshape(len(rows), page.segment_width, page.stored_samples)
    if page.predictor != 2 or page.compression not in (5, 8, 32946, 34925, 50000):
        return values
    if page.bits not in _WHOLE:
        raise refusals.unsupported(f"a TIFF with differences of {page.bits}-bit samples")
    return np.cumsum(values, axis=1, dtype=values.dtype)


def _unpacked(page: Page, rows: Bytes) -> Samples:
    per_row = page.segment_width * page.stored_samples
    if page.bits == 8:
        return rows
    if size := _WHOLE.get(page.bits):
        stored = np.ascontiguousarray(rows).view(f"{page.directory.layout.order}u{size}")
        return stored.astype(f"=u{size}", copy=False)
    if page.bits == 1:
        return np.unpackbits(rows, axis=1, count=per_row)
    if page.bits == 24:
        return _from_three_bytes(page, rows)
    if page.bits > 16:
        raise refusals.unsupported(f"a TIFF with {page.bits} bits per sample")
    step = max(1, _BLOCK // per_row)
    out = np.empty((len(rows), per_row), np.uint16)
    for at in range(0, len(rows), step):
        out[at : at + step] = _from_bits(rows[at : at + step], per_row, page.bits)
    return out.astype(np.uint8) if page.bits < 8 else out


def _from_bits(rows: Bytes, per_row: int, bits: int) -> npt.NDArray[np.uint16]:
    """Unpack samples of 2 to 16 bits: eight samples are as many bytes as a sample has bits."""
    groups = -(-per_row // 8)
    padded = np.zeros((len(rows), groups * bits + 2), np.uint32)
    used = min(rows.shape[1], groups * bits)
    padded[:, :used] = rows[:, :used]
    out = np.empty((len(rows), groups, 8), np.uint16)
    for number in range(8):
        at, skipped = divmod(number * bits, 8)
        first, second, third = (padded[:, at + i : at + i + (groups - 1) * bits + 1 : bits] for i in range(3))
        window = first << 16 | second << 8 | third
        out[..., number] = window >> (24 - bits - skipped) & (2**bits - 1)
    return out.reshape(len(rows), -1)[:, :per_row]


def _from_three_bytes(page: Page, rows: Bytes) -> npt.NDArray[np.uint32]:
    triples = rows.reshape(len(rows), -1, 3)
    padded = np.zeros((*triples.shape[:2], 4), np.uint8)
    little = page.directory.layout.order == "<"
    padded[..., slice(0, 3) if little else slice(1, 4)] = triples
    return padded.view(f"{page.directory.layout.order}u4")[..., 0].astype(np.uint32)


def _without_float_differences(page: Page, rows: Bytes) -> Samples:
    """Predictor 3: each row has the first bytes of all samples, then the second, each as a difference."""
    if page.sample_format != FLOAT or page.bits not in (16, 32, 64):
        raise refusals.corrupt(NAME, "differences of floats, without floats")
    samples, size = page.stored_samples, page.bits // 8
    summed = np.cumsum(rows.reshape(len(rows), -1, samples), axis=1, dtype=np.uint8)
    ordered = summed.reshape(len(rows), size, -1).transpose(0, 2, 1)
    values = np.ascontiguousarray(ordered).view(f">u{size}").astype(f"=u{size}")
    return values.reshape(len(rows), page.segment_width, samples)


def _typed(page: Page, values: Samples) -> Samples:
    """Give unsigned values the format of the samples."""
    if page.sample_format == FLOAT:
        if page.bits not in (16, 32, 64):
            raise refusals.unsupported(f"a TIFF of {page.bits}-bit floats")
        return values.view(f"f{page.bits // 8}")
    if page.sample_format != SIGNED:
        return values
    if page.bits not in _WHOLE:
        raise refusals.unsupported(f"a TIFF of signed {page.bits}-bit samples")
    return values.view(f"i{page.bits // 8}")


def _assembled(page: Page, values: Samples) -> Samples:
    """Put tiles side by side, and cut off what is beyond the page: [height, width, samples]."""
    if page.tiled:
        samples = values.shape[2]
        tiles = values.reshape(page.down, page.across, page.segment_height, page.segment_width, samples)
        values = tiles.transpose(0, 2, 1, 3, 4).reshape(-1, page.across * page.segment_width, samples)
    return values[: page.height, : page.width]


def subsampled_ycbcr(page: Page) -> Samples:
    """Decode a page on which a block of pixels shares Cb and Cr: uint8, [height, width, 3].

    Raises:
        InvalidImage: `corrupt_image` or `unsupported_format`.
    """
    if page.planar or page.bits != 8 or page.predictor != 1 or page.samples != 3:
        raise refusals.unsupported("a TIFF with subsampled YCbCr in an unusual layout")
    across, down = page.subsampling
    rows = stored_rows(page, 0)
    units = rows.reshape(len(rows), -1, across * down + 2)
    luma = units[..., :-2].reshape(len(rows), -1, down, across).transpose(0, 2, 1, 3)
    colours = units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    values = np.concatenate([luma.reshape(len(rows) * down, -1, 1), colours], axis=2)
    return _assembled_blocks(page, values[:, : page.segment_width])


def _assembled_blocks(page: Page, values: Samples) -> Samples:
    if page.segment_height % page.subsampling[1] and page.down > 1:
        raise refusals.corrupt(NAME, "strips or tiles that end inside a block of colours")
    if page.tiled:
        rows = page.segment_rows * page.subsampling[1]
        values = values.reshape(-1, rows, *values.shape[1:])[:, : page.segment_height]
        values = values.reshape(-1, *values.shape[2:])
    return _assembled(page, values)

"""Segments of JPEG files, and an encoder of variants beyond Pillow's."""

import struct

import numpy as np
import numpy.typing as npt

from tests.corpus.writers.bits import joined

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
Samples = npt.NDArray[np.integer]


def segment(marker: int, body: bytes) -> bytes:
    """One segment with its length."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """The file with more segments directly behind the start."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def icc_segments(profile: bytes, piece: int = 65_000) -> list[bytes]:
    """An ICC profile as numbered APP2 segments."""
    pieces = [profile[at : at + piece] for at in range(0, len(profile), piece)]
    return [
        segment(0xE2, b"ICC_PROFILE\x00" + bytes([number, len(pieces)]) + part)
        for number, part in enumerate(pieces, 1)
    ]


def without(jpeg: bytes, marker: int) -> bytes:
    """The file without header segments of one kind."""
    at, kept = 2, jpeg[:2]
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        kept += b"" if jpeg[at + 1] == marker else jpeg[at:end]
        at = end
    return kept + jpeg[at:]


def in_scans(planes: list[bytes]) -> bytes:
    """One file of three components with a scan for each grey file; the tables of the files are equal."""
    first = planes[0]
    frame_at, scan_at = first.index(b"\xff\xc0"), first.index(b"\xff\xda")
    size = first[frame_at + 4 : frame_at + 9]
    frame = segment(0xC0, size + b"\x03" + b"".join(bytes((number, 0x11, 0)) for number in (1, 2, 3)))
    head = first[:frame_at] + frame + first[frame_at + 13 : scan_at]
    scans = (
        segment(0xDA, bytes((1, number, 0, 0, 63, 0))) + plane[plane.index(b"\xff\xda") + 10 : -2]
        for number, plane in enumerate(planes, 1)
    )
    return head + b"".join(scans) + EOI


#: 16 lengths of differences, each with a code of five bits.
_DC_TABLE = b"\x00" + bytes([0, 0, 0, 0, 16, *[0] * 11]) + bytes(range(16))
#: One code of one bit: end of block.
_AC_TABLE = b"\x10" + bytes([1, *[0] * 15]) + b"\x00"


def _difference(value: int) -> tuple[int, int]:
    """The code of a difference between neighbours: length, then the bits."""
    length = abs(value).bit_length()
    bits = value if value >= 0 else value + (1 << length) - 1
    return (length << length) | bits, 5 + length


def _entropy_coded(digits: str) -> bytes:
    digits += "1" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8, "big").replace(b"\xff", b"\xff\x00")


def flat_blocks(
    planes: list[Samples], precision: int = 8, sof: int = 0xC1, sampling: tuple[int, ...] = ()
) -> bytes:
    """A JPEG of flat blocks of 8 by 8 pixels.

    Args:
        planes: one value per block: [rows, columns] of each component; fewer columns where the component is
            subsampled.
        precision: bits per sample.
        sof: marker of the frame header.
        sampling: horizontal blocks per unit of each component; by default one.
    """
    sampling = sampling or (1,) * len(planes)
    rows, columns = planes[0].shape
    header = struct.pack(">BHHB", precision, rows * 8, columns * 8, len(planes))
    header += b"".join(bytes([i, across << 4 | 1, 0]) for i, across in enumerate(sampling, 1))
    quantization = segment(0xDB, b"\x00" + b"\x08" * 64)
    tables = segment(0xC4, _DC_TABLE) + segment(0xC4, _AC_TABLE)
    digits = _flat_digits(planes, precision, sampling)
    return SOI + quantization + segment(sof, header) + tables + _scan(len(planes), 0, 63) + digits + EOI


def _flat_digits(planes: list[Samples], precision: int, sampling: tuple[int, ...]) -> bytes:
    last = [1 << (precision - 1)] * len(planes)
    codes: list[tuple[int, int]] = []
    for row in range(planes[0].shape[0]):
        for unit in range(planes[0].shape[1] // sampling[0]):
            for index, (plane, across) in enumerate(zip(planes, sampling, strict=True)):
                for value in plane[row, unit * across : (unit + 1) * across].tolist():
                    codes += [_difference(value - last[index]), (0, 1)]
                    last[index] = value
    return _entropy_coded(joined(codes))


def lossless(samples: Samples, precision: int = 8, sof: int = 0xC3) -> bytes:
    """A lossless JPEG of one component, [height, width], each sample predicted from its left neighbour."""
    height, width = samples.shape
    left = np.empty(samples.shape, np.int64)
    left[:, 1:] = samples[:, :-1]
    left[1:, 0] = samples[:-1, 0]
    left[0, 0] = 1 << (precision - 1)
    codes = [_difference(value) for value in (samples.astype(np.int64) - left).reshape(-1).tolist()]
    header = struct.pack(">BHHB", precision, height, width, 1) + b"\x01\x11\x00"
    body = segment(sof, header) + segment(0xC4, _DC_TABLE) + _scan(1, 1, 0) + _entropy_coded(joined(codes))
    return SOI + body + EOI


def _scan(components: int, first: int, last: int) -> bytes:
    body = bytes([components]) + b"".join(bytes([i, 0]) for i in range(1, components + 1))
    return segment(0xDA, body + bytes([first, last, 0]))


def many_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive grey JPEG of one scan of pixels and many scans without any change."""
    blocks = (width + 7) // 8 * ((height + 7) // 8)
    quantization = segment(0xDB, b"\x00" + b"\x10" * 64)
    frame = segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00")
    dc = segment(0xC4, b"\x00" + bytes([1, *[0] * 15]) + b"\x00")
    ac = segment(0xC4, b"\x10" + bytes([0, 2, *[0] * 14]) + b"\x00\xe0")
    first = segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes(blocks // 8 + 1)
    # Each code ends 32,767 blocks.
    empty = segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + b"\x7f\xff\x00" * (blocks // 32_767 + 1)
    return SOI + quantization + frame + dc + ac + first + empty * scans + EOI


def arithmetic_grey(width: int, height: int) -> bytes:
    """A flat middle grey in arithmetic coding: two bytes hold all decisions."""
    frame = segment(0xCA, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00")
    scan = segment(0xDA, b"\x01\x01\x00\x00\x00\x00")
    return SOI + segment(0xDB, b"\x00" + b"\x10" * 64) + frame + scan + b"\x4b\xd2" + EOI

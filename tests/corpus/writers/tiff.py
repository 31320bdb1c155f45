"""TIFF files with every tag in the caller's hand: classic and BigTIFF, both byte orders, strips and tiles."""

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tests.corpus.writers.bits import packed

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, MASK, CMYK, YCC, CIELAB = 0, 1, 2, 3, 4, 5, 6, 8
SHORT, LONG, RATIONAL, ASCII, BYTE, IFD, LONG8 = 3, 4, 5, 2, 1, 13, 16
_SIZES = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, IFD: 4, LONG8: 8}
_LETTERS = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", IFD: "I", LONG8: "Q", RATIONAL: "I"}
#: Types of tags other than SHORT.
_TYPES = {
    **dict.fromkeys((254, 256, 257, 273, 278, 279, 322, 323, 324, 325, 330, 513, 514), LONG),
    **dict.fromkeys((270, 271, 272, 305, 42113, 50708), ASCII),
    **dict.fromkeys((347, 700, 34675, 33422, 50706, 50707), BYTE),
    **dict.fromkeys((282, 283), RATIONAL),
}
Value = int | Sequence[int] | bytes
Samples = npt.NDArray[np.generic]
Packer = Callable[[bytes], bytes]


@dataclass
class Page:
    """One directory and its pixels."""

    #: Compressed strips or tiles.
    parts: list[bytes]
    #: Values of the tags; the places of the strips or tiles are added.
    tags: dict[int, Value]
    #: Directories named by the tag 330 (SubIFDs).
    children: list["Page"] = field(default_factory=list)
    tiled: bool = False


def deflate(data: bytes) -> bytes:
    """Compression 8."""
    return zlib.compress(data)


def packbits(data: bytes) -> bytes:
    """Compression 32773, in literal runs."""
    return b"".join(
        bytes([len(part) - 1]) + part for part in (data[at : at + 128] for at in range(0, len(data), 128))
    )


def zstandard(data: bytes) -> bytes:
    """Compression 50000: a frame with the length, and one block without compression, up to 128 KiB."""
    block = struct.pack("<I", len(data) << 3 | 1)[:3]
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)) + block + data


def lzw(data: bytes) -> bytes:
    """Compression 5, in literal codes of nine bits with a clear code every 250 bytes."""
    codes: list[int] = []
    for at in range(0, len(data), 250):
        codes += [256, *data[at : at + 250]]
    return packed(np.array([*codes, 257]), 9)


def differences(samples: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Differences from the left neighbour: predictor 2."""
    found = samples.copy()
    found[:, 1:] -= samples[:, :-1]
    return found


def page(
    samples: Samples,
    photometric: int,
    *,
    depth: int = 0,
    order: str = "<",
    compression: int = 1,
    pack: Packer = bytes,
    planar: bool = False,
    strip_rows: int = 0,
    tile: tuple[int, int] | None = None,
    more: Mapping[int, Value] | None = None,
) -> Page:
    """A page of strips or tiles.

    Args:
        samples: [height, width] or [height, width, channels] of an integer or float type.
        photometric: value of PhotometricInterpretation.
        depth: bits per sample, where fewer than the type has.
        order: "<" or ">", the byte order of the file.
        compression: value of the tag.
        pack: compresses one strip or tile.
        planar: one plane per channel.
        strip_rows: rows per strip; 0: all.
        tile: width and height of the tiles; None: strips.
        more: other tags.
    """
    cube = samples.reshape(*samples.shape[:2], -1)
    height, width, channels = cube.shape
    bits = depth or samples.dtype.itemsize * 8
    planes = [cube[..., i : i + 1] for i in range(channels)] if planar else [cube]
    rows = strip_rows or height
    tags: dict[int, Value] = {
        256: width, 257: height, 258: [bits] * channels, 259: compression, 262: photometric, 277: channels,
        284: 2 if planar else 1, 339: [_sample_format(samples)] * channels,
    }  # fmt: skip
    tags |= {322: tile[0], 323: tile[1]} if tile else {278: rows}
    cells = [cell for plane in planes for cell in (_tiles(plane, *tile) if tile else _strips(plane, rows))]
    parts = [pack(_bytes(cell, depth, order)) for cell in cells]
    return Page(parts, tags | dict(more or {}), tiled=tile is not None)


def _sample_format(samples: Samples) -> int:
    return {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]


def _strips(plane: Samples, rows: int) -> list[Samples]:
    return [plane[at : at + rows] for at in range(0, plane.shape[0], rows)]


def _tiles(plane: Samples, width: int, height: int) -> list[Samples]:
    edges = [(0, -plane.shape[0] % height), (0, -plane.shape[1] % width), (0, 0)]
    whole = np.pad(plane, edges)
    return [
        whole[y : y + height, x : x + width]
        for y in range(0, whole.shape[0], height)
        for x in range(0, whole.shape[1], width)
    ]


def _bytes(cell: Samples, depth: int, order: str) -> bytes:
    if depth:
        return b"".join(packed(row.reshape(-1), depth) for row in cell)
    return cell.astype(cell.dtype.newbyteorder(">" if order == ">" else "<")).tobytes()


def tiff(*pages: Page, order: str = "<", big: bool = False, loop: bool = False) -> bytes:
    """A whole file of the pages; `loop`: the last directory names the first as the next one."""
    writer = _Writer(order, big)
    return writer.file(list(pages), loop)


class _Writer:
    def __init__(self, order: str, big: bool) -> None:
        self.order, self.big = order, big
        self.offset = "Q" if big else "I"
        self.out = bytearray(self._signature())

    def _signature(self) -> bytes:
        mark = b"II" if self.order == "<" else b"MM"
        return mark + (self._packed("HHHQ", 43, 8, 0, 0) if self.big else self._packed("HI", 42, 0))

    def _packed(self, letters: str, *values: int) -> bytes:
        return struct.pack(self.order + letters, *values)

    def file(self, pages: list[Page], loop: bool) -> bytes:
        place = first = 8 if self.big else 4
        for page_ in pages:
            at, following = self._directory(page_)
            self._link(place, at)
            first = at if page_ is pages[0] else first
            place = following
        if loop:
            self._link(place, first)
        return bytes(self.out)

    def _link(self, place: int, at: int) -> None:
        link = self._packed(self.offset, at)
        self.out[place : place + len(link)] = link

    def _append(self, data: bytes) -> int:
        self.out += bytes(-len(self.out) % 8)
        at = len(self.out)
        self.out += data
        return at

    def _directory(self, page_: Page) -> tuple[int, int]:
        """The place of the directory, and the place of the link to the next directory."""
        tags = dict(page_.tags)
        if page_.parts:
            tags[324 if page_.tiled else 273] = [self._append(part) for part in page_.parts]
            tags[325 if page_.tiled else 279] = [len(part) for part in page_.parts]
        if page_.children:
            tags[330] = [self._directory(child)[0] for child in page_.children]
        entries = b"".join(self._entry(tag, tags[tag]) for tag in sorted(tags))
        count = self._packed("Q" if self.big else "H", len(tags))
        at = self._append(count + entries + self._packed(self.offset, 0))
        return at, at + len(count) + len(entries)

    def _entry(self, tag: int, value: Value) -> bytes:
        kind = _TYPES.get(tag, SHORT)
        values = [value] if isinstance(value, int) else list(value)
        body = self._packed(_LETTERS[kind] * len(values), *values)
        room = 8 if self.big else 4
        inline = body.ljust(room, b"\x00") if len(body) <= room else self._packed(self.offset, self._append(body))
        return self._packed("HH" + self.offset, tag, kind, len(body) // _SIZES[kind]) + inline

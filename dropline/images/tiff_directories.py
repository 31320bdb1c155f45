"""The directories of a TIFF: which pages the file has, and which page is captioned.

Classic TIFF and BigTIFF, both byte orders. Without I/O, pixels or recursion. Each loop is bounded by a constant
or by the bytes of the file: a chain of directories that comes back to itself, a count or an offset beyond the end
of the file is an error, and costs no more than the file's own size.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from dropline.images import refusals

NAME = "TIFF"
#: The full page is the first or second directory of ordinary files; pyramids and documents have hundreds.
MOST_DIRECTORIES = 1_000
_MOST_ENTRIES = 4_096
_MOST_SUBDIRECTORIES = 16
#: Values of one entry; 16 x 16 tiles of the largest accepted picture are 390,625.
_MOST_VALUES = 500_000
#: struct's letter and the bytes per value, by the entry's type: BYTE, ASCII, SHORT, LONG, RATIONAL and so on.
_TYPES = {
    1: ("B", 1), 2: ("B", 1), 3: ("H", 2), 4: ("I", 4), 5: ("II", 8), 6: ("b", 1), 7: ("B", 1), 8: ("h", 2),
    9: ("i", 4), 10: ("ii", 8), 11: ("f", 4), 12: ("d", 8), 13: ("I", 4), 16: ("Q", 8), 17: ("q", 8), 18: ("Q", 8),
}  # fmt: skip
_RATIONALS = frozenset({5, 10})
#: Bits of NewSubfileType.
_REDUCED, _MASK_BIT = 1, 4
#: PhotometricInterpretation of a transparency mask.
_MASK = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the numbers of a TIFF are: byte order, width of offsets, first directory."""

    #: "<" or ">", as in struct and numpy.
    order: str
    big: bool
    first: int

    def unpack(self, data: bytes, letters: str, at: int) -> tuple[int, ...]:
        """Unpack `letters` at the offset `at`.

        Raises:
            InvalidImage: `truncated_image`, if the file ends before.
        """
        try:
            return struct.unpack_from(self.order + letters, data, at)
        except (struct.error, OverflowError):
            raise refusals.truncated(NAME, "a directory is behind the end of the file") from None


@dataclass(frozen=True, slots=True)
class Entry:
    """A tag of a directory; the values are read on demand."""

    kind: int
    count: int
    at: int


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory: the entries by tag. A page, or a preview of a page."""

    data: bytes = field(repr=False)
    layout: Layout
    entries: dict[int, Entry]
    #: Offset of the next directory of the chain; 0: none.
    next_at: int

    def numbers(self, tag: int, most: int = _MOST_VALUES) -> tuple[int | float, ...]:
        """The first `most` values of `tag`; () without the tag or with a type that is no number.

        Raises:
            InvalidImage: `truncated_image`, if the values are behind the end of the file.
        """
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _TYPES:
            return ()
        letter = _TYPES[entry.kind][0]
        values = self.layout.unpack(self.data, letter[0] * len(letter) * min(entry.count, most), entry.at)
        if entry.kind in _RATIONALS:
            return tuple(top / (bottom or 1) for top, bottom in zip(values[::2], values[1::2], strict=True))
        return values

    def integers(self, tag: int, most: int = _MOST_VALUES) -> tuple[int, ...]:
        """As `numbers`; fractions are cut off, values that are not finite are 0."""
        return tuple(_integer(value) for value in self.numbers(tag, most))

    def integer(self, tag: int, default: int) -> int:
        """The first value of `tag`."""
        return next(iter(self.integers(tag, 1)), default)

    def raw(self, tag: int, most: int) -> bytes:
        """The bytes of `tag`; empty without the tag, or for more than `most` bytes.

        Raises:
            InvalidImage: `truncated_image`, if the bytes are behind the end of the file.
        """
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _TYPES or (size := entry.count * _TYPES[entry.kind][1]) > most:
            return b""
        if entry.at + size > len(self.data):
            raise refusals.truncated(NAME, "a value is behind the end of the file")
        return self.data[entry.at : entry.at + size]

    def text(self, tag: int) -> str:
        """The text of `tag`, without the end marker."""
        return self.raw(tag, 1_024).partition(b"\0")[0].decode("latin-1").strip()


def _integer(value: float) -> int:
    return int(value) if math.isfinite(value) else 0


def read_layout(data: bytes) -> Layout:
    """Read the header.

    Raises:
        InvalidImage: `truncated_image`, or `corrupt_image` for a header of no TIFF.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    header = Layout(order or "<", False, 0)
    (version,) = header.unpack(data, "H", 2)
    if version == 43 and order and header.unpack(data, "HH", 4) == (8, 0):
        return Layout(order, True, header.unpack(data, "Q", 8)[0])
    if version == 43 or not order:
        raise refusals.corrupt(NAME, "the header is not that of a TIFF")
    # Not only version 42: raw photographs of some makers differ in the version alone.
    return Layout(order, False, header.unpack(data, "I", 4)[0])


def read_directory(data: bytes, layout: Layout, at: int) -> Directory:
    """Read the directory at the offset `at`.

    Raises:
        InvalidImage: `truncated_image` or `corrupt_image`.
        ImageRefused: `image_too_complex`, for a directory with thousands of entries.
    """
    if at < 8:
        raise refusals.corrupt(NAME, "a directory is inside the header")
    count_letter, entry_bytes, count_bytes = ("Q", 20, 8) if layout.big else ("H", 12, 2)
    (count,) = layout.unpack(data, count_letter, at)
    if count == 0:
        raise refusals.corrupt(NAME, "a directory without entries")
    if at + count_bytes + count * entry_bytes > len(data):
        raise refusals.truncated(NAME, "a directory is behind the end of the file")
    if count > _MOST_ENTRIES:
        raise refusals.too_complex(NAME, f"{count:,} entries in a directory", f"{_MOST_ENTRIES:,}")
    end = at + count_bytes + count * entry_bytes
    entries: dict[int, Entry] = {}
    for entry_at in range(at + count_bytes, end, entry_bytes):
        tag, entry = _read_entry(data, layout, entry_at)
        entries.setdefault(tag, entry)
    return Directory(data, layout, entries, _next_directory(data, layout, end))


def _read_entry(data: bytes, layout: Layout, at: int) -> tuple[int, Entry]:
    tag, kind, count = layout.unpack(data, "HHQ" if layout.big else "HHI", at)
    value_at, inline_bytes = (at + 12, 8) if layout.big else (at + 8, 4)
    if count * _TYPES.get(kind, ("", 1))[1] > inline_bytes:
        (value_at,) = layout.unpack(data, "Q" if layout.big else "I", value_at)
    return tag, Entry(kind, count, value_at)


def _next_directory(data: bytes, layout: Layout, at: int) -> int:
    offset_bytes = 8 if layout.big else 4
    # A last directory at the end of the file may lack the offset: there is no further page.
    if at + offset_bytes > len(data):
        return 0
    return layout.unpack(data, "Q" if layout.big else "I", at)[0]


def walk(data: bytes) -> Iterator[Directory]:
    """Each directory of the main chain, in the file's order, read on demand.

    Raises:
        InvalidImage: `truncated_image` or `corrupt_image`, for a chain that leaves the file or never ends.
        ImageRefused: `image_too_complex`, after 1,000 directories.
    """
    layout = read_layout(data)
    at, seen = layout.first, set[int]()
    if not at:
        raise refusals.corrupt(NAME, "there is no directory")
    while at:
        if at in seen:
            raise refusals.corrupt(NAME, "the chain of directories never ends")
        if len(seen) == MOST_DIRECTORIES:
            raise refusals.too_complex(NAME, "more directories", f"{MOST_DIRECTORIES:,}")
        seen.add(at)
        directory = read_directory(data, layout, at)
        yield directory
        at = directory.next_at


def subdirectories(directory: Directory) -> Iterator[Directory]:
    """Each directory that `directory` names as its own (SubIFDs), at most 16."""
    for at in directory.integers(330, _MOST_SUBDIRECTORIES):
        yield read_directory(directory.data, directory.layout, at)


def full_page(data: bytes) -> Directory:
    """Return the directory of the first page that is no thumbnail, level of a pyramid, or mask.

    A thumbnail may name the full page as its subdirectory. Of a file with thumbnails alone, the largest counts.

    Raises:
        InvalidImage: `corrupt_image` or `truncated_image`.
        ImageRefused: `image_too_complex`.
    """
    reduced = []
    for page in walk(data):
        if _is_full(page):
            return page
        for child in subdirectories(page):
            if _is_full(child):
                return child
        if _flags(page) & _REDUCED:
            reduced.append(page)
    if not reduced:
        raise refusals.corrupt(NAME, "no page has pixels")
    return max(reduced, key=lambda page: page.integer(256, 0) * page.integer(257, 0))


def _is_full(page: Directory) -> bool:
    return not _flags(page) & (_REDUCED | _MASK_BIT) and page.integer(256, 0) > 0


def _flags(page: Directory) -> int:
    flags = page.integer(254, 0)
    if page.integer(255, 1) == 2:
        flags |= _REDUCED
    return flags | _MASK_BIT if page.integer(262, 0) == _MASK else flags

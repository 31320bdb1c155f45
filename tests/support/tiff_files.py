"""Write TIFF files of every kind that libraries refuse to write: directories by tag, classic and BigTIFF."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: Values of a tag: numbers (SHORT or LONG, by size), real numbers (FLOAT), or bytes (UNDEFINED).
Values = int | float | bytes | Sequence[int] | Sequence[float]
_TYPES = {"B": 1, "H": 3, "I": 4, "f": 11, "Q": 16}
_BYTES = {"B": 1, "H": 2, "I": 4, "f": 4, "Q": 8}


@dataclass(frozen=True)
class Page:
    """One directory: tags, the segments of pixels, and directories of its own."""

    tags: Mapping[int, Values]
    segments: Sequence[bytes] = ()
    #: StripOffsets and StripByteCounts; (324, 325) for tiles.
    segment_tags: tuple[int, int] = (273, 279)
    children: Sequence["Page"] = field(default=())


class _Writer:
    def __init__(self, order: str, big: bool) -> None:
        self.order, self.big = order, big
        version = struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)
        self.out = bytearray((b"II" if order == "<" else b"MM") + version + bytes(8 if big else 4))
        self.offset, self.count = ("Q", "Q") if big else ("I", "H")

    def append(self, block: bytes) -> int:
        self.out += bytes(len(self.out) % 2)
        at = len(self.out)
        self.out += block
        return at

    def put_offset(self, at: int, value: int) -> None:
        struct.pack_into(self.order + self.offset, self.out, at, value)

    def page(self, page: Page) -> tuple[int, int]:
        """Write a page; return the offsets of the directory and of its link to the next."""
        tags: dict[int, Values] = dict(page.tags)
        if page.segments:
            tags[page.segment_tags[0]] = [self.append(each) for each in page.segments]
            tags.setdefault(page.segment_tags[1], [len(each) for each in page.segments])
        if page.children:
            tags[330] = [self.page(each)[0] for each in page.children]
        entries = b"".join(self.entry(tag, tags[tag]) for tag in sorted(tags))
        at = self.append(struct.pack(self.order + self.count, len(tags)) + entries)
        return at, self.append(bytes(8 if self.big else 4))

    def entry(self, tag: int, values: Values) -> bytes:
        if isinstance(values, bytes):
            kind, count, block = 7, len(values), values
        else:
            listed = [values] if isinstance(values, int | float) else list(values)
            letter = self.letter(listed)
            kind, count = _TYPES[letter], len(listed)
            block = struct.pack(f"{self.order}{count}{letter}", *listed)
        inline = 8 if self.big else 4
        if len(block) > inline:
            block = struct.pack(self.order + self.offset, self.append(block))
        return struct.pack(f"{self.order}HH{'Q' if self.big else 'I'}", tag, kind, count) + block.ljust(
            inline, b"\0"
        )

    @staticmethod
    def letter(values: Sequence[float]) -> str:
        if any(isinstance(each, float) for each in values):
            return "f"
        return "H" if max(values) < 65536 else "I"


def tiff(*pages: Page, order: str = "<", big: bool = False) -> bytes:
    """A TIFF file of `pages`; `order` "<" or ">"."""
    writer = _Writer(order, big)
    link = 8 if big else 4
    for page in pages:
        at, next_link = writer.page(page)
        writer.put_offset(link, at)
        link = next_link
    return bytes(writer.out)

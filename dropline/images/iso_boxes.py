"""The boxes of ISO base media files, as far as HEIF and AVIF images have them (ISO 14496-12, ISO 23008-12)."""

from collections.abc import Iterator
from dataclasses import dataclass, field

#: Boxes that are read at one level: a camera's file has some hundreds of items.
MAX_BOXES = 10_000
_CONTAINERS = frozenset({b"iprp", b"ipco"})


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its kind, and where its body lies."""

    kind: bytes
    start: int
    #: May lie beyond the end of the file.
    end: int


@dataclass(slots=True)
class Items:
    """The items of a file's `meta` box."""

    primary: int = 0
    #: Kind by item, such as b"hvc1" or b"grid".
    kinds: dict[int, bytes] = field(default_factory=dict)
    #: Where the kinds of items with EXIF and XMP lie in the file.
    metadata_at: list[int] = field(default_factory=list)
    #: Items from which an item is made, such as the tiles of a grid.
    sources: dict[int, int] = field(default_factory=dict)
    #: Width and height by property number, from 1.
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: Property numbers by item.
    properties: dict[int, list[int]] = field(default_factory=dict)
    #: Kind by property number, from 1.
    property_kinds: list[bytes] = field(default_factory=list)


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """The boxes between two offsets, up to the first that is senseless."""
    at, count = start, 0
    while at + 8 <= min(end, len(data)) and count < MAX_BOXES:
        size, body = int.from_bytes(data[at : at + 4], "big"), at + 8
        if size == 1:
            size, body = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        elif size == 0:
            size = end - at
        if size < body - at:
            return
        yield Box(data[at + 4 : at + 8], body, at + size)
        at, count = at + size, count + 1


def read_items(data: bytes) -> Items | None:
    """Return the items of the file's `meta` box; None without one, as in a sequence of frames."""
    meta = next((each for each in boxes(data, 0, len(data)) if each.kind == b"meta"), None)
    if meta is None:
        return None
    items = Items()
    for each in boxes(data, meta.start + 4, meta.end):
        if each.kind == b"pitm":
            wide = data[each.start : each.start + 1] != b"\x00"
            items.primary = _number(data, each.start + 4, 4 if wide else 2)
        elif each.kind == b"iinf":
            _read_kinds(data, each, items)
        elif each.kind == b"iref":
            _read_references(data, each, items)
        elif each.kind == b"iprp":
            _read_properties(data, each, items)
    return items


def _read_kinds(data: bytes, box: Box, items: Items) -> None:
    wide = data[box.start : box.start + 1] != b"\x00"
    for each in boxes(data, box.start + (8 if wide else 6), box.end):
        version = _number(data, each.start, 1)
        if each.kind != b"infe" or version < 2:
            continue
        id_bytes = 2 if version == 2 else 4
        at = each.start + 4 + id_bytes + 2
        kind = data[at : at + 4]
        items.kinds[_number(data, each.start + 4, id_bytes)] = kind
        if kind in (b"Exif", b"mime"):
            items.metadata_at.append(at)


def _read_references(data: bytes, box: Box, items: Items) -> None:
    id_bytes = 2 if data[box.start : box.start + 1] == b"\x00" else 4
    for each in boxes(data, box.start + 4, box.end):
        if each.kind == b"dimg":
            item = _number(data, each.start, id_bytes)
            items.sources[item] = items.sources.get(item, 0) + _number(data, each.start + id_bytes, 2)


def _read_properties(data: bytes, box: Box, items: Items) -> None:
    for each in boxes(data, box.start, box.end):
        if each.kind == b"ipco":
            for found in boxes(data, each.start, each.end):
                items.property_kinds.append(found.kind)
                if found.kind == b"ispe":
                    size = _number(data, found.start + 4, 4), _number(data, found.start + 8, 4)
                    items.sizes[len(items.property_kinds)] = size
        elif each.kind == b"ipma":
            _read_associations(data, each, items)


def _read_associations(data: bytes, box: Box, items: Items) -> None:
    id_bytes = 2 if data[box.start : box.start + 1] == b"\x00" else 4
    entry_bytes = 2 if _number(data, box.start + 3, 1) & 1 else 1
    at = box.start + 8
    for _ in range(min(_number(data, box.start + 4, 4), MAX_BOXES)):
        item, count = _number(data, at, id_bytes), _number(data, at + id_bytes, 1)
        at += id_bytes + 1
        mask = 0x7FFF if entry_bytes == 2 else 0x7F
        numbers = [_number(data, at + entry_bytes * index, entry_bytes) & mask for index in range(count)]
        items.properties.setdefault(item, numbers)
        at += entry_bytes * count
        if at >= min(box.end, len(data)):
            return


def _number(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count], "big")

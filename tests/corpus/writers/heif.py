"""HEIF grids around a tile of another encoder."""

import struct

from tests.corpus.writers.boxes import box, boxes, file_type, full_box


def property_box(heif: bytes, name: bytes) -> bytes:
    """The first property with this name, as a box."""
    at = heif.index(name) - 4
    return heif[at : at + int.from_bytes(heif[at : at + 4], "big")]


def media(heif: bytes) -> bytes:
    """The content of the file's media box."""
    return next(heif[start + 8 : end] for start, end, name in boxes(heif) if name == b"mdat")


def _item(number: int, kind: bytes) -> bytes:
    return full_box(b"infe", struct.pack(">HH", number, 0), kind, b"\x00", version=2)


def _extent(number: int, method: int, offset: int, length: int) -> bytes:
    return struct.pack(">HHHHII", number, method, 0, 1, offset, length)


def grid(tile: bytes, tile_size: tuple[int, int], columns: int, rows: int, brand: bytes = b"heic") -> bytes:
    """A grid that shows one tile `columns` times `rows` times.

    Args:
        tile: a HEIF file of one picture.
        tile_size: width and height of the tile, in pixels.
        columns: tiles in a row, 1 to 256.
        rows: 1 to 256.
        brand: of the file.
    """
    size = (tile_size[0] * columns, tile_size[1] * rows)
    derivation = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, *size)
    references = struct.pack(">HH", 1, columns * rows) + struct.pack(">H", 2) * (columns * rows)
    first = file_type(brand, brand, b"mif1", b"miaf")
    start, body = 0, b""
    for _ in range(2):  # the second time with the place of the media
        body = _meta(tile, (tile_size, size), references, derivation, start)
        start = len(first) + len(body) + 8
    return first + body + box(b"mdat", media(tile))


def single(kind: bytes, picture: bytes, size: tuple[int, int]) -> bytes:
    """A file of one picture whose codec needs no configuration, such as JPEG."""
    first = file_type(b"mif1", b"mif1")
    start, body = 0, b""
    for _ in range(2):  # the second time with the place of the media
        body = full_box(
            b"meta",
            full_box(b"hdlr", bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", struct.pack(">H", 1)),
            full_box(b"iloc", struct.pack(">BBH", 0x44, 0, 1), _extent(1, 0, start, len(picture)), version=1),
            full_box(b"iinf", struct.pack(">H", 1), _item(1, kind)),
            box(
                b"iprp",
                box(b"ipco", full_box(b"ispe", struct.pack(">II", *size))),
                full_box(b"ipma", struct.pack(">IHBB", 1, 1, 1, 1)),
            ),
        )
        start = len(first) + len(body) + 8
    return first + body + box(b"mdat", picture)


def _meta(
    tile: bytes, sizes: tuple[tuple[int, int], ...], references: bytes, derivation: bytes, start: int
) -> bytes:
    extents = [_extent(1, 1, 0, len(derivation)), _extent(2, 0, start, len(media(tile)))]
    # hvcC or av1C, then the sizes of tile and grid: properties 1, 2 and 3.
    codec = b"hvcC" if b"hvcC" in tile else b"av1C"
    shapes = [full_box(b"ispe", struct.pack(">II", *each)) for each in sizes]
    associations = struct.pack(">IHBBHBBB", 2, 1, 1, 3, 2, 2, 0x81, 2)
    return full_box(
        b"meta",
        full_box(b"hdlr", bytes(4), b"pict", bytes(13)),
        full_box(b"pitm", struct.pack(">H", 1)),
        full_box(b"iloc", struct.pack(">BBH", 0x44, 0, 2), *extents, version=1),
        full_box(
            b"iinf", struct.pack(">H", 2), _item(1, b"grid"), _item(2, b"hvc1" if codec == b"hvcC" else b"av01")
        ),
        full_box(b"iref", box(b"dimg", references)),
        box(b"iprp", box(b"ipco", property_box(tile, codec), *shapes), full_box(b"ipma", associations)),
        box(b"idat", derivation),
    )

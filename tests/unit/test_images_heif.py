"""AVIF and HEIF: orientation by the file's own properties alone, bounded grids, sequences."""

import struct

import pytest
from PIL import ExifTags, Image

from tests.support.image_checks import assert_shows, refusal
from tests.support.image_files import encode, scene

TURNED = scene().transpose(Image.Transpose.ROTATE_90)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def avif(image: Image.Image, turn: int) -> bytes:
    """An AVIF with the orientation in its properties and in EXIF."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation], tags[ExifTags.Base.Make] = turn, "a camera"
    return encode(image, "AVIF", quality=95, exif=tags.tobytes())


def test_a_picture_is_turned_once() -> None:
    """EXIF says the same as the properties: the picture is turned once."""
    assert_shows(avif(TURNED, 6), scene(), slack=6)


def test_damaged_exif_is_not_read() -> None:
    """EXIF that is no TIFF is no reason to refuse; the properties still turn."""
    data = avif(TURNED, 6)
    at = data.rindex(b"MM\x00*") if b"MM\x00*" in data else data.rindex(b"II*\x00")
    assert_shows(data[:at] + b"????" + data[at + 4 :], scene(), slack=6)


def heif_items(kind: bytes, tiles: int, size: tuple[int, int]) -> bytes:
    """A HEIF whose primary picture has a codec, a size and a number of tiles, and no pixels."""
    entry = box(b"infe", b"\x02\x00\x00\x00\x00\x01\x00\x00" + kind + b"\x00")
    references = box(b"dimg", struct.pack(">HH", 1, tiles) + b"\x00\x02" * tiles)
    properties = box(b"ipco", box(b"ispe", struct.pack(">III", 0, *size)))
    properties += box(b"ipma", struct.pack(">IIHBB", 0, 1, 1, 1, 1))
    items = box(b"pitm", b"\x00\x00\x00\x00\x00\x01") + box(b"iinf", b"\x00\x00\x00\x00\x00\x01" + entry)
    items += box(b"iref", b"\x00\x00\x00\x00" + references) + box(b"iprp", properties)
    return box(b"ftyp", b"heic\x00\x00\x00\x00mif1heic") + box(b"meta", b"\x00\x00\x00\x00" + items)


@pytest.mark.parametrize(
    ("kind", "tiles", "size", "code"),
    [
        (b"hvc1", 0, (99, 99), "corrupt_image"),
        (b"grid", 2_000, (9_000, 9_000), "image_too_complex"),
        (b"hvc1", 0, (20_000, 20_000), "image_too_large"),
        (b"vvc1", 0, (99, 99), "unsupported_format"),
        (b"j2k1", 0, (99, 99), "unsupported_format"),
    ],
)
def test_items_decide_before_decoding(kind: bytes, tiles: int, size: tuple[int, int], code: str) -> None:
    """The codec, the number of tiles and the size come from the items."""
    pytest.importorskip("pillow_heif")
    assert refusal(heif_items(kind, tiles, size)).code == code


def test_a_sequence_without_a_still_picture() -> None:
    """A file of frames alone is valid, and named."""
    pytest.importorskip("pillow_heif")
    error = refusal(
        box(b"ftyp", b"hevc\x00\x00\x00\x00msf1hevc") + box(b"moov", bytes(40)) + box(b"mdat", bytes(99))
    )
    assert (error.code, "sequence" in str(error)) == ("unsupported_format", True)

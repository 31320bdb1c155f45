"""Raw photographs: their names, and the full-size preview that cameras store beside the samples of the sensor.

The samples of a sensor are no picture: a converter makes the picture, with the maker's colours. Raw photographs
are recognised by their first bytes, or, as TIFF files, by a page with a colour filter array.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from dropline.errors import ImageRefused, InvalidImage
from dropline.images.tiff_directories import Directory, subdirectories, walk

_MAGIC = (
    (0, b"II*\0\x10\0\0\0CR", "CR2"),
    (0, b"IIRO", "ORF"),
    (0, b"IIRS", "ORF"),
    (0, b"MMOR", "ORF"),
    (0, b"IIU\0", "RW2"),
    (0, b"FUJIFILMCCD-RAW", "RAF"),
    (4, b"ftypcrx ", "CR3"),
    (6, b"HEAPCCDR", "CRW"),
    (0, b"\0MRM", "MRW"),
    (0, b"FOVb", "X3F"),
    (8, b"IIII", "IIQ"),
    (8, b"MMMM", "IIQ"),
)
_TIFF_HEADERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: The suffix that each maker gives to raw photographs, by the start of the tag Make.
_SUFFIXES = {
    "NIKON": "NEF", "SONY": "ARW", "CANON": "CR2", "PENTAX": "PEF", "RICOH": "PEF", "SAMSUNG": "SRW",
    "OLYMPUS": "ORF", "PANASONIC": "RW2", "FUJIFILM": "RAF", "HASSELBLAD": "3FR", "PHASE ONE": "IIQ",
    "LEAF": "MOS", "MAMIYA": "MEF", "EPSON": "ERF", "SEIKO EPSON": "ERF", "EASTMAN KODAK": "DCR", "KODAK": "KDC",
    "MINOLTA": "MRW", "LEICA": "RWL",
}  # fmt: skip
#: Colour filter array, and the linear samples of a DNG.
_SENSOR_SAMPLES = frozenset({32803, 34892})
#: Compressions that only raw photographs use: Sony, Samsung, Nikon, Pentax, lossy DNG.
_SENSOR_COMPRESSIONS = frozenset({32767, 32770, 34713, 65535, 34892})
#: The main directories in which cameras store samples and previews: a CR2 has four.
_CAMERA_DIRECTORIES = 4
#: Sensors have a border that the camera's own picture lacks: up to 5 % of a side.
_FULL_SIZE = 0.9
_BASELINE_TO_PROGRESSIVE = (0xC0, 0xC1, 0xC2)
_LOSSLESS = 0xC3
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture that the camera made of the sensor's samples."""

    #: A whole JPEG file.
    jpeg: bytes
    #: Of the raw photograph, as in EXIF, 1 to 8 or a senseless value.
    orientation: int


@dataclass(frozen=True, slots=True)
class _Frame:
    """The header of a JPEG's frame."""

    marker: int
    width: int
    height: int
    components: int
    bits: int


def raw_photograph(data: bytes) -> str | None:
    """Return the name of a raw photograph, as "a raw photograph (NEF)"; None for other bytes.

    A TIFF is a raw photograph if a page holds the samples of a sensor; the maker alone does not decide, since
    cameras and their programs write finished pictures as TIFF too. Without I/O; a damaged TIFF is no error here.
    """
    for at, magic, suffix in _MAGIC:
        if data.startswith(magic, at) and (at != 8 or data.startswith((b"II", b"MM"))):
            return _name(suffix)
    if not data.startswith(_TIFF_HEADERS):
        return None
    directories = list(_camera_directories(data))
    if not any(_is_sensor_page(each) for each in directories):
        return None
    return _name(_tiff_suffix(directories))


def _name(suffix: str) -> str:
    return f"a raw photograph ({suffix})"


def _tiff_suffix(directories: list[Directory]) -> str:
    if any(50706 in each.entries for each in directories):
        return "DNG"
    makes = [text.upper() for each in directories if (text := _text(each, 271))]
    for make in makes:
        for start, suffix in _SUFFIXES.items():
            if make.startswith(start):
                return suffix
    return "TIFF with the samples of a sensor"


def _text(directory: Directory, tag: int) -> str:
    try:
        return directory.text(tag)
    except InvalidImage:
        return ""


def _is_sensor_page(page: Directory) -> bool:
    return _integer(page, 262) in _SENSOR_SAMPLES or _integer(page, 259) in _SENSOR_COMPRESSIONS


def _integer(page: Directory, tag: int) -> int:
    try:
        return page.integer(tag, 0)
    except InvalidImage:
        return 0


def _camera_directories(data: bytes) -> Iterator[Directory]:
    """The first directories and their subdirectories, up to the first that is damaged."""
    try:
        for page in islice(walk(data), _CAMERA_DIRECTORIES):
            yield page
            yield from subdirectories(page)
    except (InvalidImage, ImageRefused):
        return


def full_size_preview(data: bytes) -> Preview | None:
    """Return the largest JPEG preview of a raw photograph that is a TIFF, if about as large as the photograph.

    A smaller preview is a thumbnail, and no picture: None. Without I/O; damaged parts are skipped.
    """
    if not data.startswith(_TIFF_HEADERS):
        return None
    directories = list(_camera_directories(data))
    wanted = max((_sensor_size(each) for each in directories), default=(0, 0))
    previews = [found for each in directories if (found := _preview(each))]
    if not previews or not wanted[0]:
        return None
    (width, height), jpeg = max(previews, key=lambda found: found[0])
    if width < _FULL_SIZE * wanted[0] or height < _FULL_SIZE * wanted[1]:
        return None
    return Preview(jpeg, _integer(directories[0], 274))


def _sensor_size(page: Directory) -> tuple[int, int]:
    """Width and height of the sensor's samples; (0, 0) for other pages."""
    if _is_sensor_page(page):
        return _integer(page, 256), _integer(page, 257)
    frame = _frame(_jpeg_bytes(page))
    # In a CR2, only the sensor's page is lossless JPEG; the width is that of all components together.
    if frame is None or frame.marker != _LOSSLESS:
        return 0, 0
    width = frame.width * (1 if frame.components % 2 else frame.components)
    return (width // 2, frame.height * 2) if width > 4 * frame.height else (width, frame.height)


def _preview(page: Directory) -> tuple[tuple[int, int], bytes] | None:
    """Width and height, and the bytes of the page's JPEG; None for a page without a finished picture."""
    jpeg = _jpeg_bytes(page)
    frame = _frame(jpeg)
    if frame is None or frame.marker not in _BASELINE_TO_PROGRESSIVE or frame.bits != 8 or frame.components != 3:
        return None
    return (frame.width, frame.height), jpeg


def _jpeg_bytes(page: Directory) -> bytes:
    """The page's JPEG file; empty for a page that is no single JPEG file."""
    for offsets, counts in ((513, 514), (273, 279), (324, 325)):
        try:
            at, size = page.integers(offsets, 2), page.integers(counts, 2)
        except InvalidImage:
            continue
        if len(at) == len(size) == 1 and page.data.startswith(b"\xff\xd8\xff", at[0]):
            return page.data[at[0] : at[0] + size[0]]
    return b""


def _frame(jpeg: bytes) -> _Frame | None:
    at = 2
    while at + 10 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker in _FRAMES:
            height, width = int.from_bytes(jpeg[at + 5 : at + 7]), int.from_bytes(jpeg[at + 7 : at + 9])
            return _Frame(marker, width, height, jpeg[at + 9], jpeg[at + 4])
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    return None


def jpeg_size(page: Directory) -> tuple[bytes, tuple[int, int]]:
    """The page's finished JPEG file with its width and height; empty, 0 and 0 where the page has none."""
    jpeg = _jpeg_bytes(page)
    frame = _frame(jpeg)
    if frame is None or frame.marker not in _BASELINE_TO_PROGRESSIVE or frame.bits != 8:
        return b"", (0, 0)
    return jpeg, (frame.width, frame.height)

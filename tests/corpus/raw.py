"""Raw photographs: the headers of the makers around samples of a sensor, with and without previews."""

import struct
from functools import partial
from typing import Any

import numpy as np

from tests.corpus.expected import Case, Refused, Shown
from tests.corpus.jpeg import jpeg, stored
from tests.corpus.scenes import SIZE, grey, pixels, scene
from tests.corpus.writers.boxes import box, file_type
from tests.corpus.writers.tiff import RGB, Page, page, tiff

_case = partial(Case, "Raw photographs")
_SENSOR, _LINEAR = 32803, 34892
_S = Shown("S")


def _raw(name: str) -> Refused:
    return Refused("unsupported_format", f"a raw photograph ({name})")


def _sensor(compression: int = 1) -> Page:
    """The samples of a sensor, one colour each."""
    samples = grey().astype(np.uint16) * 16
    pattern: dict[int, Any] = {33421: [2, 2], 33422: b"\x00\x01\x01\x02"}
    return page(samples, _SENSOR, compression=compression, more=pattern)


def _thumbnail(make: bytes) -> Page:
    return page(pixels("G", size=(40, 30)), RGB, more={254: 1, 271: make + b"\x00", 272: b"Model\x00"})


def _preview(size: tuple[int, int] = SIZE, kind: int = 1) -> Page:
    """A JPEG as a page of one strip."""
    data = jpeg(scene("S", size=size))
    return Page(
        [data], {254: kind, 256: size[0], 257: size[1], 258: [8, 8, 8], 259: 7, 262: 6, 277: 3, 278: size[1]}
    )


def _with_children(first: Page, *children: Page) -> bytes:
    first.children = list(children)
    return tiff(first)


def _nef(*previews: Page, order: str = "<") -> bytes:
    return _with_children(_thumbnail(b"NIKON CORPORATION"), *previews, _sensor(34713))


def _turned_nef() -> bytes:
    """Sensor and preview lie on their side; the orientation of the first page turns both."""
    image = stored(scene("S"), 6)
    preview = _preview((120, 160))
    preview.parts = [jpeg(image)]
    first = _thumbnail(b"NIKON CORPORATION")
    first.tags[274] = 6
    samples = np.rot90(grey()).astype(np.uint16) * 16
    return _with_children(first, preview, page(samples, _SENSOR, compression=34713))


def _dng(first: Page, *children: Page) -> bytes:
    first.tags |= {50706: b"\x01\x04\x00\x00", 271: b"Google\x00"}
    return _with_children(first, *children)


def _cr2(previews: bool) -> bytes:
    """Canon's header names the last directory."""
    pages = [_preview() if previews else _preview((40, 30)), _sensor(6)]
    pages[0].tags[271] = b"Canon\x00"
    data = bytearray(tiff(*pages))
    first = int.from_bytes(data[4:8], "little")
    # Canon's header goes before all addressed parts.
    assert first >= 16
    return _shifted(bytes(data), 8, b"CR\x02\x00" + bytes(4))


def _shifted(data: bytes, at: int, inserted: bytes) -> bytes:
    """A little-endian TIFF with more bytes behind the header; offsets in tags of LONG are moved."""
    out = bytearray(data[:at] + inserted + data[at:])
    step = len(inserted)
    place = 4
    while directory := int.from_bytes(out[place : place + 4], "little"):
        directory += step
        out[place : place + 4] = struct.pack("<I", directory)
        count = int.from_bytes(out[directory : directory + 2], "little")
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from("<HHII", out, entry)
            size = {1: 1, 2: 1, 3: 2, 4: 4}[kind] * number
            if size > 4 or tag == 273:
                struct.pack_into("<I", out, entry + 8, value + step)
        place = directory + 2 + 12 * count
    return bytes(out)


def _raf(size: tuple[int, int]) -> bytes:
    """Fujifilm: a big-endian header with the place of a JPEG."""
    data = jpeg(scene("S", size=size))
    head = b"FUJIFILMCCD-RAW 0201FF129506X100".ljust(84, b"\x00")
    places = struct.pack(">IIIIII", 148, len(data), 148 + len(data), 64, 148 + len(data), 64)
    return (head + places).ljust(148, b"\x00") + data + bytes(200)


def _cr3(size: tuple[int, int]) -> bytes:
    """Canon: an ISO file with a preview in a separate box."""
    data = jpeg(scene("S", size=size))
    preview = box(b"PRVW", bytes(6), struct.pack(">HHHHI", 1, *size, 1, len(data)), data)
    uuid = box(b"uuid", bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16"), bytes(8), preview)
    return file_type(b"crx ", b"crx ", b"isom") + box(b"moov", bytes(80)) + uuid + box(b"mdat", bytes(200))


def _marked(mark: bytes, order: str = "<") -> bytes:
    """A TIFF with the maker's own signature."""
    data = tiff(page(grey().astype(np.uint16), _SENSOR, order=order), order=order)
    return mark + data[len(mark) :]


# fmt: off
CASES = (
    _case("raw_nef_thumbnail.nef", "NEF with a thumbnail", _nef, _raw("NEF")),
    _case("raw_nef_preview.nef", "NEF with a preview of full size", lambda: _nef(_preview()), _S),
    _case("raw_nef_small_preview.nef", "NEF with a preview of a quarter of the size",
          lambda: _nef(_preview((80, 60))), _raw("NEF")),
    _case("raw_nef_turned_preview.nef", "NEF with a preview of full size and an orientation", _turned_nef, _S),
    _case("raw_nef_named.jpg", "NEF under the name of a JPEG", _nef, _raw("NEF")),
    _case("raw_dng_sensor.dng", "DNG, samples of the sensor on the first page",
          lambda: _dng(_sensor()), _raw("DNG")),
    _case("raw_dng_thumbnail.dng", "DNG with a thumbnail",
          lambda: _dng(_thumbnail(b"Google"), _sensor(7)), _raw("DNG")),
    _case("raw_dng_preview.dng", "DNG with a preview of full size",
          lambda: _dng(_thumbnail(b"Google"), _sensor(7), _preview()), _S),
    _case("raw_dng_linear.dng", "DNG with linear samples",
          lambda: _dng(page(pixels().astype(np.uint16) * 16, _LINEAR)), _raw("DNG")),
    _case("raw_arw.arw", "ARW with a thumbnail",
          lambda: _with_children(_thumbnail(b"SONY"), _sensor(32767)), _raw("ARW")),
    _case("raw_pef.pef", "PEF with a thumbnail",
          lambda: _with_children(_thumbnail(b"PENTAX"), _sensor(65535)), _raw("PEF")),
    _case("raw_cr2.cr2", "CR2 with a thumbnail", lambda: _cr2(False), _raw("CR2")),
    _case("raw_cr2_preview.cr2", "CR2 with a preview of full size", lambda: _cr2(True), _S),
    _case("raw_rw2.rw2", "RW2", lambda: _marked(b"IIU\x00"), _raw("RW2")),
    _case("raw_orf.orf", "ORF", lambda: _marked(b"IIRO"), _raw("ORF")),
    _case("raw_orf_iirs.orf", "ORF of older cameras", lambda: _marked(b"IIRS"), _raw("ORF")),
    _case("raw_orf_mmor.orf", "ORF, big-endian", lambda: _marked(b"MMOR", ">"), _raw("ORF")),
    _case("raw_raf.raf", "RAF with a small preview", lambda: _raf((40, 30)), _raw("RAF")),
    _case("raw_cr3.cr3", "CR3", lambda: _cr3((40, 30)), _raw("CR3")),
    _case("raw_crw.crw", "CRW", lambda: b"II\x1a\x00\x00\x00HEAPCCDR" + bytes(200), _raw("CRW")),
    _case("raw_x3f.x3f", "X3F", lambda: b"FOVb\x00\x00\x02\x00" + bytes(200), _raw("X3F")),
    _case("raw_mrw.mrw", "MRW", lambda: b"\x00MRM" + bytes(200), _raw("MRW")),
    _case("raw_maker_of_a_tiff.tif", "a finished TIFF of a camera's maker",
          lambda: tiff(page(pixels(), RGB, more={271: b"NIKON CORPORATION\x00"})), _S),
)
# fmt: on

"""Formats without a decoder whose signatures are weak: a probe of each checks more of the header.

Sources: the magic files of `file` 5.44, and the specifications of the formats. A probe is exact enough that
unknown bytes and text are not taken for the format. Some formats that `file` has as images are left out,
because their signatures of one to three bytes are frequent in other files: raw group 3 fax, Brooktrout fax,
MGR, VISX, BS, Zebra Metafile, Solitaire Image Recorder, compact bitmap, the first Award BIOS logo, the pictures
of MSX, Pi and PIC of Yanagisawa, PBF, and the images of the MAR area detector. A Windows icon library and a
Garmin update are programs.
"""

import re
import struct
from collections.abc import Callable

_DWG = re.compile(rb"(?:AC1\d{3}|AC[12]\.\d{1,2}|MC0\.0)\x00")
#: A brush of GIMP of several pictures: a line with the name, and a line with the count.
_GIH = re.compile(rb"[^\n\x00]{1,255}\n\d{1,4} ncells:")
#: Bytes of a picture of the Atari ST without compression: 32,000 of pixels, the palette, and what programs add.
_DEGAS_BYTES = frozenset({32_034, 32_066, 32_128})
_KOMPAS = re.compile(rb"KF[\x00-\xff]\x00\x00[\x03-\x0c]")
#: TGA: image types, each with the bits per pixel that it may have.
_TGA_DEPTHS = {1: {8, 16}, 2: {15, 16, 24, 32}, 3: {8, 16}, 9: {8, 16}, 10: {15, 16, 24, 32}, 11: {8, 16}}
_PFM = re.compile(rb"P[Ff]\s+\d{1,9}\s+\d{1,9}\s+-?[\d.]{1,20}\s")
_TGA_FOOTER = b"TRUEVISION-XFILE."


def _is_icon(data: bytes) -> bool:
    return data.startswith(b"\x00\x00\x01\x00") and _has_icon_entry(data)


def _is_cursor(data: bytes) -> bool:
    return data.startswith(b"\x00\x00\x02\x00") and _has_icon_entry(data)


def _has_icon_entry(data: bytes) -> bool:
    """Check the first entry: its picture lies behind the list of entries."""
    count, size, at = _little(data, 4, 2), _little(data, 14, 4), _little(data, 18, 4)
    return len(data) >= 22 and count > 0 and size > 0 and 6 + 16 * count <= at


def _is_pcx(data: bytes) -> bool:
    if len(data) < 128 or data[0] != 0x0A or data[1] not in (0, 2, 3, 4, 5) or data[2] != 1:
        return False
    left, top, right, bottom = (_little(data, at, 2) for at in (4, 6, 8, 10))
    return data[3] in (1, 2, 4, 8) and left <= right and top <= bottom and 1 <= data[65] <= 4


def _is_sgi(data: bytes) -> bool:
    return data.startswith(b"\x01\xda") and len(data) > 6 and data[2] in (0, 1) and data[3] in (1, 2)


def _is_tga(data: bytes) -> bool:
    if data[-18:-1] == _TGA_FOOTER:
        return True
    if len(data) < 18 or data[16] not in _TGA_DEPTHS.get(data[2], ()) or data[17] & 0xC0:
        return False
    mapped = data[2] in (1, 9)
    if data[1] != mapped or (data[7] not in (15, 16, 24, 32) if mapped else any(data[3:8])):
        return False
    width, height = _little(data, 12, 2), _little(data, 14, 2)
    # A run of a compressed TGA has at most 128 pixels, in two bytes or more.
    smallest = width * height * data[16] // 8 if data[2] < 9 else width * height // 64
    return width > 0 and height > 0 and len(data) >= 18 + smallest


def _is_wbmp(data: bytes) -> bool:
    """Check a header of two zero bytes, width and height against the exact length of the file."""
    if not data.startswith(b"\x00\x00"):
        return False
    width, at = _wbmp_number(data, 2)
    height, at = _wbmp_number(data, at)
    return width >= 8 and height >= 8 and len(data) == at + (width + 7) // 8 * height


def _wbmp_number(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for each in data[at : at + 3]:
        value, at = value << 7 | each & 0x7F, at + 1
        if each < 0x80:
            break
    return value, at


def _is_os2_bitmap(data: bytes) -> bool:
    header = _little(data, 28, 4) if data.startswith(b"BA") else _little(data, 14, 4)
    return data[:2] in (b"BA", b"CI", b"CP", b"IC", b"PT") and header in (12, 40, 64)


def _is_dib(data: bytes) -> bool:
    planes, bits = (4, 6) if _little(data, 0, 4) == 12 else (12, 14)
    return (
        _little(data, 0, 4) in (12, 40, 56, 108, 124)
        and _little(data, planes, 2) == 1
        and _little(data, bits, 2) in (1, 4, 8, 16, 24, 32)
    )


def _little(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count], "little")


def _is_xwd(data: bytes) -> bool:
    """Check the lengths, the version and the format of an X11 screen dump, in either byte order."""
    if len(data) < 100:
        return False
    for order in "<>":
        header, version, kind, depth = struct.unpack_from(f"{order}4I", data)
        if 100 <= header <= 1_024 and version == 7 and kind <= 2 and 1 <= depth <= 32:
            return len(data) >= header
    return False


def _is_dwg(data: bytes) -> bool:
    return _DWG.match(data) is not None


def _is_pfm(data: bytes) -> bool:
    return _PFM.match(data) is not None


def _is_binary_cgm(data: bytes) -> bool:
    """Check the first two elements: the begin of the metafile with its name, and the version."""
    if len(data) < 6 or data[0] != 0 or data[1] & 0xE0 != 0x20:
        return False
    length, at = data[1] & 0x1F, 2
    if length == 31:
        length, at = int.from_bytes(data[2:4], "big"), 4
    return length < 0x8000 and data.startswith(b"\x10\x22", at + length + length % 2)


def _is_gem(data: bytes) -> bool:
    if len(data) < 16:
        return False
    version, words, planes, pattern, across, down, width, height = struct.unpack_from(">8H", data)
    signed = data[16:20] in (b"XIMG", b"TIMG", b"STTT")
    plain = version == 1 and words in (8, 9, 24, 25) and planes in (1, 2, 3, 4, 8, 16, 24, 32)
    return (plain or (signed and version < 3)) and 1 <= pattern <= 8 and min(across, down, width, height) > 0


def _is_degas(data: bytes) -> bool:
    """Check the resolution and the palette of sixteen colours of three or four bits each."""
    if len(data) < 34 or data[0] not in (0, 0x80) or data[1] > 2:
        return False
    if data[0] == 0 and len(data) not in _DEGAS_BYTES:
        return False
    palette = struct.unpack_from(">16H", data, 2)
    return max(palette) <= 0xFFF and len(set(palette)) > 1


def _is_tim(data: bytes) -> bool:
    """Check the length and the size of the palette or of the pixels, whichever stand first."""
    if len(data) < 20 or not data.startswith(b"\x10\x00\x00\x00"):
        return False
    length, width, height = _little(data, 8, 4), _little(data, 16, 2), _little(data, 18, 2)
    return _little(data, 4, 4) in (0, 1, 2, 3, 4, 8, 9) and length == 12 + 2 * width * height > 12


def _is_intergraph(data: bytes) -> bool:
    if len(data) < 512 or data[0] != 0x08 or data[1] not in (1, 9) or data[2] != 0xFE:
        return False
    return 0 < _little(data, 184, 4) <= 0xFFFFFF and 0 < _little(data, 188, 4) <= 0xFFFFFF


def _is_bio_rad(data: bytes) -> bool:
    """Check the magic number inside the header, and the length of the pixels of a microscope's pictures."""
    if len(data) < 76 or _little(data, 54, 2) != 12_345:
        return False
    samples = _little(data, 0, 2) * _little(data, 2, 2) * _little(data, 4, 2)
    return _little(data, 14, 2) in (0, 1) and 0 < samples <= len(data) - 76


def _is_microsoft_paint(data: bytes) -> bool:
    """Check the sum of the header's words, which is zero."""
    if len(data) < 32 or data[:4] not in (b"DanM", b"LinS"):
        return False
    total = 0
    for word in struct.unpack_from("<16H", data):
        total ^= word
    return total == 0


def _is_lepton(data: bytes) -> bool:
    return data.startswith((b"\xcf\x84\x01", b"\xcf\x84\x02")) and data[3:4] in (b"X", b"Y", b"Z")


def _is_ulead_imaginfo(data: bytes) -> bool:
    signature = data[11:19] == b"\x01" + bytes(7)
    return signature and data[19:24] in (b"\x00\x01\x00\x03\x00", b"\x00\x00\x00\x04\x00")


def _is_3d_studio(data: bytes) -> bool:
    version = data.startswith(b"MM") and data[6:12] == b"\x02\x00\x0a\x00\x00\x00"
    return version and data[16:18] == b"\x3d\x3d"


def _is_old_xwd(data: bytes) -> bool:
    return data.startswith((b"\x00\x00\x00\x28\x00\x00\x00\x06", b"\x28\x00\x00\x00\x06\x00\x00\x00"))


def _is_brush_pipe(data: bytes) -> bool:
    return _GIH.match(data) is not None


def _is_kompas(data: bytes) -> bool:
    return _KOMPAS.match(data) is not None


PROBES: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (_is_icon, "a Windows icon (ICO)"),
    (_is_cursor, "a Windows cursor (CUR)"),
    (_is_pfm, "a PFM image of floating-point samples"),
    (_is_xwd, "an X11 screen dump (XWD)"),
    (_is_dwg, "a DWG drawing"),
    (_is_pcx, "a PCX image"),
    (_is_sgi, "an SGI image"),
    (_is_dib, "a Windows bitmap without its file header (DIB)"),
    (_is_os2_bitmap, "an OS/2 bitmap array or icon"),
    (_is_tga, "a TGA image"),
    (_is_binary_cgm, "a CGM drawing"),
    (_is_gem, "a GEM image (IMG)"),
    (_is_degas, "a DEGAS image of the Atari ST"),
    (_is_tim, "a PlayStation image (TIM)"),
    (_is_intergraph, "an Intergraph image"),
    (_is_bio_rad, "a Bio-Rad microscope image"),
    (_is_microsoft_paint, "a Microsoft Paint image (MSP)"),
    (_is_lepton, "a JPEG compressed by Lepton"),
    (_is_ulead_imaginfo, "thumbnails of Ulead (Imaginfo)"),
    (_is_3d_studio, "a 3D Studio model"),
    (_is_old_xwd, "an X10 screen dump (XWD)"),
    (_is_brush_pipe, "an animated GIMP brush"),
    (_is_kompas, "a Kompas drawing"),
    (_is_wbmp, "a WBMP image"),
)

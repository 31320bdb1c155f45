"""Images in formats of other and older programs: refused by name. And texts that begin like these formats."""

import struct
import uuid

from tests.corpus.expected import Case, Refused

_DXF = "0\nSECTION\n2\nHEADER\n9\n$ACADVER\n1\nAC1009\n0\nENDSEC\n0\nEOF\n"
_REST = bytes(600)


def _words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def _compound(kind: uuid.UUID, second: str = "") -> bytes:
    """A compound file with a directory of two entries in its first sector."""
    root = "Root Entry\0".encode("utf-16-le").ljust(64, b"\0") + struct.pack("<HB", 22, 5)
    root = root.ljust(80, b"\0") + kind.bytes_le
    header = bytes.fromhex("d0cf11e0a1b11ae1").ljust(30, b"\0") + struct.pack("<H", 9).ljust(482, b"\0")
    return header + root.ljust(128, b"\0") + second.encode("utf-16-le").ljust(384, b"\0")


def _microsoft_paint() -> bytes:
    words = [0x6144, 0x4D6E, 16, 2, 1, 1, 1, 1, 16, 2, 0, 0]
    total = 0
    for word in words:
        total ^= word
    return struct.pack("<16H", *words, total, 0, 0, 0) + bytes(4)


def _intergraph() -> bytes:
    head = bytearray(b"\x08\x09\xfe\x00\x18\x00".ljust(1024, b"\0"))
    head[184:192] = struct.pack("<II", 160, 120)
    return bytes(head)


def _bio_rad() -> bytes:
    head = struct.pack("<7H", 4, 4, 1, 0, 255, 0, 0) + struct.pack("<h", 1)
    return head.ljust(54, b"\0") + struct.pack("<H", 12_345) + bytes(20) + bytes(16)


_PALETTE = _words(0x777, *[0x700] * 15)
# fmt: off
#: File name, description, bytes, word in the error.
_FILES: tuple[tuple[str, str, bytes, str], ...] = (
    ("old.dxf", "DXF", _DXF.encode(), "DXF"),
    ("old_crlf.dxf", "DXF with comments and CR LF",
     f"  999\nby hand\n  {_DXF}".replace("\n", "\r\n").encode(), "DXF"),
    ("old_binary.dxf", "binary DXF", b"AutoCAD Binary DXF\r\n\x1a\0" + _REST, "DXF"),
    ("old.dwg", "DWG", b"AC1032\0" + _REST, "DWG"),
    ("old_early.dwg", "DWG of an early release", b"AC2.10\0" + _REST, "DWG"),
    ("old.cgm", "CGM", b"\x00\x24cube\x10\x22\x00\x01" + _REST, "CGM"),
    ("old_long.cgm", "CGM with a long name", b"\x00\x3f\x00\x29" + b"n" * 41 + b"\0\x10\x22\0\1" + _REST, "CGM"),
    ("old_text.cgm", "CGM in text", b"BegMF 'cube';\nMFVersion 1;\n", "CGM"),
    ("old.mvg", "MVG", b"push graphic-context\nviewbox 0 0 9 9\npop graphic-context\n", "MVG"),
    ("old.fig", "XFIG", b"#FIG 3.2\nLandscape\nCenter\n", "XFIG"),
    ("old.tim", "TIM", struct.pack("<3I4H", 16, 2, 12 + 32, 0, 0, 4, 4) + bytes(32), "TIM"),
    ("old_palette.tim", "TIM with a palette", struct.pack("<3I4H", 16, 8, 44, 0, 0, 16, 1) + bytes(99), "TIM"),
    ("old.fpx", "FlashPix", _compound(uuid.UUID("56616700-c154-11ce-8553-00aa00a1f95b")), "FlashPix"),
    ("old.tpl", "a Ulead template", _compound(uuid.UUID(int=0), "TplHeader"), "Ulead"),
    ("old.img", "GEM", _words(1, 8, 1, 2, 85, 85, 160, 120) + _REST, "GEM"),
    ("old_ximg.img", "GEM with a palette", _words(1, 59, 4, 2, 85, 85, 9, 9) + b"XIMG" + _REST, "GEM"),
    ("old.gem", "a GEM drawing", b"\xff\xff\x18\x00\x65\x00" + _REST, "GEM"),
    ("old.pi1", "DEGAS", b"\0\0" + _PALETTE + bytes(32_000), "DEGAS"),
    ("old.pc2", "DEGAS, compressed", b"\x80\1" + _PALETTE + bytes(900), "DEGAS"),
    ("old.cit", "Intergraph", _intergraph(), "Intergraph"),
    ("old.pe4", "thumbnails of Ulead", b"IIO2H" + _REST, "Ulead"),
    ("old.pe3", "thumbnails of an older Ulead", b"IIO1$" + _REST, "Ulead"),
    ("old_imaginfo.pe3", "a list of thumbnails of Ulead",
     bytes(11) + b"\1" + bytes(8) + b"\1\0\3" + bytes(99), "Ulead"),
    ("old.pst", "a Ulead pattern", b"\xff\xff\x01\x00" + bytes(4) + b"PresetInfo" + _REST, "Ulead"),
    ("old_2.msp", "Microsoft Paint", _microsoft_paint(), "Microsoft Paint"),
    ("old.pic", "Bio-Rad", _bio_rad(), "Bio-Rad"),
    ("old.lep", "Lepton", b"\xcf\x84\x01Z" + _REST, "Lepton"),
    ("old.3ds", "3D Studio", b"MM" + struct.pack("<IHIIH", 99, 2, 10, 3, 0x3D3D) + _REST, "3D Studio"),
    ("old.gih", "an animated GIMP brush", b"Stars\n2 ncells:2 dim:1\n" + _REST, "GIMP"),
    ("old.wsq", "WSQ", b"\xff\xa0\xff\xa8" + _REST, "WSQ"),
    ("old.art", "ART of AOL", b"JG\x04\x0e" + _REST, "ART"),
    ("old.vbm", "VBM", b"BM\xcb\x02" + _words(8, 8) + b"\xaa" * 64, "VBM"),
    ("old_3.vbm", "VBM, version 3", b"BM\xcb\x03" + _words(8, 8) + bytes(99), "VBM"),
    ("old.xv", "a thumbnail of XV", b"P7 332\n#END_OF_COMMENTS\n8 8 255\n" + bytes(64), "XV"),
    ("old_x10.xwd", "XWD of X10", struct.pack(">2I", 40, 6) + _REST, "XWD"),
    ("old_award.bmp", "an Award BIOS logo", b"AWBM\0\0\x40\0" + _REST, "Award"),
    ("old.mag", "Maki-chan", b"MAKI02  A1  user\x1a" + _REST, "Maki-chan"),
    ("old.pvr", "a Sega texture", b"GBIX\4\0\0\0" + _REST, "Sega"),
    ("old.qtk", "QuickTake", b"qktk\0\0" + _REST, "QuickTake"),
    ("old.ari", "ARRI", b"ARRI\x12\x34\x56\x78" + _REST, "ARRI"),
    ("old.svm", "StarView", b"VCLMTF\1\0" + _REST, "StarView"),
    ("old.sff", "a structured fax", b"Sfff\1\0" + _REST, "fax"),
    ("old.info", "an icon of the Amiga", b"\xe3\x10\x00\x01" + _REST, "Amiga"),
    ("old.anim", "an IFF animation", b"FORM\0\0\2\0ANIMFORM" + _REST, "IFF"),
    ("old.pgf", "PGF", b"PGF6\x10\0\0\0" + _REST, "PGF"),
    ("old.nitf", "NITF", b"NITF02.10" + b" " * 99 + b"\0" + _REST, "NITF"),
)
#: Signatures of letters, each at the beginning of a text.
_WORDS = ("PGF", "NITF", "FLIF", "qoif", "DDS ", "IIN1", "icns", "ARRI", "PVRT", "IT01", "MAKI01",
          "B&W256")
_TEXTS: tuple[tuple[str, str, bytes], ...] = (
    *((f"text_{i}.txt", f"text that begins with {word.strip()}", f"{word} is a format.\n".encode() * 9)
      for i, word in enumerate(_WORDS)),
    ("text_brush.txt", "text with GIMP at a brush's place", b"We paint pictures w. GIMP and like it.\n" * 9),
    ("text_zero.txt", "a list of numbers that begins with 0", b"0\nSECTIONS\n2\nHEADERS\n" * 9),
    ("text_begmf.txt", "text about CGM", b"BEGMF begins a CGM file.\n" * 9),
    ("text_push.txt", "text about push", b"push graphic-contexts to the stack\n" * 9),
    ("text_fig.txt", "a comment about figures", b"#FIGURES of the chapter\n" * 9),
)
# fmt: on

CASES = (
    *(
        Case("Other formats", name, what, lambda data=data: data, Refused("unsupported_format", word))  # type: ignore[misc]
        for name, what, data, word in _FILES
    ),
    *(
        Case("No images", name, what, lambda data=data: data, Refused("not_an_image", "text"))  # type: ignore[misc]
        for name, what, data in _TEXTS
    ),
)

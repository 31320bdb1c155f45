"""Images of other formats: decoded, or refused by name."""

import gzip
import struct
from functools import partial
from typing import Any

import numpy as np

from tests.corpus.expected import Case, Refused, Shown
from tests.corpus.scenes import HEIGHT, SIZE, WHITE, WIDTH, grey, pixels, scene
from tests.corpus.writers.bits import packed_rows, scaled
from tests.corpus.writers.boxes import box, file_type
from tests.corpus.writers.png import png
from tests.support.image_files import SVG, encode

_pnm, _other, _drawing = partial(Case, "PNM"), partial(Case, "Other formats"), partial(Case, "Drawings")
_S, _G, _BW = Shown("S"), Shown("G"), Shown("black star", ground=WHITE)
_G8 = Shown("G", tolerance=8)


def _no(words: str) -> Refused:
    return Refused("unsupported_format", words)


def _head(*lines: str) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _plain(samples: Any) -> bytes:
    return b"\n".join(" ".join(map(str, row)).encode() for row in samples.reshape(len(samples), -1).tolist())


def _bilevel() -> Any:
    """1 is black."""
    return (grey("black star", WHITE) < 128).astype(np.uint8)


def _saved(kind: str, **options: Any) -> bytes:
    return encode(scene("S"), kind, **options)


_SIZE = f"{WIDTH} {HEIGHT}"
# fmt: off
PNM_CASES = (
    _pnm("pnm_p6.ppm", "PPM (P6)", lambda: _head("P6", _SIZE, "255") + pixels().tobytes(), _S),
    _pnm("pnm_p6_comment.ppm", "PPM with comments in the header",
         lambda: _head("P6", "# made by hand", str(WIDTH), "# and", f"{HEIGHT} 255") + pixels().tobytes(), _S),
    _pnm("pnm_p6_16bit.ppm", "PPM, 16 bits",
         lambda: _head("P6", _SIZE, "65535") + scaled(pixels(), 16).astype(">u2").tobytes(),
         Shown("S", tolerance=8)),
    _pnm("pnm_p6_named.jpg", "PPM under the name of a JPEG",
         lambda: _head("P6", _SIZE, "255") + pixels().tobytes(), _S),
    _pnm("pnm_p5.pgm", "PGM (P5)", lambda: _head("P5", _SIZE, "255") + grey().tobytes(), _G),
    _pnm("pnm_p5_maxval.pgm", "PGM of values up to 1,023",
         lambda: _head("P5", _SIZE, "1023") + scaled(grey(), 10).astype(">u2").tobytes(), _G8),
    _pnm("pnm_p4.pbm", "PBM (P4)", lambda: _head("P4", _SIZE) + b"".join(packed_rows(_bilevel(), 1)), _BW),
    _pnm("pnm_p3.ppm", "PPM in digits (P3)", lambda: _head("P3", _SIZE, "255") + _plain(pixels()), _S),
    _pnm("pnm_p2.pgm", "PGM in digits (P2)", lambda: _head("P2", _SIZE, "255") + _plain(grey()), _G),
    _pnm("pnm_p1.pbm", "PBM in digits (P1)", lambda: _head("P1", _SIZE) + _plain(_bilevel()), _BW),
    _pnm("pnm_crlf.ppm", "PPM with CR LF in the header",
         lambda: f"P6\r\n{_SIZE}\r\n255\r\n".encode() + pixels().tobytes(), _S),
    _pnm("pnm_crlf_16bit.ppm", "PPM, 16 bits, with CR LF in the header",
         lambda: f"P6\r\n{_SIZE}\r\n65535\r\n".encode() + scaled(pixels(), 16).astype(">u2").tobytes(),
         Shown("S", tolerance=8)),
    _pnm("pnm_crlf_once.pgm", "PGM with CR LF behind the header",
         lambda: f"P5 {_SIZE} 255\r\n".encode() + grey().tobytes(), _G),
    _pnm("pnm_cr_and_line_feed.pgm", "PGM with CR behind the header, and a line feed as the first pixel",
         lambda: f"P5 {_SIZE} 255\r\n".encode() + grey().tobytes()[1:], _G),
    _pnm("pnm_crlf.pam", "PAM with CR LF in the header",
         lambda: (f"P7\r\nWIDTH {WIDTH}\r\nHEIGHT {HEIGHT}\r\nDEPTH 3\r\nMAXVAL 255\r\nENDHDR\r\n".encode()
         + pixels().tobytes()), _S),
    _pnm("pnm_text_mode.pgm", "LF turned into CR LF by a transfer",
         lambda: (f"P5\n{_SIZE}\n255\n".encode() + np.full((HEIGHT, WIDTH), 10, np.uint8).tobytes()).replace(
             b"\n", b"\r\n"), Refused("corrupt_image", "text-mode transfer")),
    _pnm("pnm_cut.ppm", "the second half is missing",
         lambda: _head("P6", _SIZE, "255") + pixels().tobytes()[:20_000], Refused("truncated_image", "cut short")),
    _pnm("pnm_too_large.ppm", "a header of 60,000 by 60,000 pixels",
         lambda: _head("P6", "60000 60000", "255"), Refused("image_too_large", "DROPLINE_IMAGES__MAX_PIXELS")),
    _pnm("pnm_text_p1.txt", "text that begins with P1",
         lambda: b"P1 is the first parking level.\n" * 9, Refused("not_an_image", "text")),
    _pnm("pnm_pam.pam", "PAM (P7)",
         lambda: (_head("P7", f"WIDTH {WIDTH}", f"HEIGHT {HEIGHT}", "DEPTH 3", "MAXVAL 255", "TUPLTYPE RGB",
         "ENDHDR") + pixels().tobytes()),
         _S),
    _pnm("pnm_pfm.pfm", "PFM (PF)",
         lambda: _head("PF", _SIZE, "-1.0") + pixels().astype("<f4").tobytes(), _no("PFM")),
)
# fmt: on


def _dicom() -> bytes:
    return bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + bytes(200)


def _fits() -> bytes:
    cards = [
        "SIMPLE  =                    T",
        "BITPIX  =                    8",
        "NAXIS   =                    2",
        "END",
    ]
    return "".join(card.ljust(80) for card in cards).ljust(2880).encode() + bytes(2880)


def _qoi() -> bytes:
    return b"qoif" + struct.pack(">IIBB", *SIZE, 3, 0) + bytes(99)


def _jpeg_xl() -> bytes:
    return box(b"JXL ", b"\r\n\x87\n") + file_type(b"jxl ") + box(b"jxlc", b"\xff\x0a" + bytes(60))


def _icon(png_inside: bool) -> bytes:
    if not png_inside:
        return _saved("ICO", bitmap_format="bmp", sizes=[(48, 36)])
    data = png(pixels())
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 160, 120, 0, 0, 1, 32, len(data), 22) + data


def _cursor() -> bytes:
    return b"\x00\x00\x02\x00" + _icon(True)[4:]


_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"


def _bytes_of_xbm() -> bytes:
    return b"#define a_width 8\n#define a_height 1\nstatic unsigned char a_bits[] = { 0xff };\n"


# fmt: off
OTHER_CASES = (
    _other("other.jp2", "JPEG 2000", lambda: _saved("JPEG2000"), _no("JPEG 2000")),
    _other("other.j2k", "a code stream of JPEG 2000", lambda: _saved("JPEG2000", no_jp2=True), _no("JPEG 2000")),
    _other("other.jxl", "JPEG XL", _jpeg_xl, _no("JPEG XL")),
    _other("other_codestream.jxl", "a code stream of JPEG XL", lambda: b"\xff\x0a" + bytes(99), _no("JPEG XL")),
    _other("other.jxr", "JPEG XR", lambda: b"II\xbc\x01\x20\x00\x00\x00" + bytes(99), _no("JPEG XR")),
    _other("other.tga", "TGA", lambda: _saved("TGA"), _no("TGA")),
    _other("other_rle.tga", "TGA with run lengths", lambda: _saved("TGA", compression="tga_rle"), _no("TGA")),
    _other("other.ico", "a Windows icon", lambda: _icon(False), _no("icon")),
    _other("other_png.ico", "a Windows icon around a PNG", lambda: _icon(True), _no("icon")),
    _other("other.cur", "a Windows cursor", _cursor, _no("cursor")),
    _other("other.ani", "an animated Windows cursor",
           lambda: b"RIFF" + struct.pack("<I", 64) + b"ACONanih" + bytes(60), _no("cursor")),
    _other("other.icns", "a macOS icon", lambda: b"icns" + struct.pack(">I", 60) + bytes(52), _no("icon")),
    _other("other.pcx", "PCX", lambda: _saved("PCX"), _no("PCX")),
    _other("other.dcx", "DCX", lambda: b"\xb1\x68\xde\x3a" + bytes(99), _no("DCX")),
    _other("other.sgi", "SGI", lambda: _saved("SGI"), _no("SGI")),
    _other("other.dds", "a DirectDraw texture", lambda: _saved("DDS"), _no("DirectDraw")),
    _other("other.ktx", "a Khronos texture", lambda: b"\xabKTX 11\xbb\r\n\x1a\n" + bytes(99), _no("KTX")),
    _other("other.psd", "a Photoshop document", lambda: b"8BPS\x00\x01" + bytes(99), _no("Photoshop")),
    _other("other_large.psb", "a large Photoshop document", lambda: b"8BPS\x00\x02" + bytes(99), _no("Photoshop")),
    _other("other.xcf", "a GIMP document", lambda: b"gimp xcf v011\x00" + bytes(99), _no("GIMP")),
    _other("other.exr", "OpenEXR", lambda: b"v/1\x01\x02\x00\x00\x00" + bytes(99), _no("OpenEXR")),
    _other("other.hdr", "Radiance HDR",
           lambda: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 9 +X 9\n" + bytes(99), _no("Radiance")),
    _other("other_rgbe.hdr", "Radiance HDR under its other signature",
           lambda: b"#?RGBE\nFORMAT=32-bit_rle_rgbe\n\n-Y 9 +X 9\n" + bytes(99), _no("Radiance")),
    _other("other.dpx", "DPX", lambda: b"SDPX" + bytes(2048), _no("DPX")),
    _other("other_little.dpx", "DPX, little-endian", lambda: b"XPDS" + bytes(2048), _no("DPX")),
    _other("other.cin", "Cineon", lambda: b"\x80\x2a\x5f\xd7" + bytes(2048), _no("Cineon")),
    _other("other.fits", "FITS", _fits, _no("FITS")),
    _other("other.dcm", "DICOM", _dicom, _no("DICOM")),
    _other("other.nii", "NIfTI",
           lambda: struct.pack("<I", 348) + bytes(340) + b"n+1\x00" + bytes(99), _no("NIfTI")),
    _other("other.qoi", "QOI", _qoi, _no("QOI")),
    _other("other.ff", "farbfeld", lambda: b"farbfeld" + struct.pack(">II", 2, 2) + bytes(32), _no("farbfeld")),
    _other("other.xbm", "XBM", _bytes_of_xbm, _no("XBM")),
    _other("other.xpm", "XPM",
           lambda: b'/* XPM */\nstatic char *a[] = {"1 1 1 1", "a c #000", "a"};\n', _no("XPM")),
    _other("other.ras", "a Sun raster",
           lambda: b"\x59\xa6\x6a\x95" + struct.pack(">7I", 2, 2, 8, 4, 1, 0, 0) + bytes(4), _no("Sun")),
    _other("other.iff", "ILBM", lambda: b"FORM\x00\x00\x00\x40ILBMBMHD" + bytes(60), _no("ILBM")),
    _other("other.djvu", "DjVu", lambda: b"AT&TFORM\x00\x00\x00\x40DJVU" + bytes(60), _no("DjVu")),
    _other("other.wmf", "a Windows metafile", lambda: b"\xd7\xcd\xc6\x9a" + bytes(99), _no("WMF")),
    _other("other.emf", "an enhanced Windows metafile",
           lambda: struct.pack("<II", 1, 88) + bytes(32) + b" EMF" + bytes(99), _no("EMF")),
    _other("other.flif", "FLIF", lambda: b"FLIF31" + bytes(60), _no("FLIF")),
    _other("other.bpg", "BPG", lambda: b"BPG\xfb" + bytes(60), _no("BPG")),
    _other("other.mj2", "Motion JPEG 2000",
           lambda: box(b"jP  ", b"\r\n\x87\n") + file_type(b"mjp2") + bytes(60), _no("JPEG 2000")),
    _other("other.jbig2", "JBIG2", lambda: b"\x97JB2\r\n\x1a\n" + bytes(60), _no("JBIG2")),
    _other("other.pict", "PICT",
           lambda: bytes(512) + b"\0\0\0\0\0\0\0\x09\0\x09\0\x11\x02\xff\x0c\0" + bytes(99), _no("PICT")),
    _other("other_empty.jxr", "an empty JPEG XR", lambda: b"II\xbc\x01", _no("JPEG XR")),
)
# fmt: on


def _svg(prefix: bytes = b"") -> bytes:
    return (
        prefix + b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
    )


# fmt: off
DRAWING_CASES = (
    _drawing("drawing.svg", "SVG", _svg, _no("SVG")),
    _drawing("drawing_xml.svg", "SVG with an XML declaration", lambda: SVG, _no("SVG")),
    _drawing("drawing_doctype.svg", "SVG with a document type",
             lambda: _svg(b'<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x">\n'),
             _no("SVG")),
    _drawing("drawing_comment.svg", "SVG behind a long comment",
             lambda: _svg(b"<!-- " + b"licence " * 900 + b"-->\n"), _no("SVG")),
    _drawing("drawing_bom.svg", "SVG with a byte order mark", lambda: _svg(b"\xef\xbb\xbf"), _no("SVG")),
    _drawing("drawing_utf16.svg", "SVG in UTF-16", lambda: _svg().decode().encode("utf-16"), _no("SVG")),
    _drawing("drawing_prefix.svg", "SVG with a namespace prefix",
             lambda: b'<svg:svg xmlns:svg="http://www.w3.org/2000/svg"><svg:rect/></svg:svg>', _no("SVG")),
    _drawing("drawing_named.png", "SVG under the name of a PNG", _svg, _no("SVG")),
    _drawing("drawing.svgz", "SVG, compressed", lambda: gzip.compress(_svg(), mtime=0), _no("SVG")),
    _drawing("drawing.eps", "EPS", lambda: _EPS, _no("PostScript")),
    _drawing("drawing_preview.eps", "EPS with a preview in TIFF",
             lambda: b"\xc5\xd0\xd3\xc6" + struct.pack("<IIIIII", 30, len(_EPS), 0, 0, 0, 0) + b"\xff\xff" + _EPS,
             _no("EPS")),
    _drawing("drawing.ps", "PostScript", lambda: b"%!PS\nshowpage\n", _no("PostScript")),
)
# fmt: on
CASES = PNM_CASES + OTHER_CASES + DRAWING_CASES

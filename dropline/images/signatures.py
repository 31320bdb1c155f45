"""Signatures of images without a decoder, of other media, and of files that are no images.

Sources: the magic files of `file` 5.44, and the specifications of the formats. A format with a weak signature has
a probe that checks more of its header, so that unknown bytes are not taken for the format.
"""

import re
import struct
from collections.abc import Callable

#: Offset, bytes and name, as in "the object is NAME, which is not decoded".
_IMAGES = (
    (0, b"8BPS", "a Photoshop document"),
    (0, b"gimp xcf", "a GIMP document"),
    (20, b"GIMP", "a GIMP brush"),
    (20, b"GPAT", "a GIMP pattern"),
    (0, b"Paint Shop Pro Image File", "a Paint Shop Pro document"),
    (0, b"CPT9FILE", "a Corel Photo-Paint document"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 code stream"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL code stream"),
    (0, b"II\xbc\x01", "a JPEG XR image"),
    (0, b"II\xbc\x00", "a JPEG XR image"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (0, b"#?RGBE", "a Radiance HDR image"),
    (0, b"qoif", "a QOI image"),
    (0, b"FLIF", "a FLIF image"),
    (0, b"BPG\xfb", "a BPG image"),
    (0, b"\x97JB2\r\n\x1a\n", "a JBIG2 image"),
    (0, b"farbfeld", "a farbfeld image"),
    (0, b"DDS ", "a DirectDraw texture (DDS)"),
    (0, b"\xabKTX 11\xbb", "a KTX texture"),
    (0, b"\xabKTX 20\xbb", "a KTX2 texture"),
    (0, b"PVR\x03", "a PVR texture"),
    (0, b"\x13\xab\xa1\x5c", "an ASTC texture"),
    (0, b"sB\x13\x00", "a Basis texture"),
    (0, b"VTF\x00", "a Valve texture (VTF)"),
    (0, b"BLP1", "a BLP texture"),
    (0, b"BLP2", "a BLP texture"),
    (128, b"DICM", "a DICOM image"),
    (0, b"SIMPLE  =", "a FITS image"),
    (344, b"n+1\x00", "a NIfTI image"),
    (344, b"ni1\x00", "a NIfTI image"),
    (0, b"NRRD000", "an NRRD image"),
    (0, b"ZISRAWFILE", "a Zeiss CZI image"),
    (0, b"\xda\xce\xbe\x0a", "a Nikon ND2 image"),
    (0, b"SDPX", "a DPX image"),
    (0, b"XPDS", "a DPX image"),
    (0, b"\x80\x2a\x5f\xd7", "a Cineon image"),
    (0, b"\xd7\x5f\x2a\x80", "a Cineon image"),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster image"),
    (0, b"\xb1\x68\xde\x3a", "a DCX fax of several pages"),
    (0, b"\x53\x80\xf6\x34", "a Softimage picture"),
    (0, b"\x52\xcc", "a Utah RLE image"),
    (0, b"\xb6\xa6\xf2\x08", "a VIPS image"),
    (0, b"\x08\xf2\xa6\xb6", "a VIPS image"),
    (2048, b"PCD_IPI", "a Kodak Photo CD image"),
    (0, b"\x8aMNG\r\n\x1a\n", "an MNG animation"),
    (0, b"\x8bJNG\r\n\x1a\n", "a JNG image"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\xc5\xd0\xd3\xc6", "an EPS document with a preview"),
    (40, b" EMF", "an EMF drawing"),
    (0, b"\xd7\xcd\xc6\x9a", "a WMF drawing"),
    (0, b"\x01\x00\x09\x00\x00\x03", "a WMF drawing"),
    (522, b"\x00\x11\x02\xff", "a QuickDraw picture (PICT)"),
    (0, b"icns", "an icon of macOS (ICNS)"),
    (0, b"Xcur", "an X11 cursor"),
    (0, b"IIN1", "a NIFF image"),
    (0, b"PDN3", "a Paint.NET document"),
    (0, b"AWBM", "an Award BIOS logo"),
    (0, b"PGF", "a Progressive Graphics File image (PGF)"),
    (0, b"CPC\xb2", "a CPC image"),
    (0, b"GDST", "a Godot texture"),
    (0, b"GST2", "a Godot texture"),
    (0, b"\x3d\xf3\x13\x14", "an LSS16 image"),
    (0, b"\x37\x00\x00\x10\x42\x00\x00\x10", "an EPOC bitmap (MBM)"),
    (0, b"\xffWPC\x10\x00\x00\x00\x01\x16", "a WordPerfect drawing (WPG)"),
    (0, b"AutoCAD Binary DXF", "a DXF drawing"),
    (0, b"@CorelBMF", "a Corel clip art"),
    (4, b"n+2\x00\r\n\x1a\n", "a NIfTI image"),
    (4, b"ni2\x00\r\n\x1a\n", "a NIfTI image"),
    (4, b"idsc", "a QuickTime image"),
    (4, b"idat", "a QuickTime image"),
    (4, b"ftypjp2 ", "a JPEG 2000 image"),
    (4, b"ftypjpx ", "a JPEG 2000 image"),
    (4, b"ftypjpm ", "a JPEG 2000 image"),
    (65, b"PNTG", "a MacPaint image"),
    (0, b"NITF", "an NITF image"),
    (0, b"LBLSIZE=", "an image of a planetary mission (VICAR)"),
    (0, b"NJPL1I", "an image of a planetary mission (PDS)"),
    (0, b"CCSD3ZF", "an image of a planetary mission (PDS)"),
    (0, b"PDS_VERSION_ID", "an image of a planetary mission (PDS)"),
    (0, b"ObjectType = Image", "a MetaImage"),
    (0, b"id=ImageMagick", "a MIFF image"),
    (0, b"RaS2", "a CUPS raster"),
    (0, b"RaS3", "a CUPS raster"),
    (0, b"2SaR", "a CUPS raster"),
    (0, b"3SaR", "a CUPS raster"),
    (0, b"\x89LFP\r\n\x1a\n", "a Lytro light field image"),
)
_DWG = re.compile(rb"AC1\d{3}\x00")
_FORM_TYPES = {b"ILBM": "an IFF ILBM image", b"PBM ": "an IFF PBM image", b"ACBM": "an IFF ACBM image",
               b"RGB8": "an IFF RGB8 image", b"RGBN": "an IFF RGBN image"}  # fmt: skip
_RIFF_TYPES = {b"ACON": "an animated Windows cursor (ANI)", b"RDIB": "a RIFF bitmap"}
_NOT_IMAGES = (
    (0, b"%PDF-", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive or an Office document"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document of the older format"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (0, b"BZh", "bzip2-compressed data"),
    (0, b"\xfd7zXZ\x00", "xz-compressed data"),
    (0, b"\x04\x22\x4d\x18", "lz4-compressed data"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (0, b"\x00\x00\x01\xba", "an MPEG video"),
    (0, b"\x00\x00\x01\xb3", "an MPEG video"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"FWS", "a Flash film"),
    (0, b"CWS", "a Flash film"),
    (4, b"\x11\xaf", "an FLI animation"),
    (4, b"\x12\xaf", "an FLC animation"),
    (0, b"OggS", "an Ogg audio or video file"),
    (0, b"ID3", "an MP3 audio file"),
    (0, b"fLaC", "a FLAC audio file"),
    (0, b"MThd", "a MIDI file"),
    (0, b"\x7fELF", "an executable"),
    (0, b"MZ", "an executable"),
    (0, b"\xca\xfe\xba\xbe", "an executable or a Java class"),
    (0, b"\xcf\xfa\xed\xfe", "an executable"),
    (0, b"wOFF", "a font"),
    (0, b"wOF2", "a font"),
    (0, b"OTTO", "a font"),
    (0, b"\x00\x01\x00\x00\x00", "a font"),
    (0, b"SQLite format 3\x00", "an SQLite database"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (36, b"acsp", "a colour profile"),
    (0, b"\x00\x05\x16\x07", "an AppleDouble file, the attributes of another file"),
    (0, b"\x00\x05\x16\x00", "an AppleSingle file"),
)
_QUICKTIME_BOXES = frozenset({b"moov", b"mdat", b"wide", b"pnot"})
#: TGA: image types, each with the bits per pixel that it may have.
_TGA_DEPTHS = {1: {8, 16}, 2: {15, 16, 24, 32}, 3: {8, 16}, 9: {8, 16}, 10: {15, 16, 24, 32}, 11: {8, 16}}
_PFM = re.compile(rb"P[Ff]\s+\d{1,9}\s+\d{1,9}\s+-?[\d.]{1,20}\s")
_TGA_FOOTER = b"TRUEVISION-XFILE."


def foreign_image(data: bytes) -> str | None:
    """Return the name of an image without a decoder, as in "a Photoshop document"; None for other bytes."""
    for at, magic, name in _IMAGES:
        if data.startswith(magic, at):
            return name
    if data.startswith(b"FORM"):
        return _FORM_TYPES.get(data[8:12])
    if data.startswith(b"RIFF"):
        return "a CorelDRAW drawing" if data[8:11] == b"CDR" else _RIFF_TYPES.get(data[8:12])
    if data.startswith(b"AT&TFORM") and data[12:15] == b"DJV":
        return "a DjVu document"
    return next((name for probe, name in _PROBES if probe(data)), None)


def foreign_media(data: bytes) -> str | None:
    """Return the name of a video or an audio file in a container; None for other bytes."""
    if data.startswith(b"RIFF"):
        return {b"AVI ": "an AVI video", b"WAVE": "a WAVE audio file"}.get(data[8:12], "a RIFF file")
    if data[4:8] == b"ftyp":
        return "an MP4, QuickTime or other media file"
    return "a QuickTime video" if data[4:8] in _QUICKTIME_BOXES else None


def no_image(data: bytes) -> str | None:
    """Return the name of a file of another kind; None for text and unknown bytes."""
    for at, magic, name in _NOT_IMAGES:
        if data.startswith(magic, at):
            return name
    return "zero bytes and nothing else" if not data.strip(b"\x00") else None


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


_PROBES: tuple[tuple[Callable[[bytes], bool], str], ...] = (
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
    (_is_wbmp, "a WBMP image"),
)

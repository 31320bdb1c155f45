"""Signatures of images without a decoder, of other media, and of files that are no images.

Sources: the magic files of `file` 5.44, and the specifications of the formats. A format with a weak signature has
a probe in `header_probes.py`.
"""

import re

from dropline.images.compound_files import compound_image
from dropline.images.header_probes import PROBES

#: Offset, bytes and name, as in "the object is NAME, which is not decoded".
_IMAGES = (
    (0, b"Paint Shop Pro Image File", "a Paint Shop Pro document"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 code stream"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL code stream"),
    (0, b"II\xbc\x01", "a JPEG XR image"),
    (0, b"II\xbc\x00", "a JPEG XR image"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (0, b"#?RGBE", "a Radiance HDR image"),
    (0, b"BPG\xfb", "a BPG image"),
    (0, b"\x97JB2\r\n\x1a\n", "a JBIG2 image"),
    (0, b"\xabKTX 11\xbb", "a KTX texture"),
    (0, b"\xabKTX 20\xbb", "a KTX2 texture"),
    (0, b"PVR\x03", "a PVR texture"),
    (0, b"\x13\xab\xa1\x5c", "an ASTC texture"),
    (0, b"sB\x13\x00", "a Basis texture"),
    (0, b"VTF\x00", "a Valve texture (VTF)"),
    (0, b"SIMPLE  =", "a FITS image"),
    (344, b"n+1\x00", "a NIfTI image"),
    (344, b"ni1\x00", "a NIfTI image"),
    (0, b"NRRD000", "an NRRD image"),
    (0, b"\xda\xce\xbe\x0a", "a Nikon ND2 image"),
    (0, b"\x80\x2a\x5f\xd7", "a Cineon image"),
    (0, b"\xd7\x5f\x2a\x80", "a Cineon image"),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster image"),
    (0, b"\xb1\x68\xde\x3a", "a DCX fax of several pages"),
    (0, b"\x53\x80\xf6\x34", "a Softimage picture"),
    (0, b"\x52\xcc", "a Utah RLE image"),
    (0, b"\xb6\xa6\xf2\x08", "a VIPS image"),
    (0, b"\x08\xf2\xa6\xb6", "a VIPS image"),
    (0, b"\x8aMNG\r\n\x1a\n", "an MNG animation"),
    (0, b"\x8bJNG\r\n\x1a\n", "a JNG image"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\xc5\xd0\xd3\xc6", "an EPS document with a preview"),
    (0, b"\xd7\xcd\xc6\x9a", "a WMF drawing"),
    (0, b"\x01\x00\x09\x00\x00\x03", "a WMF drawing"),
    (522, b"\x00\x11\x02\xff", "a QuickDraw picture (PICT)"),
    (0, b"CPC\xb2", "a CPC image"),
    (0, b"\x3d\xf3\x13\x14", "an LSS16 image"),
    (0, b"\x37\x00\x00\x10\x42\x00\x00\x10", "an EPOC bitmap (MBM)"),
    (0, b"\xffWPC\x10\x00\x00\x00\x01\x16", "a WordPerfect drawing (WPG)"),
    (0, b"AutoCAD Binary DXF", "a DXF drawing"),
    (0, b"@CorelBMF", "a Corel clip art"),
    (4, b"n+2\x00\r\n\x1a\n", "a NIfTI image"),
    (4, b"ni2\x00\r\n\x1a\n", "a NIfTI image"),
    (0, b"LBLSIZE=", "an image of a planetary mission (VICAR)"),
    (0, b"NJPL1I", "an image of a planetary mission (PDS)"),
    (0, b"CCSD3ZF", "an image of a planetary mission (PDS)"),
    (0, b"PDS_VERSION_ID", "an image of a planetary mission (PDS)"),
    (0, b"ObjectType = Image", "a MetaImage"),
    (0, b"id=ImageMagick", "a MIFF image"),
    (0, b"\x89LFP\r\n\x1a\n", "a Lytro light field image"),
    (0, b"\xff\xa0\xff\xa8", "a fingerprint image (WSQ)"),
    (0, b"JG\x03\x0e\x00\x00\x00\x00", "an ART image of AOL"),
    (0, b"JG\x04\x0e\x00\x00\x00\x00", "an ART image of AOL"),
    (0, b"XARA\xa3\xa3", "a Xara drawing"),
    (0, b"%bitmap\x00", "an FBM image"),
    (0, b"BM\xcb\x02", "a Commodore bitmap (VBM)"),
    (0, b"BM\xcb\x03", "a Commodore bitmap (VBM)"),
    (0, b"\x14FIG", "a DeskMate drawing"),
    (0, b"\x041.4\x00\x00\x00\x00O\x00", "an iCEDraw image"),
    (0, b"IIO1$", "thumbnails of Ulead (Photo Explorer)"),
    (0, b"IIO2H", "thumbnails of Ulead (Photo Explorer)"),
    (0, b"\xff\xff\x01\x00", "a Ulead pattern"),
    (0, b"\xff\xff\x18\x00", "a GEM drawing"),
    (0, b"\xf1\x00\x40\xbb", "an image of the CMU window manager"),
    (0, b"\x24\x0f\xf0\x42", "an Artisan image"),
    (0, b"\x03RVP", "a PVR texture"),
    (0, b"Hx\x00J", "a Crunch texture"),
    (0, b"G9B\x0b\x00", "a G9B image"),
    (0, b"\xe3\x10\x00\x01", "an icon of the Amiga Workbench"),
    (0, b"\x37\x00\x00\x10\x6d\x00\x00\x10", "an EPOC sketch"),
    (0, b"\x37\x00\x00\x10\x7d\x00\x00\x10", "an EPOC sketch"),
    (0, b"\x41\x00\x00\x10", "an EPOC bitmap of a ROM"),
    (0, b"\x02\x00\x09\x00\x00\x03", "a WMF drawing"),
    (1, b"PC Research, Inc", "a group 3 fax (Digifax)"),
)
#: Signatures of letters, which may begin a text: they count in a file that is no text.
_LETTERS = (
    (0, b"8BPS", "a Photoshop document"),
    (0, b"gimp xcf", "a GIMP document"),
    (20, b"GIMP", "a GIMP brush"),
    (20, b"GPAT", "a GIMP pattern"),
    (0, b"CPT9FILE", "a Corel Photo-Paint document"),
    (0, b"qoif", "a QOI image"),
    (0, b"FLIF", "a FLIF image"),
    (0, b"farbfeld", "a farbfeld image"),
    (0, b"DDS ", "a DirectDraw texture (DDS)"),
    (0, b"BLP1", "a BLP texture"),
    (0, b"BLP2", "a BLP texture"),
    (128, b"DICM", "a DICOM image"),
    (0, b"ZISRAWFILE", "a Zeiss CZI image"),
    (0, b"SDPX", "a DPX image"),
    (0, b"XPDS", "a DPX image"),
    (2048, b"PCD_IPI", "a Kodak Photo CD image"),
    (40, b" EMF", "an EMF drawing"),
    (0, b"icns", "an icon of macOS (ICNS)"),
    (0, b"Xcur", "an X11 cursor"),
    (0, b"IIN1", "a NIFF image"),
    (0, b"PDN3", "a Paint.NET document"),
    (0, b"AWBM", "an Award BIOS logo"),
    (0, b"PGF", "a Progressive Graphics File image (PGF)"),
    (0, b"GDST", "a Godot texture"),
    (0, b"GST2", "a Godot texture"),
    (4, b"idsc", "a QuickTime image"),
    (4, b"idat", "a QuickTime image"),
    (4, b"ftypjp2 ", "a JPEG 2000 image"),
    (4, b"ftypjpx ", "a JPEG 2000 image"),
    (4, b"ftypjpm ", "a JPEG 2000 image"),
    (65, b"PNTG", "a MacPaint image"),
    (0, b"NITF", "an NITF image"),
    (0, b"RaS2", "a CUPS raster"),
    (0, b"RaS3", "a CUPS raster"),
    (0, b"2SaR", "a CUPS raster"),
    (0, b"3SaR", "a CUPS raster"),
    (0, b"GIF94z", "a ZIF image"),
    (0, b"FGF95a", "an FGF image"),
    (0, b"B&W256", "an ImageLab image"),
    (0, b"P7 332", "a thumbnail of XV"),
    (0, b"hsi1", "a JPEG of Handmade Software (HSI)"),
    (0, b"GARMIN BITMAP 01", "a Garmin bitmap"),
    (0, b"Playdate IM", "a Playdate image"),
    (0, b"MegaCad23", "a MegaCAD drawing"),
    (0, b"Bitmapfile", "an HP bitmap"),
    (0, b"IMGfile", "an HP bitmap"),
    (0, b"Imagefile version-", "an Imagefile image"),
    (0, b"R-AXIS4   ", "an image of an R-AXIS detector"),
    (0, b"RAXIS     ", "an image of an R-AXIS detector"),
    (60, b"vIMGView", "an image of a PalmOS viewer"),
    (0, b"MAKI02  ", "a Maki-chan image (MAG)"),
    (0, b"MAKI01", "a Maki-chan image (MKI)"),
    (0, b"PCD_OPA", "a Kodak Photo CD image"),
    (0, b"VCLMTF", "a StarView drawing (SVM)"),
    (0, b"PFS1\n", "a PFS HDR image"),
    (11, b"MAJYO", "an XLD4 image"),
    (0, b"GBIX", "a Sega texture (PVR or GVR)"),
    (0, b"GCIX", "a Sega texture (GVR)"),
    (0, b"PVRT", "a Sega texture (PVR)"),
    (0, b"GVRT", "a Sega texture (GVR)"),
    (0, b"qktk", "a raw photograph (QuickTake 100)"),
    (0, b"qktn", "a raw photograph (QuickTake 150)"),
    (0, b"ARRI", "a raw photograph (ARRI)"),
    (0, b"AmSp", "a bank of AMOS sprites"),
    (0, b"AmIc", "a bank of AMOS icons"),
    (0, b"IDS2", "a Quake sprite"),
    (0, b"IDSP", "a Quake sprite"),
    (0, b"GKSM", "a GKS drawing"),
    (0, b"Sfff", "a structured fax (SFF)"),
    (0, b"IT01", "a FIT image"),
    (0, b"IT02", "a FIT image"),
    (0, b"pM85", "a STAD image of the Atari ST"),
    (0, b"pM86", "a STAD image of the Atari ST"),
    (0, b"C565", "an icon of the OLPC firmware"),
    (0, b"PCO-", "a PCO camera image"),
    (0, b"VTF3", "a Valve texture (VTF)"),
    (0, b"XPR0", "an Xbox texture"),
    (0, b"ILDA", "a laser drawing (ILDA)"),
)
#: A byte that no text has.
_BINARY = re.compile(rb"[\x00-\x03\x05-\x08\x0e-\x1a\x1c-\x1f]")
#: Bytes of a file with a signature of letters that are searched for such a byte.
_HEAD_BYTES = 4_096
_FORM_TYPES = {b"ILBM": "an IFF ILBM image", b"PBM ": "an IFF PBM image", b"ACBM": "an IFF ACBM image",
               b"RGB8": "an IFF RGB8 image", b"RGBN": "an IFF RGBN image", b"DEEP": "an IFF DEEP image",
               b"YUVN": "an IFF YUVN image", b"FAXX": "an IFF fax", b"DR2D": "an IFF drawing",
               b"ANIM": "an IFF animation", b"CIMG": "a Maya IFF image"}  # fmt: skip
_DRAWINGS = {b"CDR": "a CorelDRAW drawing", b"DES": "a Corel DESIGNER drawing"}
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


def foreign_image(data: bytes) -> str | None:
    """Return the name of an image without a decoder, as in "a Photoshop document"; None for other bytes."""
    if name := _signed(data, _IMAGES):
        return name
    if _BINARY.search(data, 0, _HEAD_BYTES) and (name := _signed(data, _LETTERS)):
        return name
    if name := _in_container(data) or compound_image(data):
        return name
    return next((name for probe, name in PROBES if probe(data)), None)


def _signed(data: bytes, signatures: tuple[tuple[int, bytes, str], ...]) -> str | None:
    return next((name for at, magic, name in signatures if data.startswith(magic, at)), None)


def _in_container(data: bytes) -> str | None:
    """Return the name of an image in one of the containers that many formats share: IFF, RIFF, DjVu."""
    if data.startswith((b"FORM", b"FOR4", b"FOR8")):
        return _FORM_TYPES.get(data[8:12])
    if data.startswith(b"RIFF"):
        return _DRAWINGS.get(data[8:11]) or _RIFF_TYPES.get(data[8:12])
    return "a DjVu document" if data.startswith(b"AT&TFORM") and data[12:15] == b"DJV" else None


def foreign_media(data: bytes) -> str | None:
    """Return the name of a video or an audio file in a container; None for other bytes."""
    if data.startswith(b"RIFF"):
        return {b"AVI ": "an AVI video", b"WAVE": "a WAVE audio file"}.get(data[8:12], "a RIFF file")
    if data[4:8] == b"ftyp":
        return "an MP4, QuickTime or other media file"
    return "a QuickTime video" if data[4:8] in _QUICKTIME_BOXES else None


def no_image(data: bytes) -> str | None:
    """Return the name of a file of another kind; None for text and unknown bytes."""
    return _signed(data, _NOT_IMAGES) or ("zero bytes and nothing else" if not data.strip(b"\x00") else None)

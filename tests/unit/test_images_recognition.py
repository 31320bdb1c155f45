"""Three kinds of "no": damaged, valid but not decoded here, and no image. Each has a name."""

import gzip
import random
import struct

import pytest
from PIL import Image

from dropline.images.formats import detect_format
from dropline.images.refusals import reason
from tests.support.image_checks import assert_shows, refusal
from tests.support.image_files import MP4, PDF, encode, halves, scene

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>'
PNG, JPEG, GIF = (encode(scene(), kind) for kind in ("PNG", "JPEG", "GIF"))
NOISE = {kind: encode(Image.effect_noise((300, 200), 80).convert("RGB"), kind) for kind in ("GIF", "JPEG", "WEBP")}
UNSUPPORTED, NO_IMAGE, CORRUPT, TRUNCATED = (
    "unsupported_format",
    "not_an_image",
    "corrupt_image",
    "truncated_image",
)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"8BPS\x00\x01" + bytes(60), "Photoshop"),
        (b"gimp xcf v011" + bytes(60), "GIMP"),
        (struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, 99, 22) + bytes(99), "icon"),
        (struct.pack("<HHHBBBBHHII", 0, 2, 1, 16, 16, 0, 0, 1, 32, 99, 22) + bytes(99), "cursor"),
        (b"icns" + struct.pack(">I", 99) + bytes(91), "ICNS"),
        (b"II\xbc\x01" + bytes(60), "JPEG XR"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"\xff\x4f\xff\x51\x00\x2f", "JPEG 2000"),
        (bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00", "DICOM"),
        (b"v/1\x01\x02\x00\x00\x00", "OpenEXR"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "Radiance"),
        (b"\x97JB2\r\n\x1a\n" + bytes(9), "JBIG2"),
        (b"/* XPM */\nstatic char *a[] = {", "XPM"),
        (b"#define icon_width 16\n#define icon_height 16\n", "XBM"),
        (b"PF\n3 2\n-1.0\n" + bytes(72), "PFM"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"\xd7\xcd\xc6\x9a" + bytes(40), "WMF"),
        (b"\x01\x00\x00\x00" + bytes(36) + b" EMF" + bytes(40), "EMF"),
        (b"AT&TFORM\x00\x00\x00\x0fDJVUINFO", "DjVu"),
        (b"FORM\x00\x00\x00\x20ILBMBMHD", "ILBM"),
        (b"\x8aMNG\r\n\x1a\n" + bytes(9), "MNG"),
        (b"\x8bJNG\r\n\x1a\n" + bytes(9), "JNG"),
        (b"\xabKTX 20\xbb\r\n\x1a\n", "KTX2"),
        (b"FLIF44\x00", "FLIF"),
        (b"BPG\xfb\x20", "BPG"),
        (b"qoif" + bytes(20), "QOI"),
        (b"\x59\xa6\x6a\x95" + bytes(40), "Sun"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"\x00\x00\x09\x09" + bytes(18), "WBMP"),
        (struct.pack(">25I", 107, 7, 2, 24, 8, 8, *[0] * 19) + bytes(40), "XWD"),
        (struct.pack("<25I", 107, 7, 2, 24, 8, 8, *[0] * 19) + bytes(40), "XWD"),
        (b"Xcur" + bytes(60), "cursor"),
        (b"AC1032\x00\x00" + bytes(60), "DWG"),
        (b"IIN1" + bytes(60), "NIFF"),
        (b"PDN3" + bytes(60), "Paint.NET"),
        (b"LBLSIZE=1024  FORMAT='BYTE'" + bytes(2000), "VICAR"),
        (b"ObjectType = Image\nNDims = 2\n" + bytes(2000), "MetaImage"),
        (bytes(65) + b"PNTG" + bytes(60), "MacPaint"),
        (b"\x00\x00\x00\x14ftypjp2 " + bytes(60), "JPEG 2000"),
        (b"\x00\x00\x02\x1cn+2\x00\r\n\x1a\n" + bytes(600), "NIfTI"),
        (b"BA" + struct.pack("<IIHH", 40, 0, 8, 8) + b"BM" + bytes(12) + struct.pack("<I", 12), "OS/2"),
    ],
)
def test_images_without_a_decoder_are_named(data: bytes, name: str) -> None:
    """Each format that `file` has as an image is unsupported by its name."""
    error = refusal(data)
    assert (error.code, name in str(error)) == (UNSUPPORTED, True), str(error)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("ICO", "icon"),
        ("TGA", "TGA"),
        ("PCX", "PCX"),
        ("SGI", "SGI"),
        ("DDS", "DDS"),
        ("JPEG2000", "JPEG 2000"),
        ("DIB", "DIB"),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_files_of_other_programs_are_named(kind: str, name: str, mode: str) -> None:
    """True files of formats with weak signatures are recognised."""
    error = refusal(encode(halves(48, 48, mode), kind))
    assert (error.code, name in str(error)) == (UNSUPPORTED, True), str(error)


@pytest.mark.parametrize(
    "data",
    [
        SVG.encode(),
        b"\xef\xbb\xbf" + SVG.encode(),
        SVG.encode("utf-16"),
        SVG.encode("utf-16-be"),
        b'<?xml version="1.0" encoding="ISO-8859-1"?>\n<!-- f\xfcr -->\n' + SVG.encode(),
        b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x">\n<!-- a -> b -->' + SVG.encode(),
        b'<!DOCTYPE svg [ <!ENTITY ns "http://x">\n<!ENTITY b "c"> ]>\n' + SVG.encode(),
        b'<!DOCTYPE svg [ <!ENTITY ns "http://x">' + b" " * 99_000,
        b'<svg:svg xmlns:svg="http://www.w3.org/2000/svg"/>',
        b"<!-- " + b"x" * 9_000 + b" -->" + SVG.encode(),
        gzip.compress(SVG.encode(), mtime=0),
    ],
)
def test_svg_in_all_its_clothes(data: bytes) -> None:
    """Encodings, comments, document types, prefixes and compression hide no SVG."""
    error = refusal(data)
    assert (error.code, "SVG" in str(error)) == (UNSUPPORTED, True), str(error)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (f"<!doctype html><html><body>{SVG}</body></html>".encode(), "HTML"),
        (f"<html>{SVG}</html>".encode(), "HTML"),
        (f"<!-- <svg> --><Error><Code>AccessDenied</Code>{SVG}</Error>".encode(), "XML"),
        (b"<svgx>no drawing</svgx>", "XML"),
        (b"BMW 320d, bought 2019. See photo in the other folder.\n", "text"),
        (b"P1 is a paragraph.", "text"),
        (b"PNG images are nice", "text"),
        ("Grüße aus Köln".encode("latin-1"), "text"),
        ("Grüße".encode("utf-16"), "text"),
        (b" \r\n" * 400, "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"data:image/png;base64,iVBORw0KGgo=", "data URL"),
        (b"iVBORw0KGgoAAAANSUhEUgAAAUA", "base64"),
        (b'{"error": "not found"}', "JSON"),
        (bytes(5_000), "zero bytes"),
        (b"\x01\x02\x03\x04" * 20, "of no kind known here"),
        (PDF, "PDF"),
        (MP4, "MP4"),
        (gzip.compress(b"a text", mtime=0), "gzip"),
        (b"BZh91AY&SY" + bytes(9), "bzip2"),
        (b"\x00\x00\x00\x14moov" + bytes(12), "QuickTime"),
    ],
)
def test_no_images_are_named(data: bytes, name: str) -> None:
    """Bytes of another kind, with the name of the kind."""
    error = refusal(data)
    assert (error.code, name in str(error)) == (NO_IMAGE, True), str(error)


def as_utf8(data: bytes) -> bytes:
    return data.decode("latin-1").encode()


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (PNG.replace(b"\r\n", b"\n"), CORRUPT, "a PNG damaged by a text-mode transfer"),
        (PNG.replace(b"\n", b"\r\n"), CORRUPT, "a PNG damaged by a text-mode transfer"),
        (PNG.replace(b"\r", b"\n"), CORRUPT, "a PNG damaged by a text-mode transfer"),
        (bytes(each & 0x7F for each in PNG), CORRUPT, "a PNG damaged by a text-mode transfer"),
        (as_utf8(PNG), CORRUPT, "a PNG damaged by a text-mode transfer"),
        (PNG.decode("utf-8", "replace").encode(), CORRUPT, "a PNG damaged by a text-mode transfer"),
        (as_utf8(JPEG), CORRUPT, "a JPEG damaged by a text-mode transfer"),
        (JPEG.decode("utf-8", "replace").encode(), CORRUPT, "a JPEG damaged by a text-mode transfer"),
        (bytes(each & 0x7F for each in JPEG), CORRUPT, "a JPEG damaged by a text-mode transfer"),
        (b"\xef\xbb\xbf" + PNG, CORRUPT, "a PNG with white space or zero bytes in front"),
        (b"\r\n" + JPEG, CORRUPT, "a JPEG with white space or zero bytes in front"),
        (bytes(512) + GIF, CORRUPT, "a GIF with white space or zero bytes in front"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + PNG,
            CORRUPT,
            "a PNG with the header of a transfer",
        ),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\n" + JPEG, CORRUPT, "a JPEG with the header of a transfer"),
        (NOISE["GIF"].replace(b"\n", b"\r\n"), CORRUPT, "a GIF damaged by a text-mode transfer"),
        (NOISE["JPEG"].replace(b"\n", b"\r\n"), CORRUPT, "a JPEG damaged by a text-mode transfer"),
        (NOISE["WEBP"].replace(b"\n", b"\r\n"), CORRUPT, "a WEBP damaged by a text-mode transfer"),
        (as_utf8(GIF), CORRUPT, "a GIF damaged by a text-mode transfer"),
        (as_utf8(NOISE["WEBP"]), CORRUPT, "a WEBP damaged by a text-mode transfer"),
        (bytes(each & 0x7F for each in GIF), CORRUPT, "a GIF damaged by a text-mode transfer"),
        (b"GIF90a" + GIF[6:], CORRUPT, "version"),
        (b"\x89PN", TRUNCATED, "PNG"),
        (b"\xff\xd8", TRUNCATED, "JPEG"),
        (b"GIF89", TRUNCATED, "GIF"),
    ],
)
def test_remains_of_images_are_damaged(data: bytes, code: str, words: str) -> None:
    """What a transfer left of an image is damaged, with the kind of the damage."""
    error = refusal(data)
    assert (error.code, words in str(error)) == (code, True), str(error)


def test_the_bytes_decide_alone() -> None:
    """A long white margin of text is looked at in bounded time and memory, and a true image is decoded."""
    assert refusal(b" " * 20_000_000 + b"\x01").code == NO_IMAGE
    assert detect_format(PNG).value == "PNG"
    assert_shows(PNG, scene())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError("cannot identify image file <_io.BytesIO object at 0x7f0a1b2c3d4e>"),
            "cannot identify image file",
        ),
        (OSError("image file is truncated (17 bytes not processed)"), "image file is truncated"),
        (SyntaxError("broken PNG file (chunk b'\\x00abc')"), "broken PNG file"),
        (AssertionError(), "the decoder stopped with AssertionError"),
    ],
)
def test_reasons_of_decoders(error: Exception, words: str) -> None:
    """A decoder's reason is kept in words, without the addresses and counts that differ between equal causes."""
    assert reason(error) == words


@pytest.mark.parametrize("error", [AssertionError(), Exception("odd"), KeyError(3), RecursionError("deep")])
def test_any_error_of_a_decoder_is_the_images_fault(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a decoder raises fails the image at the first attempt."""

    def strike(*_: object, **__: object) -> Image.Image:
        raise error

    monkeypatch.setattr("dropline.images.decoding.rendered", strike)
    assert refusal(PNG).code == CORRUPT


def test_random_bytes_have_no_name() -> None:
    """No signature is so short that unknown bytes have it: the two bytes of a JPEG XL stream are the shortest."""
    codes = [refusal(b"\x03" + random.Random(seed).randbytes(700)).code for seed in range(3_000)]
    assert set(codes) == {NO_IMAGE}

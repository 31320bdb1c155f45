"""Files other than images."""

import gzip
import io
import json
import random
import zipfile
from functools import partial

from tests.corpus.expected import Case, Refused
from tests.corpus.jpeg import jpeg
from tests.corpus.writers.boxes import box, file_type
from tests.support.image_files import MP4, PDF, TEXT

_case = partial(Case, "No images")
_UNKNOWN = Refused("not_an_image", "of no kind known here")


def _no(words: str) -> Refused:
    return Refused("not_an_image", words)


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("photo.jpg"), jpeg())
    return buffer.getvalue()


def _html(body: str) -> bytes:
    return f"<!doctype html><html><head><title>404</title></head><body>{body}</body></html>".encode()


# fmt: off
CASES = (
    Case("No images", "empty.jpg", "zero bytes", lambda: b"", Refused("empty_object", "0 bytes")),
    _case("one_byte.jpg", "one byte", lambda: b"\xff", _UNKNOWN),
    _case("one_letter.jpg", "one letter", lambda: b"a", _no("text")),
    _case("nulls.jpg", "zeros", lambda: bytes(5000), _no("zero bytes")),
    _case("random.jpg", "random bytes", lambda: b"\x01" + random.Random(9).randbytes(5000), _UNKNOWN),
    _case("text.jpg", "text", lambda: TEXT, _no("text")),
    _case("text_utf16.jpg", "text in UTF-16", lambda: TEXT.decode().encode("utf-16"), _no("text")),
    _case("text_latin1.jpg", "text in Latin-1", lambda: ("Grüße aus Köln\n" * 20).encode("latin-1"), _no("text")),
    _case("text_bom.jpg", "text with a byte order mark", lambda: b"\xef\xbb\xbf" + TEXT, _no("text")),
    _case("text_spaces.jpg", "spaces and line ends", lambda: b" \n" * 99, _no("text")),
    _case("text_about_svg.jpg", "text about the tag <svg",
          lambda: b"The tag <svg> begins a drawing.\n" * 9, _no("text")),
    _case("text_mm.jpg", "text that begins with MM", lambda: b"MM* is what the marking says.\n" * 9, _no("text")),
    _case("json.jpg", "JSON", lambda: json.dumps({"error": "not found", "svg": "<svg>"}).encode(), _no("JSON")),
    _case("xml.jpg", "the error message of a storage service",
          lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", _no("XML")),
    _case("html.jpg", "HTML", lambda: _html("Not found"), _no("HTML")),
    _case("html_inline_svg.jpg", "HTML with an SVG inside",
          lambda: _html("<svg viewBox='0 0 9 9'></svg>Not found"), _no("HTML")),
    _case("html_comment.jpg", "HTML behind a comment and line ends",
          lambda: b"\n\n<!-- saved from -->\n" + _html("<svg></svg>"), _no("HTML")),
    _case("html_upper.jpg", "HTML in capitals", lambda: b"<HTML><BODY><SVG></SVG></BODY></HTML>", _no("HTML")),
    _case("base64.jpg", "an image as base64 text",
          lambda: b"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUA\n" * 9, _no("data URL")),
    _case("pdf.jpg", "PDF", lambda: PDF, _no("PDF")),
    _case("zip.jpg", "ZIP", _zip, _no("ZIP")),
    _case("gzip.jpg", "a compressed JPEG", lambda: gzip.compress(jpeg(), mtime=0), _no("gzip")),
    _case("tar.jpg", "tar", lambda: b"photo.jpg".ljust(257, b"\0") + b"ustar\x0000" + bytes(400), _no("tar")),
    _case("bzip2.jpg", "bzip2", lambda: b"BZh91AY&SY" + bytes(60), _no("bzip2")),
    _case("xz.jpg", "xz", lambda: b"\xfd7zXZ\x00" + bytes(60), _no("xz")),
    _case("mp4.jpg", "MP4", lambda: MP4, _no("MP4")),
    _case("quicktime.mov", "QuickTime", lambda: file_type(b"qt  ") + box(b"mdat", bytes(60)), _no("QuickTime")),
    _case("quicktime_old.mov", "QuickTime without a file type", lambda: box(b"moov", bytes(90)), _no("QuickTime")),
    _case("video_3gp.3gp", "3GP", lambda: file_type(b"3gp4", b"3gp4", b"isom") + bytes(60), _no("media file")),
    _case("avi.jpg", "AVI", lambda: b"RIFF\x10\x00\x00\x00AVI LIST" + bytes(60), _no("AVI")),
    _case("wav.jpg", "WAVE", lambda: b"RIFF\x10\x00\x00\x00WAVEfmt " + bytes(60), _no("WAVE")),
    _case("webm.jpg", "WebM", lambda: b"\x1aE\xdf\xa3" + bytes(60), _no("WebM")),
    _case("mpeg_ts.ts", "an MPEG transport stream", lambda: (b"\x47" + bytes(187)) * 5, _no("")),
    _case("mp3.jpg", "MP3", lambda: b"ID3\x03\x00" + bytes(60), _no("MP3")),
    _case("ole.doc", "an old Office document",
          lambda: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), _no("Office")),
    _case("sqlite.jpg", "SQLite", lambda: b"SQLite format 3\x00" + bytes(60), _no("SQLite")),
    _case("elf.jpg", "a program", lambda: b"\x7fELF" + bytes(60), _no("executable")),
    _case("icc.jpg", "a colour profile", lambda: bytes(36) + b"acsp" + bytes(99), _no("profile")),
    _case("ds_store.jpg", "a folder's settings (macOS)",
          lambda: b"\x00\x00\x00\x01Bud1" + bytes(60), _no("")),
    _case("apple_double.jpg", "a resource fork (macOS)",
          lambda: b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(60), _no("AppleDouble")),
    _case("lfs_pointer.jpg", "a pointer of Git LFS",
          lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", _no("Git LFS")),
)
# fmt: on

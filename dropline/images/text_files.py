"""Recognise text: drawings and images that are stored as text, documents, and text with an image inside."""

import re

from dropline.errors import PermanentError
from dropline.images import refusals

#: Bytes of a text that are looked at: drawing programs write long comments before the first element.
_HEAD_BYTES = 65_536
_ENCODING_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
#: UTF-16 without a mark, as in "<\0s\0v\0g\0".
_UTF16_STARTS = ((b"<\x00", "utf-16-le"), (b"\x00<", "utf-16-be"))
#: What may stand before the first element of an XML document, each with its end.
_PROLOGUE = (("<?", "?>"), ("<!--", "-->"))
_ELEMENT = re.compile(r"<(?:[A-Za-z_][\w.-]{0,60}:)?([A-Za-z_][\w.-]{0,60})")
_DOCTYPE = re.compile(r"<!doctype\s+(?:[\w.-]{0,60}:)?([\w.-]{1,80})", re.IGNORECASE)
_SUBSET_OR_END = re.compile(r"[\[>]")
_UNSUPPORTED_TEXTS = (
    (re.compile(r"/\* XPM \*/|! XPM2"), "an XPM image"),
    (re.compile(r"(?:/\*.{0,4000}?\*/\s*)?#define\s+\w{1,200}_?width\s+\d+\s", re.DOTALL), "an XBM image"),
    (re.compile(r"%!PS|\x04%!PS"), "a PostScript document"),
    (re.compile(r"id=ImageMagick"), "a MIFF image"),
    (re.compile(r"(?:999\s*\n[^\n]*\n\s*)*0\s*\n\s*SECTION\s*\n\s*2\s*\n"), "a DXF drawing"),
    (re.compile(r"BEGMF\s*['\"]", re.IGNORECASE), "a CGM drawing"),
    (re.compile(r"push\s+graphic-context\s"), "an MVG drawing of ImageMagick"),
    (re.compile(r"#FIG\s[1-3]\.\d"), "an XFIG drawing"),
    (re.compile(r"\[BitmapInfo2\]\s"), "a Polar Monitor bitmap"),
    (re.compile(r"SQ BITMAP1\s"), "a SoftQuad image"),
    (re.compile(r"\*BEGIN (?:GRAPHICS|RASTER) VERSION"), "an Applixware drawing or image"),
    (re.compile(r"(?:CCSD3ZF|NJPL1I|PDS_VERSION_ID|LBLSIZE=)"), "an image of a planetary mission (PDS or VICAR)"),
)
_NAMED_TEXTS = (
    (re.compile(r"version https://git-lfs\.github\.com/spec"), "a Git LFS pointer instead of the file"),
    (re.compile(r"data:image/"), "an image as a data URL: upload the decoded bytes"),
    (
        re.compile(r"iVBORw0KGgo|/9j/[24]|R0lGOD[dl]h|UklGR[\w+/]{5,7}XRUJQ"),
        "an image as base64 text: upload the decoded bytes",
    ),
    (re.compile(r"[\[{]"), "JSON or similar text"),
)
_CONTROLS = re.compile(rb"[\x00-\x03\x05-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
#: Share of a head that text fills: a few stray bytes make no binary file.
_TEXT_SHARE = 0.9


def refusal_of_text(data: bytes) -> PermanentError | None:
    """Return the refusal of a text, named; None for bytes that are no text."""
    text = _text(data[:_HEAD_BYTES])
    if not text:
        return None if data[:_HEAD_BYTES].strip() else refusals.not_an_image("text")
    for pattern, name in _UNSUPPORTED_TEXTS:
        if pattern.match(text):
            return refusals.unsupported(name)
    if text.startswith("<"):
        return _refusal_of_markup(text)
    names = [name for pattern, name in _NAMED_TEXTS if pattern.match(text)]
    return refusals.not_an_image(names[0] if names else "text")


def _text(head: bytes) -> str:
    """The text of `head` without leading white space; empty for other bytes."""
    for mark, encoding in (*_ENCODING_MARKS, *_UTF16_STARTS):
        if head.startswith(mark):
            return head.decode(encoding, "ignore").lstrip("\ufeff \t\r\n\f")
    text = head.decode("utf-8", "ignore").lstrip()
    if len(text.encode()) < _TEXT_SHARE * len(head.strip()):
        # Of bytes in an older encoding, none is a control character, and most are ASCII.
        foreign = _CONTROLS.search(head) or sum(each > 0x7F for each in head) > len(head) / 2
        return "" if foreign else head.decode("latin-1").lstrip()
    controls = len(_CONTROLS.findall(text.encode()))
    return "" if "\x00" in text or controls > len(text) / 100 else text


def _refusal_of_markup(text: str) -> PermanentError:
    """Name an XML or HTML document by its first element: HTML with a drawing inside is HTML."""
    root, doctype = _first_element(text)
    if root == "svg":
        return refusals.unsupported("an SVG, a drawing and no pixels")
    if root == "html" or doctype == "html":
        return refusals.not_an_image("an HTML document")
    return refusals.not_an_image("an HTML or XML document")


def _first_element(text: str) -> tuple[str, str]:
    """The first element's name without its prefix, and the name in the document type; in lower case."""
    at, doctype = 0, ""
    while (end := _end_of_prologue(text, at)) > 0:
        name = _DOCTYPE.match(text, at)
        doctype = name[1].lower() if name else doctype
        at = end + len(text[end:]) - len(text[end:].lstrip())
    # Illustrator's document types are longer than the head; the first element is of the same name.
    root = _ELEMENT.match(text, at) or _DOCTYPE.match(text, at)
    return (root[1].lower() if root else ""), doctype


def _end_of_prologue(text: str, at: int) -> int:
    """Where the declaration, comment or document type at `at` ends; -1: none starts there, or it has no end."""
    for start, end in _PROLOGUE:
        if text.startswith(start, at):
            found = text.find(end, at + len(start))
            return found + len(end) if found >= 0 else -1
    if text[at : at + 9].lower() != "<!doctype":
        return -1
    mark = _SUBSET_OR_END.search(text, at)
    if mark is None or mark[0] == ">":
        return mark.end() if mark else -1
    subset_end = text.find("]", mark.end())
    closed = text.find(">", subset_end) if subset_end >= 0 else -1
    return closed + 1 if closed >= 0 else -1

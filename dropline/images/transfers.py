"""Name what a transfer did to an image: bytes replaced by a text mode, foreign bytes before it, or a stump."""

import re

from dropline.errors import PermanentError
from dropline.images import refusals

_TEXT_MODE = (
    # The length between both words has more bytes as UTF-8.
    (re.compile(rb"RIFF.{5,12}WEBPVP8", re.DOTALL), "a WEBP"),
    # 0x89 as such, without its eighth bit, as UTF-8, as the replacement character or as "?"; other line ends.
    (re.compile(rb"(?:[\x89\x09?]|\xc2\x89|\xef\xbf\xbd)?PNG[\r\n]{1,8}(?:\x1a|\x00\x00\x00\r?IHDR)"), "a PNG"),
    # 0xFF 0xD8 0xFF as UTF-8, as replacement characters, as "???", or without the eighth bits.
    (
        re.compile(
            rb"(?:\xc3\xbf\xc3\x98\xc3\xbf|(?:\xef\xbf\xbd){3,}|\?{3,}|\x7fX\x7f).{0,12}(?:JFIF|Exif)", re.DOTALL
        ),
        "a JPEG",
    ),
)
_OTHER_GIF = re.compile(rb"GIF\d\d[a-z]")
_BOM_OR_SPACE = re.compile(rb"[\xef\xbb\xbf\x00\s]{1,65536}+")
#: A header of HTTP, MIME or a form, up to its empty line.
_HEADERS = re.compile(rb"(?:HTTP/|--|[A-Za-z-]{2,40}: ?)[^\x00]{0,8000}?\r?\n\r?\n")
#: Signatures long enough not to occur by chance.
_WHOLE_SIGNATURES = (
    (b"\xff\xd8\xff", "a JPEG"),
    (b"\x89PNG\r\n\x1a\n", "a PNG"),
    (b"GIF87a", "a GIF"),
    (b"GIF89a", "a GIF"),
    (b"II*\x00", "a TIFF"),
    (b"MM\x00*", "a TIFF"),
)
#: Line ends that are all of one kind, in so many places, are no chance: one byte of 256 is a line feed.
_LINE_ENDS = 16
_HEAD_BYTES = 65_536
#: Fewer bytes may look like text by chance.
_SURE_BYTES = 256
#: Shortest stump of a signature that is named; a shorter one, or one of letters alone, is any file.
_STUMP_BYTES = 2


def transfer_damage(data: bytes) -> PermanentError | None:
    """Return the refusal of an image that a transfer damaged from the first byte on; None for other bytes."""
    for pattern, name in _TEXT_MODE:
        if pattern.match(data):
            return refusals.damaged_by_transfer(f"{name} damaged by a text-mode transfer")
    if _OTHER_GIF.match(data):
        return refusals.corrupt("GIF", "its version is unknown")
    for foreign, words in ((_BOM_OR_SPACE, "white space or zero bytes"), (_HEADERS, "the header of a transfer")):
        if found := foreign.match(data):
            for signature, name in _WHOLE_SIGNATURES:
                if data.startswith(signature, found.end()):
                    return refusals.damaged_by_transfer(f"{name} with {words} in front")
    return _refusal_of_stump(data)


def has_text_line_ends(data: bytes, start: int = 0) -> bool:
    """Return True if each line feed in the first compressed pixels, from `start`, has a carriage return in front.

    A transfer in text mode writes both for each line feed; compressed bytes have them by chance.
    """
    head = data[start : start + _HEAD_BYTES]
    return head.count(b"\n") >= _LINE_ENDS and head.count(b"\n") == head.count(b"\r\n")


def was_text(data: bytes) -> bool:
    """Return True if a transfer treated all bytes as text: line ends, seven bits, or an encoding in UTF-8."""
    if len(data) < _SURE_BYTES:
        return False
    if has_text_line_ends(data) or data.isascii():
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _refusal_of_stump(data: bytes) -> PermanentError | None:
    for signature, name in _WHOLE_SIGNATURES:
        if _STUMP_BYTES <= len(data) < len(signature) and signature.startswith(data) and not data.isalpha():
            return refusals.truncated(name[2:], "the file ends inside its signature")
    return None

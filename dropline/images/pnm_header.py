"""The headers of PBM, PGM, PPM and PAM files. Without Pillow and numpy: the command line detects formats too."""

import re
from dataclasses import dataclass

#: Bytes of a header that are looked at, with its comments.
_HEAD_BYTES = 65_536
_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])++"
_BITMAP = re.compile(rb"P([14])" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,9})\s()")
_GREY_OR_COLOUR = re.compile(
    rb"P([2356])" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,5})\s"
)
_PAM = re.compile(rb"P7\s(?:[^\n]{0,200}\n){3,60}?ENDHDR\r?\n")
_PAM_FIELD = re.compile(rb"^(WIDTH|HEIGHT|DEPTH|MAXVAL)\s+(\d{1,9})\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PnmHeader:
    """The facts of a header."""

    width: int
    height: int
    channels: int
    #: Largest value of a sample; 0: one bit per sample, and 1 is black.
    most: int
    text: bool
    pixels_at: int


def looks_like_pnm(data: bytes) -> bool:
    """Return True if `data` begins with a whole header: "P1" alone begins many a text."""
    head = data[:_HEAD_BYTES]
    return any(pattern.match(head) for pattern in (_BITMAP, _GREY_OR_COLOUR, _PAM))


def read_header(data: bytes) -> PnmHeader:
    """The header of data for which `looks_like_pnm` is true."""
    head = data[:_HEAD_BYTES]
    if found := _PAM.match(head):
        fields = {name: int(value) for name, value in _PAM_FIELD.findall(found[0])}
        width, height = fields.get(b"WIDTH", 0), fields.get(b"HEIGHT", 0)
        return PnmHeader(
            width, height, fields.get(b"DEPTH", 0), fields.get(b"MAXVAL", 0) or -1, False, found.end()
        )
    found = _BITMAP.match(head) or _GREY_OR_COLOUR.match(head)
    assert found is not None
    kind = int(found[1])
    most = int(found[4]) or -1 if found[4] else 0
    return PnmHeader(int(found[2]), int(found[3]), 3 if kind in (3, 6) else 1, most, kind <= 3, found.end())

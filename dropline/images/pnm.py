"""PBM, PGM, PPM and PAM, as text or binary, of 1 to 16 bits per sample, in our own code."""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from dropline.contract import Dimensions
from dropline.images import refusals
from dropline.images.picture import Picture
from dropline.settings import ImageSettings

#: Bytes of a header that are looked at, with its comments.
_HEAD_BYTES = 65_536
_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])++"
_BITMAP = re.compile(rb"P([14])" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,9})\s()")
_GREY_OR_COLOUR = re.compile(
    rb"P([2356])" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,5})\s"
)
_PAM = re.compile(rb"P7\s(?:[^\n]{0,200}\n){3,60}?ENDHDR\n")
_PAM_FIELD = re.compile(rb"^(WIDTH|HEIGHT|DEPTH|MAXVAL)\s+(\d{1,9})\s*$", re.MULTILINE)
_COMMENT = re.compile(rb"#[^\r\n]*")


@dataclass(frozen=True, slots=True)
class _Header:
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


def read_pnm(data: bytes, side_px: int, limits: ImageSettings) -> Picture:  # noqa: ARG001
    """Decode the first image of a PNM file; samples are scaled from the file's largest value to 255.

    Raises:
        InvalidImage: `truncated_image` or `corrupt_image`.
        ImageRefused: `image_too_large`.
    """
    header = _header(data[:_HEAD_BYTES])
    if not header.width * header.height or not 0 <= header.most <= 65_535 or header.channels not in range(1, 5):
        raise refusals.corrupt("PNM", "its header is invalid")
    refusals.check_size(header.width, header.height, limits)
    samples = _text_samples(data, header) if header.text else _binary_samples(data, header)
    rows = samples.reshape(header.height, header.width, header.channels)
    image = Image.fromarray(rows[:, :, 0] if header.channels == 1 else rows)
    return Picture(image, Dimensions(header.width, header.height))


def _header(head: bytes) -> _Header:
    if found := _PAM.match(head):
        fields = {name: int(value) for name, value in _PAM_FIELD.findall(found[0])}
        width, height = fields.get(b"WIDTH", 0), fields.get(b"HEIGHT", 0)
        return _Header(width, height, fields.get(b"DEPTH", 0), fields.get(b"MAXVAL", 0) or -1, False, found.end())
    found = _BITMAP.match(head) or _GREY_OR_COLOUR.match(head)
    assert found is not None
    kind = int(found[1])
    most = int(found[4]) or -1 if found[4] else 0
    return _Header(int(found[2]), int(found[3]), 3 if kind in (3, 6) else 1, most, kind <= 3, found.end())


def _binary_samples(data: bytes, header: _Header) -> npt.NDArray[np.uint8]:
    if not header.most:
        row_bytes = (header.width + 7) // 8
        rows = _raw(data, header, row_bytes * header.height, "u1").astype(np.uint8, copy=False)
        bits = np.unpackbits(rows.reshape(header.height, row_bytes), axis=1)[:, : header.width]
        return np.asarray((1 - bits) * 255, dtype=np.uint8)
    count = header.width * header.height * header.channels
    return _scaled(_raw(data, header, count, ">u2" if header.most > 255 else "u1"), header.most)


def _raw(data: bytes, header: _Header, count: int, kind: str) -> npt.NDArray[np.generic]:
    if len(data) - header.pixels_at < count * np.dtype(kind).itemsize:
        raise refusals.truncated("PNM", "pixels are missing")
    return np.frombuffer(data, kind, count, header.pixels_at)


def _text_samples(data: bytes, header: _Header) -> npt.NDArray[np.uint8]:
    count = header.width * header.height * header.channels
    body = _COMMENT.sub(b" ", data[header.pixels_at :])
    if not header.most:
        digits = np.frombuffer(body, np.uint8)
        digits = digits[(digits == ord("0")) | (digits == ord("1"))][:count]
        values, most = 1 - (digits - ord("0")), 1
    else:
        try:
            values, most = np.array(body.split(maxsplit=count)[:count], dtype=np.int64), header.most
        except ValueError:
            raise refusals.corrupt("PNM", "a sample is no number") from None
    if len(values) < count:
        raise refusals.truncated("PNM", "pixels are missing")
    return _scaled(values, most)


def _scaled(values: npt.NDArray[np.generic], most: int) -> npt.NDArray[np.uint8]:
    if most == 255 and values.dtype == np.uint8:
        return np.asarray(values, dtype=np.uint8)
    wide = np.clip(values.astype(np.int64), 0, most)
    return np.asarray((wide * 255 + most // 2) // most, dtype=np.uint8)

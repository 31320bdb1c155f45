"""PBM, PGM, PPM and PAM, as text or binary, of 1 to 16 bits per sample, in our own code."""

import re

import numpy as np
import numpy.typing as npt
from PIL import Image

from dropline.contract import Dimensions
from dropline.images import refusals
from dropline.images.picture import Picture
from dropline.images.pnm_header import PnmHeader, read_header
from dropline.settings import ImageSettings

_COMMENT = re.compile(rb"#[^\r\n]*")


def read_pnm(data: bytes, side_px: int, limits: ImageSettings) -> Picture:  # noqa: ARG001
    """Decode the first image of a PNM file; samples are scaled from the file's largest value to 255.

    Raises:
        InvalidImage: `truncated_image` or `corrupt_image`.
        ImageRefused: `image_too_large`.
    """
    header = read_header(data)
    if not header.width * header.height or not 0 <= header.most <= 65_535 or header.channels not in range(1, 5):
        raise refusals.corrupt("PNM", "its header is invalid")
    refusals.check_size(header.width, header.height, limits)
    samples = _text_samples(data, header) if header.text else _binary_samples(data, header)
    rows = samples.reshape(header.height, header.width, header.channels)
    image = Image.fromarray(rows[:, :, 0] if header.channels == 1 else rows)
    return Picture(image, Dimensions(header.width, header.height))


def _binary_samples(data: bytes, header: PnmHeader) -> npt.NDArray[np.uint8]:
    if not header.most:
        row_bytes = (header.width + 7) // 8
        rows = _raw(data, header, row_bytes * header.height, "u1").astype(np.uint8, copy=False)
        bits = np.unpackbits(rows.reshape(header.height, row_bytes), axis=1)[:, : header.width]
        return np.asarray((1 - bits) * 255, dtype=np.uint8)
    count = header.width * header.height * header.channels
    return _scaled(_raw(data, header, count, ">u2" if header.most > 255 else "u1"), header.most)


def _raw(data: bytes, header: PnmHeader, count: int, kind: str) -> npt.NDArray[np.generic]:
    length = count * np.dtype(kind).itemsize
    at = _pixels_at(data, header, length)
    if len(data) - at < length:
        raise refusals.truncated("PNM", "pixels are missing")
    return np.frombuffer(data, kind, count, at)


def _pixels_at(data: bytes, header: PnmHeader, length: int) -> int:
    """Where the pixels start: a header that ends with CR LF has one byte more than the format allows.

    A line feed may be the first pixel, too: the other lines of the header, or the length of the file, decide.
    """
    at = header.pixels_at
    if data[at - 1 : at + 1] != b"\r\n":
        return at
    lines, left = b"\r\n" in data[: at - 1], len(data) - at - 1
    if lines and left > length and left - data.count(b"\r\n", at + 1) == length:
        raise refusals.damaged_by_transfer("a PNM damaged by a text-mode transfer")
    return at + 1 if lines or left == length else at


def _text_samples(data: bytes, header: PnmHeader) -> npt.NDArray[np.uint8]:
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

"""The content encoding of an object: stored bytes to the bytes that the uploader had.

Cloud Storage keeps `Content-Encoding` as the upload sent it and never compares it with the bytes. So the bytes
decide: a coding is undone where the bytes have its signature, and ignored elsewhere. Gzip is read in small blocks,
member by member: `zlib` stops after the first member, and copies the rest of its input at the end of each member,
which takes quadratic time for many members.
"""

import base64
import hashlib
import io
import re
import zlib
from dataclasses import dataclass, field
from typing import Final, Self

from dropline.contract import ObjectVersion
from dropline.errors import ImageRefused, InvalidImage

#: Members of one gzip stream. A block-compressed image of 50 MB has 800 members; empty members have 20 bytes.
MAX_MEMBERS: Final = 10_000
#: Stacked codings.
MAX_CODINGS: Final = 5
#: Bytes given to zlib at a time. Deflate expands at most 1032-fold, so decompression exceeds the limit of bytes by
#: 4 MiB at most.
_BLOCK_BYTES = 4096
_GZIP_MAGIC = b"\x1f\x8b\x08"
_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_DECODED = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate", "x-deflate": "deflate"}
#: Codings that change the bytes and are not undone. Other names in the header, such as `utf-8`, change no byte.
# fmt: off
_NOT_DECODED = frozenset({
    "aes128gcm", "aws-chunked", "base64", "br", "bzip2", "compress", "dcb", "dcz", "exi", "lz4", "lzma",
    "pack200-gzip", "snappy", "x-bzip2", "x-compress", "x-snappy-framed", "x-xz", "xz", "zstd",
})
# fmt: on


@dataclass(frozen=True, slots=True)
class Identity:
    """Size and MD5 of an object's stored bytes: what Cloud Storage and its events name."""

    size_bytes: int
    #: In base64.
    md5_hash: str

    @classmethod
    def of(cls, stored: bytes) -> Self:
        """Hash the bytes."""
        digest = hashlib.md5(stored, usedforsecurity=False).digest()
        return cls(len(stored), base64.b64encode(digest).decode())


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of an object, without the codings that can be undone."""

    data: bytes
    #: A coding in the object's `Content-Encoding` that was not undone.
    coding: str | None = None
    #: Of the stored bytes, if a coding was undone; the stored bytes themselves are not kept.
    undone: Identity | None = field(default=None, compare=False)

    @property
    def size_bytes(self) -> int:
        """Size of the object: that of its stored bytes."""
        return len(self.data) if self.undone is None else self.undone.size_bytes

    def identity(self) -> Identity:
        """Size and MD5 of the stored bytes; hashes `data` if no coding was undone."""
        return self.undone or Identity.of(self.data)

    def explain(self, error: InvalidImage) -> InvalidImage:
        """Return the error of decoding `data`, or the coding as the cause of bytes that are no image."""
        if self.coding is None or error.code != "not_an_image":
            return error
        return InvalidImage(
            f'the object has the content encoding "{self.coding}", which is not decoded: '
            "upload the image without it, or with gzip",
            code="unsupported_format",
        )


class BoundedBuffer(io.BytesIO):
    """A buffer that raises `ImageRefused` when its limit is passed, which ends download or decompression."""

    def __init__(self, version: ObjectVersion, max_bytes: int) -> None:
        super().__init__()
        self._version = version
        self._max_bytes = max_bytes

    def write(self, block: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(block) > self._max_bytes:
            raise _too_large(self._version, self._max_bytes)
        return super().write(block)


def decode_content(stored: bytes, encoding: str | None, version: ObjectVersion, max_bytes: int) -> Content:
    """Undo the codings of `encoding`, a `Content-Encoding` header, in reverse order.

    A compressed stream whose end is missing yields the bytes before the gap: whether pixels are missing is for the
    image's own reader to find.

    Raises:
        ImageRefused: `object_too_large` after at most `max_bytes` and one block, or `image_too_complex`.
        InvalidImage: `corrupt_image` for damaged compressed bytes, `truncated_image` if they end before the first
            byte, `unsupported_format` for too many codings.
    """
    names = re.findall(r"[a-z0-9_-]+", (encoding or "").lower())
    codings = [_DECODED[name] for name in names if name in _DECODED]
    if len(codings) > MAX_CODINGS:
        raise InvalidImage(
            f"the object has more than {MAX_CODINGS} content encodings: upload the image without them",
            code="unsupported_format",
        )
    data = stored
    for coding in reversed(codings):
        data = _undo(coding, data, BoundedBuffer(version, max_bytes))
    left = next((name for name in reversed(names) if name in _NOT_DECODED), None)
    return Content(data, left, None if data is stored else Identity.of(stored))


def _undo(coding: str, data: bytes, plain: BoundedBuffer) -> bytes:
    """Return `data` without one coding, or `data` itself where the bytes do not have the coding."""
    try:
        if data.startswith(_GZIP_MAGIC):
            ended = _inflate_members(data, plain)
        elif coding == "deflate" and _is_zlib(data):
            _, ended = _inflate(data, 0, _ZLIB, plain)
        else:
            return _without_raw_deflate(data, plain) if coding == "deflate" else data
    except zlib.error as error:
        raise _damaged(coding, str(error).rpartition(": ")[2]) from error
    if not ended and not plain.tell():
        raise _cut_short(coding)
    return plain.getvalue()


def _inflate_members(data: bytes, plain: BoundedBuffer) -> bool:
    """Decompress all gzip members; return False if the end of the last member is missing.

    Zeros between members, and bytes after the last member, are ignored, as the command `gzip` ignores them.
    """
    at = 0
    for _ in range(MAX_MEMBERS):
        at, ended = _inflate(data, at, _GZIP, plain)
        at = _after_zeros(data, at)
        if not data.startswith(_GZIP_MAGIC, at):
            return ended
    raise ImageRefused(
        f"the object's gzip has more than {MAX_MEMBERS:,} members: upload the image without gzip",
        code="image_too_complex",
    )


def _inflate(data: bytes, at: int, wbits: int, plain: BoundedBuffer) -> tuple[int, bool]:
    """Decompress one stream from offset `at`; return the offset of its end, and False if the end is missing."""
    stream = zlib.decompressobj(wbits)
    while at < len(data) and not stream.eof:
        block = data[at : at + _BLOCK_BYTES]
        plain.write(stream.decompress(block))
        at += len(block)
    return at - len(stream.unused_data), stream.eof


def _without_raw_deflate(data: bytes, plain: BoundedBuffer) -> bytes:
    """Decompress deflate without zlib's header, which has no signature: accepted only as a whole."""
    try:
        after, ended = _inflate(data, 0, _RAW, plain)
    except zlib.error:
        return data
    return plain.getvalue() if ended and after == len(data) else data


def _is_zlib(data: bytes) -> bool:
    return len(data) > 1 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0


def _after_zeros(data: bytes, at: int) -> int:
    found = re.compile(rb"\x00*").match(data, at)
    return found.end() if found else at


def _damaged(coding: str, reason: str) -> InvalidImage:
    return InvalidImage(
        f"the compressed bytes of the content encoding {coding} are damaged: upload a good copy ({reason})",
        code="corrupt_image",
    )


def _cut_short(coding: str) -> InvalidImage:
    return InvalidImage(
        f"the compressed bytes of the content encoding {coding} end before the image: upload it again",
        code="truncated_image",
    )


def _too_large(version: ObjectVersion, max_bytes: int) -> ImageRefused:
    return ImageRefused(
        f"{version.uri} has more than the {max_bytes} bytes that DROPLINE_EVENTS__MAX_SIZE_BYTES allows: "
        "raise it, or upload a smaller image",
        code="object_too_large",
    )

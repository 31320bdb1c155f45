"""The images that a client takes: bytes, files, and addresses. No I/O."""

import mimetypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

from dropline.client.steps import Flow, Part, Read
from dropline.errors import ClientError

#: An image: bytes, a path, or an address (`gs://bucket/name`, `https://…`).
Image = bytes | str | os.PathLike[str]

_ADDRESS = re.compile(r"(?:gs|https?)://", re.IGNORECASE)
_BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Content:
    """An image to upload."""

    #: Of the file; `image` for bytes.
    name: str
    #: Bytes in memory, or the file's path.
    source: bytes | Path

    @property
    def content_type(self) -> str:
        """By the name; the service looks at the bytes."""
        return mimetypes.guess_type(self.name)[0] or _BYTES

    def part(self, offset: int, length: int) -> Flow[Part]:
        """A part of the bytes."""
        if isinstance(self.source, bytes):
            return Part(self.source[offset : offset + length], len(self.source))
        part: Part = yield Read(self.source, offset, length)
        return part


def content_of(image: Image) -> Content | str:
    """The image to upload, or the address of an image that is somewhere already.

    Raises:
        ClientError: neither bytes nor a path nor an address.
    """
    match image:
        case bytes():
            return Content("image", image)
        case str() if _ADDRESS.match(image):
            return image
        case str() | os.PathLike():
            path = Path(image)
            # The name of a file may have bytes that are no UTF-8.
            return Content(os.fsencode(path.name).decode(errors="replace"), path)
    raise ClientError(f"an image is bytes, a path or an address, not {type(image).__name__}")

"""Size, type and name of an uploaded file, by the sender's words. Pure."""

import io
from typing import BinaryIO

from dropline.selection import media_type
from dropline.storage.uploads import content_type

_BYTES = "application/octet-stream"
#: A browser runs the scripts of such an image when it is opened by itself.
_SCRIPTABLE = frozenset({"image/svg+xml"})
#: Most bytes of a file's name in the name of its object.
_MOST_NAME_BYTES = 200


def size_of(content: BinaryIO) -> int:
    size = content.seek(0, io.SEEK_END)
    content.seek(0)
    return size


def image_type(stated: str | None, name: str) -> str:
    """The type of an image; of any other content, and of text that a browser could run, that of bytes."""
    kinds = (media_type(kind or "") for kind in (stated, content_type(name)))
    return next((kind for kind in kinds if kind.startswith("image/") and kind not in _SCRIPTABLE), _BYTES)


def clean_name(name: str) -> str:
    """The last part of a path as the end of an object name, without control characters; may be empty."""
    last = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(character for character in last if character.isprintable())
    short = printable.encode("utf-8", "ignore")[-_MOST_NAME_BYTES:].decode("utf-8", "ignore")
    return "" if short in {".", ".."} else short

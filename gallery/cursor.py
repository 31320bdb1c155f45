"""The place in a list of captions, as an opaque text. Pure."""

import base64
import binascii
import struct

from dropline.errors import PermanentError

#: Version of the text, and the id of a row.
_PLACE = struct.Struct(">Bq")
_VERSION = 1


class InvalidCursor(PermanentError):
    """A text is not the cursor of a list."""

    default_code = "invalid_cursor"


def encode_cursor(row_id: int) -> str:
    """The place after a row."""
    return base64.urlsafe_b64encode(_PLACE.pack(_VERSION, row_id)).decode()


def decode_cursor(text: str) -> int:
    """The id of the row before the place.

    Raises:
        InvalidCursor: `encode_cursor` never returns the text.
    """
    try:
        version, row_id = _PLACE.unpack(base64.b64decode(text, altchars=b"-_", validate=True))
    except (binascii.Error, struct.error, ValueError):
        version, row_id = 0, 0
    if version != _VERSION or row_id < 1 or encode_cursor(row_id) != text:
        raise InvalidCursor("the cursor is not one of this list: use `next` of an answer, unchanged")
    return int(row_id)

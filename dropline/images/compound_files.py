"""Images in the compound files of OLE 2, the container of older Office documents, told apart by the root entry."""

import uuid

_SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENTRY_BYTES = 128
_ROOT = 5
#: Class of the root entry.
_CLASSES = {
    uuid.UUID("56616700-c154-11ce-8553-00aa00a1f95b"): "a FlashPix image",
    uuid.UUID("00022c60-0000-0000-c000-000000000046"): "a Greenstreet drawing",
    uuid.UUID("02b01c80-e03d-101a-b294-00dd010f2bf9"): "a fax of At Work",
    uuid.UUID("402efe60-1999-101b-99ae-04021c007002"): "a WordPerfect drawing",
}
#: Name of an entry after the root, of a root without a class.
_ENTRIES = {"TplHeader": "a Ulead template", "Thumbnail": "a Corel PrintHouse image"}


def compound_image(data: bytes) -> str | None:
    """Return the name of an image in a compound file; None for other compound files and other bytes."""
    if len(data) < 512 or not data.startswith(_SIGNATURE) or data[30] not in (9, 12):
        return None
    at = (int.from_bytes(data[48:52], "little") + 1) << data[30]
    root = data[at : at + _ENTRY_BYTES]
    if len(root) < _ENTRY_BYTES or root[66] != _ROOT:
        return None
    kind = uuid.UUID(bytes_le=root[80:96])
    if kind.int:
        return _CLASSES.get(kind)
    names = (_name(data[at + skip : at + skip + 64]) for skip in (_ENTRY_BYTES, 2 * _ENTRY_BYTES))
    return next((_ENTRIES[name] for name in names if name in _ENTRIES), None)


def _name(stored: bytes) -> str:
    return stored.decode("utf-16-le", "replace").split("\x00")[0]

"""An object's custom metadata at its event: the part that the write-back needs of it. Pure."""

from collections.abc import Mapping
from typing import Any

from dropline.contract import METADATA_CAPTION, METADATA_MODEL, METADATA_PROMPT, PERSON, SeenMetadata

#: Cloud Storage's limit for the custom metadata of an object: all keys and values together, in bytes of UTF-8.
MAX_BYTES = 8192
_OURS = (METADATA_CAPTION, METADATA_MODEL, METADATA_PROMPT)


def seen_metadata(metageneration: int | None, metadata: Any) -> SeenMetadata | None:
    """The metadata of an event's object; None where the write-back must read the object's metadata first.

    That is so for an event without a metageneration, and for an object with a key that Dropline writes: the
    caption may be a person's, or that of a copied object.

    Args:
        metageneration: version number of the metadata.
        metadata: untrusted; None for an object without custom metadata.
    """
    keys = {} if metadata is None else metadata
    if not metageneration or not isinstance(keys, Mapping) or any(key in keys for key in _OURS):
        return None
    if not all(isinstance(text, str) for pair in keys.items() for text in pair):
        return None
    size = total_bytes(keys)
    return SeenMetadata(metageneration, size) if size <= MAX_BYTES else None


def own_caption(metadata: Any) -> str | None:
    """The caption of a person in an object's metadata; None without one.

    Without the key `caption-model`, a person wrote the caption. With its value `person`, a person edited the
    caption of this object, or of the one that it is a copy of.

    Args:
        metadata: untrusted.
    """
    keys = metadata if isinstance(metadata, Mapping) else {}
    caption = keys.get(METADATA_CAPTION)
    if not isinstance(caption, str) or not caption.strip():
        return None
    return caption if keys.get(METADATA_MODEL, PERSON) == PERSON else None


def total_bytes(metadata: Mapping[str, str]) -> int:
    """Bytes that Cloud Storage counts against the limit of an object: all keys and values, in UTF-8."""
    return sum(bytes_of(key) + bytes_of(value) for key, value in metadata.items())


def bytes_of(text: str) -> int:
    """Bytes of a text in UTF-8; lone surrogates count three."""
    return len(text.encode("utf-8", "surrogatepass"))

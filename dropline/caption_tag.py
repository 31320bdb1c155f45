"""The tag of a caption: an edit names the caption that it replaces, so that two people see each other's edits."""

import hashlib

_DIGITS = 32


def caption_tag(caption: str | None) -> str:
    """32 hexadecimal digits of the caption's SHA-256, as of the function `caption_tag` in Postgres."""
    return hashlib.sha256((caption or "").encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]

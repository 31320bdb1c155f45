"""Pure: what of a caption fits into an object's metadata, beside the keys of other people."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

import regex

from dropline.contract import METADATA_CAPTION, METADATA_MODEL
from dropline.settings import MetadataSettings

#: A caption that must be cut shorter than this, in UTF-8 bytes, is of no use to anybody.
SHORTEST_CUT_BYTES = 16
_ELLIPSIS = "…"
_GRAPHEME = regex.compile(r"\X")


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """What of a caption has reached the object's metadata."""

    #: Whether the metadata now holds the caption, whole or shortened.
    written: bool
    #: `metadata_shortened`, `metadata_left_out`, `metadata_kept` (a person's own caption) or an error's code;
    #: None: all is well.
    code: str | None = None
    #: The same in words; the row keeps it.
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """What to write, and how that is to be reported once it is written."""

    outcome: WriteOutcome
    #: Keys to set; empty where nothing is to be written.
    values: dict[str, str] = field(default_factory=dict)


def fit_metadata(existing: Mapping[str, str], ours: Mapping[str, str], limits: MetadataSettings) -> Fitted:
    """Fit our keys beside `existing` ones, which are never changed; the caption is what gives way.

    A caption that is there without our marker (`caption-model`) was written by a person. It stays, and nothing is
    written at all: with our marker beside it, the next caption would take it for ours.

    Args:
        existing: the object's custom metadata as it is now, ours of an earlier time included.
        ours: our keys and their wanted values; `caption` is among them.
        limits: bytes of UTF-8 per value, and per object: keys and values together, everybody's.
    """
    if existing.get(METADATA_CAPTION, "").strip() and METADATA_MODEL not in existing:
        return Fitted(_kept())
    values = {key: printable(value) for key, value in ours.items()}
    caption = values.pop(METADATA_CAPTION)
    room = _room(existing, values, limits)
    fitted = caption if _bytes(caption) <= room else shorten(caption, room)
    if fitted is None or any(_bytes(value) > limits.max_value_bytes for value in values.values()):
        return Fitted(_left_out(caption, existing, limits))
    values[METADATA_CAPTION] = fitted
    return Fitted(WriteOutcome(written=True) if fitted == caption else _shortened(caption, fitted), values)


def printable(text: str) -> str:
    """`text` as a header may carry it: control characters and lone surrogates become spaces."""
    return "".join(" " if unicodedata.category(each) in ("Cc", "Cs") else each for each in text).strip()


def shorten(text: str, room: int) -> str | None:
    """The longest beginning of `text` that fits `room` bytes of UTF-8 with an ellipsis, cut between graphemes.

    None where no useful beginning fits.
    """
    left = room - _bytes(_ELLIPSIS)
    end = 0
    for grapheme in _GRAPHEME.finditer(text):
        left -= _bytes(grapheme[0])
        if left < 0:
            break
        end = grapheme.end()
    kept = text[:end].rstrip()
    return kept + _ELLIPSIS if _bytes(kept) >= SHORTEST_CUT_BYTES else None


def total_bytes(metadata: Mapping[str, str]) -> int:
    """Bytes that Cloud Storage counts against an object's limit: every key and value, in UTF-8."""
    return sum(_bytes(key) + _bytes(value) for key, value in metadata.items())


def _room(existing: Mapping[str, str], others: dict[str, str], limits: MetadataSettings) -> int:
    """Bytes left for the caption's value."""
    beside = {key: value for key, value in existing.items() if key != METADATA_CAPTION}
    free = limits.max_total_bytes - total_bytes(beside | others) - _bytes(METADATA_CAPTION)
    return min(limits.max_value_bytes, free)


def _kept() -> WriteOutcome:
    note = (
        f"the object has a {METADATA_CAPTION} of its own, without {METADATA_MODEL}, so it was left as it is; "
        f"to have one written, remove the key {METADATA_CAPTION} and redrive the row with --metadata"
    )
    return WriteOutcome(written=False, code="metadata_kept", note=note)


def _shortened(caption: str, fitted: str) -> WriteOutcome:
    note = (
        f"the caption has {_bytes(caption)} bytes, of which {_bytes(fitted)} fit into the object's metadata; "
        "the row has all of it"
    )
    return WriteOutcome(written=True, code="metadata_shortened", note=note)


def _left_out(caption: str, existing: Mapping[str, str], limits: MetadataSettings) -> WriteOutcome:
    note = (
        f"the caption ({_bytes(caption)} bytes) does not fit beside the object's own metadata "
        f"({total_bytes(existing)} of {limits.max_total_bytes} bytes), so none was written; the row has all of it"
    )
    return WriteOutcome(written=False, code="metadata_left_out", note=note)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))

"""Pure functions that fit a caption into an object's metadata, beside the keys of other writers."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

import regex

from dropline.contract import METADATA_CAPTION, METADATA_MODEL, PERSON, WriteOutcome
from dropline.object_metadata import bytes_of, own_caption, total_bytes
from dropline.settings import MetadataSettings

#: Bytes of UTF-8 of the shortest useful beginning of a caption; a caption cut shorter is left out.
SHORTEST_CUT_BYTES = 16
_ELLIPSIS = "…"
_GRAPHEME = regex.compile(r"\X")


@dataclass(frozen=True, slots=True)
class FittedMetadata:
    """The keys to set, and the outcome to report afterwards."""

    outcome: WriteOutcome
    #: Keys to set; empty if no key is to be written.
    values: dict[str, str] = field(default_factory=dict)


def fit_metadata(
    existing: Mapping[str, str], ours: Mapping[str, str], limits: MetadataSettings, *, is_reverted: bool = False
) -> FittedMetadata:
    """Fit Dropline's keys beside the `existing` keys, which never change; a long caption is shortened.

    A person's caption (`dropline.object_metadata.own_caption`) gives way to a person's alone. If the row has the
    model's, it stays, and no key is written: with `caption-model` beside the caption, the next write-back would
    mistake the caption for Dropline's.

    Args:
        existing: the current custom metadata of the object, with keys of an earlier write-back.
        ours: Dropline's keys and new values, with `caption`.
        limits: bytes of UTF-8 per value, and per object (all keys and values together).
        is_reverted: an edited caption, whose `caption-model` is `person`, gives way too.
    """
    if (
        ours[METADATA_MODEL] != PERSON
        and own_caption(existing)
        and not (is_reverted and METADATA_MODEL in existing)
    ):
        return FittedMetadata(_kept(existing.get(METADATA_MODEL)))
    beside = {key: value for key, value in existing.items() if key not in ours}
    return fit_beside(total_bytes(beside), ours, limits)


def fit_beside(size_bytes: int, ours: Mapping[str, str], limits: MetadataSettings) -> FittedMetadata:
    """Fit Dropline's keys beside `size_bytes` bytes of other keys and values, as `fit_metadata` does."""
    values = {key: printable(value) for key, value in ours.items()}
    caption = values.pop(METADATA_CAPTION)
    free = limits.max_total_bytes - size_bytes - total_bytes(values) - bytes_of(METADATA_CAPTION)
    room = min(limits.max_value_bytes, free)
    fitted = caption if bytes_of(caption) <= room else shorten(caption, room)
    if fitted is None or any(bytes_of(value) > limits.max_value_bytes for value in values.values()):
        return FittedMetadata(_left_out(caption, size_bytes, limits))
    values[METADATA_CAPTION] = fitted
    return FittedMetadata(WriteOutcome(written=True) if fitted == caption else _shortened(caption, fitted), values)


def printable(text: str) -> str:
    """Make `text` valid for a header: control characters and lone surrogates become spaces."""
    return "".join(" " if unicodedata.category(each) in ("Cc", "Cs") else each for each in text).strip()


def shorten(text: str, room: int) -> str | None:
    """Return the longest beginning of `text` that fits `room` bytes of UTF-8 with an ellipsis, in whole graphemes.

    Return None if no useful beginning fits.
    """
    left = room - bytes_of(_ELLIPSIS)
    end = 0
    for grapheme in _GRAPHEME.finditer(text):
        left -= bytes_of(grapheme[0])
        if left < 0:
            break
        end = grapheme.end()
    kept = text[:end].rstrip()
    return kept + _ELLIPSIS if bytes_of(kept) >= SHORTEST_CUT_BYTES else None


def _kept(model: str | None) -> WriteOutcome:
    beside = f"without {METADATA_MODEL}" if model is None else f"with {METADATA_MODEL}={model}"
    note = (
        f"the object has a {METADATA_CAPTION} {beside}, which is a person's, so no key was changed; "
        f"to write the caption, remove the key {METADATA_CAPTION} and redrive the row with --metadata"
    )
    return WriteOutcome(written=False, code="metadata_kept", note=note)


def _shortened(caption: str, fitted: str) -> WriteOutcome:
    note = (
        f"the caption has {bytes_of(caption)} bytes, of which {bytes_of(fitted)} fit into the object's metadata; "
        "the row has the whole caption"
    )
    return WriteOutcome(written=True, code="metadata_shortened", note=note)


def _left_out(caption: str, size_bytes: int, limits: MetadataSettings) -> WriteOutcome:
    note = (
        f"the caption ({bytes_of(caption)} bytes) does not fit beside the object's own metadata "
        f"({size_bytes} of {limits.max_total_bytes} bytes), so no key was written; the row has the "
        "whole caption"
    )
    return WriteOutcome(written=False, code="metadata_left_out", note=note)

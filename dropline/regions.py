"""Boxes and polygons in the `result` of a row, as values. Pure; used by the client, the page and drawings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

#: The corners of a polygon, in pixels of the upright original: x to the right, y down.
Outline = tuple[tuple[float, float], ...]
#: Coordinates beyond this are no pixels of an image.
_MOST_PIXELS = 1e7


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle around one thing, in pixels of the upright original."""

    left: float
    top: float
    right: float
    bottom: float
    #: The model's words; may be empty.
    label: str = ""

    @property
    def outlines(self) -> tuple[Outline, ...]:
        """The four corners as the one outline of a polygon, clockwise from the left upper corner."""
        left, top, right, bottom = self.left, self.top, self.right, self.bottom
        return (((left, top), (right, top), (right, bottom), (left, bottom)),)


@dataclass(frozen=True, slots=True)
class Polygon:
    """One thing by its outlines, or a line of text (OCR) by the four corners around it."""

    #: One outline or more: the separate parts of the thing. Each has at least three corners.
    outlines: tuple[Outline, ...]
    #: The model's words, or the text that was read; may be empty.
    label: str = ""


def regions_of(result: object) -> Iterator[Box | Polygon]:
    """The boxes and polygons of a row's `result`, boxes first; other contents are left out.

    Args:
        result: as `Florence2Processor.post_process_generation` gives it (docs/decisions/0009), or any other JSON.
    """
    if not isinstance(result, dict):
        return
    labels = result.get("labels") or result.get("bboxes_labels")
    for box, label in _labelled(result.get("bboxes"), labels):
        if _are_numbers(box) and len(box) == 4:
            left, top, right, bottom = map(float, box)
            yield Box(left, top, right, bottom, label)
    for quad, label in _labelled(result.get("quad_boxes"), labels):
        yield from _polygon([quad], label)
    for parts, label in _labelled(result.get("polygons"), result.get("polygons_labels") or labels):
        yield from _polygon(parts if _is_list(parts) else [], label)


def _labelled(shapes: Any, labels: Any) -> Iterator[tuple[Any, str]]:
    names = [each if isinstance(each, str) else "" for each in labels] if _is_list(labels) else []
    for number, shape in enumerate(shapes if _is_list(shapes) else ()):
        yield shape, names[number] if number < len(names) else ""


def _polygon(parts: Sequence[Any], label: str) -> Iterator[Polygon]:
    outlines = tuple(_pairs(part) for part in parts if _are_numbers(part) and len(part) >= 6 and not len(part) % 2)
    if outlines:
        yield Polygon(outlines, label)


def _pairs(flat: Sequence[Any]) -> Outline:
    """The points of `[x1, y1, x2, y2, …]`."""
    return tuple((float(x), float(y)) for x, y in zip(flat[::2], flat[1::2], strict=True))


def _are_numbers(value: Any) -> bool:
    return _is_list(value) and all(map(_is_number, value))


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_number(value: Any) -> bool:
    """False for NaN too, which Python's JSON reader accepts."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST_PIXELS

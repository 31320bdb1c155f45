"""Boxes, outlines and OCR regions in the `result` of a row, as polygons for a page. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

#: Points in pixels of the upright original.
Outline = tuple[tuple[float, float], ...]
#: More regions than a person can tell apart are left out of a page.
MAX_REGIONS = 200


@dataclass(frozen=True, slots=True)
class Region:
    """One thing in a picture."""

    #: The model's words; may be empty.
    label: str
    #: One polygon or more.
    outlines: tuple[Outline, ...]

    @property
    def top(self) -> tuple[float, float]:
        """The leftmost of the highest points: the place of the label."""
        points = [point for outline in self.outlines for point in outline]
        return min(points, key=lambda point: (point[1], point[0]))


def regions_of(result: dict[str, Any] | None) -> list[Region]:
    """The regions of a row's `result`; what is no region of Florence-2 is left out.

    Args:
        result: as `Florence2Processor.post_process_generation` gives it (docs/decisions/0009).
    """
    return list(_regions(result))[:MAX_REGIONS] if isinstance(result, dict) else []


def _regions(result: dict[str, Any]) -> Iterator[Region]:
    labels = result.get("labels") or result.get("bboxes_labels")
    for box, label in _labelled(result.get("bboxes"), labels):
        yield from _region(label, [_corners(box)])
    for quad, label in _labelled(result.get("quad_boxes"), labels):
        yield from _region(label, [quad])
    for rings, label in _labelled(result.get("polygons"), result.get("polygons_labels") or labels):
        yield from _region(label, rings if _is_list(rings) else [])


def _labelled(shapes: Any, labels: Any) -> Iterator[tuple[Any, str]]:
    names = [each if isinstance(each, str) else "" for each in labels] if _is_list(labels) else []
    for number, shape in enumerate(shapes if _is_list(shapes) else ()):
        yield shape, names[number] if number < len(names) else ""


def _region(label: str, shapes: Sequence[Any]) -> Iterator[Region]:
    outlines = tuple(outline for outline in map(_outline, shapes) if outline)
    if outlines:
        yield Region(label, outlines)


def _corners(box: Any) -> list[Any]:
    if not _is_list(box) or len(box) != 4:
        return []
    left, top, right, bottom = box
    return [left, top, right, top, right, bottom, left, bottom]


def _outline(flat: Any) -> Outline | None:
    """The points of `[x1, y1, x2, y2, …]`; None for anything else."""
    if not _is_list(flat) or len(flat) < 6 or len(flat) % 2 or not all(map(_is_number, flat)):
        return None
    return tuple((float(x), float(y)) for x, y in zip(flat[::2], flat[1::2], strict=True))


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e7

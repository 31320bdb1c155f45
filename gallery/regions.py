"""Boxes, outlines and OCR regions in the `result` of a row, as polygons for a page. Pure."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

from dropline import regions
from dropline.regions import Outline

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
    """The first regions of a row's `result`; other contents are left out."""
    found = islice(regions.regions_of(result), MAX_REGIONS)
    return [Region(each.label, each.outlines) for each in found]

"""Figures and their presentation. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self


@dataclass(frozen=True)
class Figure:
    """One line of a report."""

    label: str
    #: With its unit.
    value: str


@dataclass(frozen=True)
class Spread:
    """The distribution of measured values; each field is one of the values, without interpolation."""

    count: int
    minimum: float
    p50: float
    p90: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The spread of one or more values.

        Raises:
            ValueError: `values` is empty.
        """
        ordered = sorted(values)
        return cls(
            len(ordered),
            percentile(ordered, 0),
            percentile(ordered, 50),
            percentile(ordered, 90),
            percentile(ordered, 100),
        )


class Result(Protocol):
    """The result of a part of the benchmark: a dataclass of numbers with the lines of its report."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def title(self) -> str:
        """A heading."""

    def figures(self) -> list[Figure]:
        """The lines of the report."""


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest rank: the smallest value with at least `percent` of the ascending values at or below it.

    Raises:
        ValueError: `ordered` is empty, or `percent` is not between 0 and 100.
    """
    if not ordered or not 0 <= percent <= 100:
        raise ValueError(f"no percentile {percent:g} of {len(ordered)} values")
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def shown(value: float) -> str:
    """Three significant digits, or all digits before the point; further digits would be noise."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def shown_spread(spread: Spread, unit: str) -> str:
    """A spread in a line; p90 is left out for fewer than ten values, where p90 equals the maximum."""
    parts = [("p50", spread.p50), ("p90", spread.p90), ("max", spread.maximum), ("min", spread.minimum)]
    named = [f"{name} {shown(value)}" for name, value in parts if name != "p90" or spread.count >= 10]
    return f"{', '.join(named)} {unit}"


def cpu_figures(cpu_ms: Mapping[str, float], each: str) -> list[Figure]:
    """A line per service: CPU milliseconds per event, image and so on."""
    return [Figure(f"CPU per {each}, {name}", f"{shown(value)} ms") for name, value in cpu_ms.items()]


def table(figures: Iterable[Figure]) -> list[str]:
    """A table in Markdown."""
    rows = (f"| {_cell(figure.label)} | {_cell(figure.value)} |" for figure in figures)
    return ["| figure | value |", "|---|---|", *rows]


def section(title: str, figures: Iterable[Figure]) -> list[str]:
    """Figures as a section in Markdown."""
    return [f"## {title}", "", *table(figures), ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

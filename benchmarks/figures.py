"""Figures and how they are shown. Pure."""

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
    """How measured values are distributed; each figure is one of the values, none is interpolated."""

    count: int
    minimum: float
    p50: float
    p90: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The spread of at least one value.

        Raises:
            ValueError: there is no value.
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
    """What a part of the benchmark measured: a dataclass of numbers that can show itself."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def title(self) -> str:
        """A heading."""

    def figures(self) -> list[Figure]:
        """The numbers, for people."""


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest of the ascending values that is not below `percent` of them (the nearest rank).

    Raises:
        ValueError: there is no value, or `percent` is not from 0 to 100.
    """
    if not ordered or not 0 <= percent <= 100:
        raise ValueError(f"no percentile {percent:g} of {len(ordered)} values")
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def shown(value: float) -> str:
    """Three digits that mean something, or all those before the point: more would be noise."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def shown_spread(spread: Spread, unit: str) -> str:
    """A spread in one line; of fewer than ten values the largest is no p90."""
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

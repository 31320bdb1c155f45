"""Figures as pictures."""

import textwrap
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import typer

#: Characters of a line below the axes.
_NOTE_WIDTH = 100


def require_plots(path: Path) -> None:
    """Require, before a run, that the plot can be written.

    Raises:
        BadParameter: the directory does not exist, or matplotlib is not installed.
    """
    if not path.parent.is_dir():
        raise typer.BadParameter(f"{path.parent} is no directory; make it first")
    if find_spec("matplotlib") is None:
        raise typer.BadParameter("matplotlib draws the plot and is not installed; pip install '.[dev]' has it")


def plot_rates(path: Path, title: str, note: str, rates: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Write a PNG of images per second over the size of the batch.

    Args:
        path: of the file.
        title: above the axes.
        note: below the axes: where the figures come from.
        rates: by name of a line: sizes of batches, and images per second.
    """
    # Only here: the import takes a second, and no other command needs it.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for name, points in rates.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    sizes = sorted({size for points in rates.values() for size, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, labels=[str(size) for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images in a batch")
    axes.set_ylabel("images per second")
    axes.set_title(title)
    axes.legend()
    figure.supxlabel(textwrap.fill(note, _NOTE_WIDTH), fontsize="small")
    figure.savefig(path, format="png")

"""Prints what so many images per second ask of each part, or writes the tables of docs/scaling.md anew.

python -m tools.scaling_arithmetic [--rate 30] [--images-per-second 12.5] [--page docs/scaling.md]
"""

from pathlib import Path
from typing import Annotated

import typer

from tools.generated_tables import update
from tools.inputs import INPUTS, InputError, load_inputs
from tools.scaling_arithmetic.tables import GPU_RATES, RATES, all_tables


def main(
    rate: Annotated[
        list[float] | None, typer.Option(help="Images per second; may be repeated.", min=0.001, max=1e9)
    ] = None,
    images_per_second: Annotated[
        list[float] | None, typer.Option(help="Of one instance with its GPU; may be repeated.", min=0.001, max=1e6)
    ] = None,
    inputs: Annotated[
        Path, typer.Option(help="Your own sizes and rates, in the form of the default ones.")
    ] = INPUTS,
    page: Annotated[Path | None, typer.Option(help="Write the tables into this page instead.")] = None,
) -> None:
    """What a load asks of each part, and which part is full first; the GPU's rate is an input."""
    try:
        tables = all_tables(load_inputs(inputs), rate or RATES, images_per_second or GPU_RATES)
        if page is not None:
            update(page, tables)
            return
    except (InputError, OSError) as error:
        typer.echo(f"No arithmetic: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo("\n\n".join(f"## {name}\n\n{table}" for name, table in tables.items()))


if __name__ == "__main__":
    typer.run(main)

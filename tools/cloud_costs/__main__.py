"""Prints what a month costs, or writes the tables of docs/costs.md anew.

python -m tools.cloud_costs [--images-per-second 12.5] [--images 250000] [--wake-ups 100] [--prices FILE]
"""

from pathlib import Path
from typing import Annotated

import typer

from tools.cloud_costs.prices import PRICES, load_prices
from tools.cloud_costs.tables import Question, all_tables
from tools.generated_tables import update
from tools.inputs import INPUTS, InputError, load_inputs

_DEFAULT = Question()


def main(
    images: Annotated[list[int] | None, typer.Option(help="Images a month; may be repeated.", min=0)] = None,
    images_per_second: Annotated[
        list[float] | None, typer.Option(help="Of one instance with its GPU; may be repeated.", min=0.001, max=1e6)
    ] = None,
    wake_ups: Annotated[int, typer.Option(help="Bursts a month that wake the pool.", min=1)] = _DEFAULT.wake_ups,
    free_tiers: Annotated[bool, typer.Option(help="Whether the free tiers are yours to use.")] = True,
    prices: Annotated[Path, typer.Option(help="Your own price list, in the form of the default one.")] = PRICES,
    inputs: Annotated[Path, typer.Option(help="Your own sizes and rates, likewise.")] = INPUTS,
    page: Annotated[Path | None, typer.Option(help="Write the tables into this page instead.")] = None,
) -> None:
    """What a month of Dropline on Google Cloud costs; all prices and rates are inputs."""
    question = Question(
        tuple(images or _DEFAULT.images),
        tuple(images_per_second or _DEFAULT.images_per_second),
        wake_ups,
        free_tiers,
    )
    try:
        tables = all_tables(load_inputs(inputs), load_prices(prices), question)
        if page is not None:
            update(page, tables)
            return
    except (InputError, OSError) as error:
        typer.echo(f"No costs: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo("\n\n".join(f"## {name}\n\n{table}" for name, table in tables.items()))


if __name__ == "__main__":
    typer.run(main)

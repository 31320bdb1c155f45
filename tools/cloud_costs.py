"""Monthly costs of Dropline on Google Cloud, for any traffic; prices, sizes and rates are inputs.

    python -m tools.cloud_costs [--images 250000] [--images-per-second 12.5] [--wake-ups 100] [--prices FILE]

`--page docs/costs.md` writes the tables of the page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from tools.generated_tables import entries_table, markdown_table, update
from tools.inputs import INPUTS, PRICES, InputError, Inputs, PriceList, Values, load_inputs, load_prices

#: A month, as in Google's calculator.
HOURS = 730.0
MONTH_S = HOURS * 3600
#: The quantities that costs grow with.
FIXED, PER_IMAGE, RUNNING = "fixed", "per image", "while workers run"
IMAGES = [1_000, 100_000, 10_000_000]
#: Images per second of an instance with its GPU; not measured.
GPU_RATES = [5.0, 20.0, 50.0]
_GIB, _GB = 1024**3, 1000**3

#: Component and FIXED, PER_IMAGE or RUNNING → cost, in the currency of the prices.
Costs = dict[tuple[str, str], float]
#: Component and name of a price → quantity, in the unit of the price.
Quantities = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Month:
    """One month's images, and the worker pool that captions them."""

    images: int
    #: Of one instance whose CPUs keep up.
    images_per_second: float
    #: Starts from zero instances, one per burst of images.
    wake_ups: int = 30
    scale_to_zero: bool = True
    gpu: bool = True


def rate_per_instance(v: Values, images_per_second: float) -> float:
    """Images per second of one instance: the rate of its GPU, or less where its CPUs decode photographs slower."""
    return min(images_per_second, v["worker_cpu"] * 1000 / v["worker_photograph_cpu_ms"])


def running_s(v: Values, month: Month) -> float:
    """Instance-seconds of the worker pool, including starts and the idle time before it scales to zero."""
    busy_s = month.images / rate_per_instance(v, month.images_per_second)
    instances = max(int(v["worker_instances"]), math.ceil(busy_s / MONTH_S))
    if not month.scale_to_zero:
        return instances * MONTH_S
    starts_s = min(month.wake_ups, month.images) * (v["cold_start_s"] + v["worker_idle"])
    return min(busy_s + instances * starts_s, instances * MONTH_S)


def redis_price(memory_gb: float) -> str:
    """The price of a GiB in an instance of `memory_gb`: Memorystore has capacity tiers."""
    if memory_gb < 5:
        return "redis_m1"
    return "redis_m2" if memory_gb <= 10 else "redis_m3"


def quantities(v: Values, month: Month) -> dict[str, Quantities]:
    """All quantities of the first month; objects and rows stay, so the second month has them twice."""
    per_image = {use: month.images * quantity for use, quantity in _per_image(v).items()}
    beyond_disk = max(0.0, month.images * v["row_bytes"] / _GB - v["database_disk"])
    return {
        FIXED: _fixed(v),
        PER_IMAGE: per_image | {("Postgres, the rows", "sql_disk"): beyond_disk},
        RUNNING: _running(v, running_s(v, month), gpu=month.gpu),
    }


def _fixed(v: Values) -> Quantities:
    return {
        ("Redis", redis_price(v["redis_memory"])): v["redis_memory"] * HOURS,
        ("Postgres", "sql_cpu"): v["database_cpu"] * HOURS,
        ("Postgres", "sql_memory"): v["database_memory"] * HOURS,
        ("Postgres", "sql_disk"): v["database_disk"],
        ("alerts", "alerts"): v["alert_conditions"],
        ("registry, secrets", "registry"): v["registry_gb"],
        ("registry, secrets", "secrets"): v["secret_versions"],
    }


def _per_image(v: Values) -> Quantities:
    cpu, memory = v["function_cpu"] + v["function_proxy_cpu"], v["function_memory"] + v["function_proxy_memory"]
    log_bytes = v["function_log_bytes"] + v["worker_log_bytes"] + v["request_log_bytes"]
    return {
        ("function", "run_function_cpu"): v["billed_request_s"] * cpu,
        ("function", "run_function_memory"): v["billed_request_s"] * memory,
        ("function", "run_function_requests"): 1,
        # Google counts the bytes of an event twice: published and pushed.
        ("Pub/Sub", "pubsub_throughput"): 2 * v["event_bytes"] / _GIB,
        ("Pub/Sub", "pubsub_retention"): v["event_bytes"] / _GIB * v["events_retention"] / MONTH_S,
        # Class A: upload and PATCH. Class B: download.
        ("Cloud Storage, operations", "storage_class_a"): 2,
        ("Cloud Storage, operations", "storage_class_b"): 1,
        ("Cloud Storage, the images", "storage"): v["photograph_kb"] * 1000 / _GIB,
        ("Postgres, the rows", "sql_backup"): v["row_bytes"] / _GB * v["backup_copies"],
        ("logs", "logs"): log_bytes / _GIB,
        ("logs", "flow_logs"): v["flow_log_bytes"] / _GIB,
    }


def _running(v: Values, seconds: float, *, gpu: bool) -> Quantities:
    shared = "worker, CPU and memory, with its proxy"
    return {
        ("worker, GPU", "run_gpu"): seconds * gpu,
        (shared, "run_worker_cpu"): seconds * (v["worker_cpu"] + v["worker_proxy_cpu"]),
        (shared, "run_worker_memory"): seconds * (v["worker_memory"] + v["worker_proxy_memory"]),
    }


def bill(v: Values, prices: PriceList, month: Month) -> Costs:
    """The costs of a month; the free units of a price are subtracted."""
    costs: Costs = {}
    for kind, used in quantities(v, month).items():
        for (component, name), quantity in used.items():
            price = prices.prices[name]
            cost = max(0.0, quantity - price.free) * price.price
            costs[component, kind] = costs.get((component, kind), 0.0) + cost
    return costs


def total(costs: Costs, kind: str | None = None) -> float:
    """The sum of the costs of one kind, or of all."""
    return sum(cost for (_, each), cost in costs.items() if kind in (None, each))


def totals_table(v: Values, prices: PriceList, months: Sequence[Month], gpu_rates: Sequence[float]) -> str:
    """A month's total by images, rate and scale to zero."""
    columns = [(rate, zero) for zero in (True, False) for rate in gpu_rates]
    head = [f"{rate:g} images/s, {'scale to zero' if zero else 'always running'}:" for rate, zero in columns]
    rows = []
    for month in months:
        variants = [replace(month, images_per_second=rate, scale_to_zero=zero) for rate, zero in columns]
        rows.append([f"{month.images:,}", *(_money(total(bill(v, prices, each))) for each in variants)])
    return markdown_table(["images a month", *head], rows)


def lines_table(v: Values, prices: PriceList, months: Sequence[Month]) -> str:
    """The costs of each component, by images."""
    bills = [bill(v, prices, month) for month in months]
    rows = [
        [f"{component} ({kind})", *(_money(costs[component, kind]) for costs in bills)]
        for component, kind in bills[0]
    ]
    rows.append(["**total**", *(f"**{_money(total(costs))}**" for costs in bills)])
    return markdown_table(["component", *(f"{month.images:,} images:" for month in months)], rows)


def _money(amount: float) -> str:
    # Cents below ten; above ten they would be false precision.
    return f"{amount:,.2f}" if amount < 10 else f"{amount:,.0f}"


def all_tables(
    inputs: Inputs,
    prices: PriceList,
    images: Sequence[int] = IMAGES,
    gpu_rates: Sequence[float] = GPU_RATES,
    wake_ups: int = 30,
) -> dict[str, str]:
    """Table name → Markdown, for each table of docs/costs.md."""
    v, middle = inputs.values(), sorted(gpu_rates)[len(gpu_rates) // 2]
    months = [Month(count, middle, wake_ups) for count in images]
    return {
        "totals": totals_table(v, prices, [Month(0, middle), *months], gpu_rates),
        "lines": lines_table(v, prices, months),
        "prices": entries_table(prices.prices),
        "assumed": entries_table(inputs.assumed),
    }


def main(
    images: Annotated[list[int], typer.Option(help="Images a month; may be repeated.", min=0)] = IMAGES,
    images_per_second: Annotated[
        list[float], typer.Option(help="Of one instance with its GPU; may be repeated.", min=0.001, max=1e6)
    ] = GPU_RATES,
    wake_ups: Annotated[int, typer.Option(help="Bursts a month that start the workers.", min=1)] = 30,
    free_tiers: Annotated[bool, typer.Option(help="Subtract Google's free tiers.")] = True,
    prices: Annotated[Path, typer.Option(help="Your price list, in the form of the default one.")] = PRICES,
    inputs: Annotated[Path, typer.Option(help="Your sizes and rates, in the form of the default ones.")] = INPUTS,
    page: Annotated[Path | None, typer.Option(help="Write the tables into this page instead.")] = None,
) -> None:
    """Monthly costs of Dropline on Google Cloud; all prices and rates are inputs."""
    try:
        found = load_prices(prices) if free_tiers else load_prices(prices).without_free_tiers()
        tables = all_tables(load_inputs(inputs), found, images, images_per_second, wake_ups)
        if page is not None:
            update(page, tables)
            return
    except (InputError, OSError) as error:
        typer.echo(f"There are no tables: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo("\n\n".join(f"## {name}\n\n{table}" for name, table in tables.items()))


if __name__ == "__main__":
    typer.run(main)

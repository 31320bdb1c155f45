"""docs/scaling.md: each figure equals the formula, and each formula has the numbers of the sources."""

import re
from collections.abc import Iterator
from math import ceil, floor
from pathlib import Path

import pytest

from tools.inputs import load_inputs

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text()
INPUTS = load_inputs().values()
RATES = (1, 10, 100, 1_000, 10_000)
#: Row → inputs in the formula.
LOAD_INPUTS = {
    "function, CPUs busy": ["function_cpu_ms"],
    "function, instances": ["function_cpu_ms", "target_utilisation"],
    "worker, CPUs busy": ["worker_photograph_cpu_ms"],
    "worker, instances with a GPU of 5 images/s": [],
    "worker, instances with a GPU of 20 images/s": [],
    "worker, instances with a GPU of 50 images/s": [],
    "Redis, commands/s": ["redis_commands"],
    "Redis, CPUs busy (it uses one)": ["function_redis_ms", "worker_redis_ms"],
    "Postgres, transactions/s": ["transactions"],
    "Postgres, CPUs busy": ["function_postgres_ms", "worker_postgres_ms"],
    "Postgres, connections at most (20 images/s per GPU)": [
        "connection_pool_size",
        "worker_concurrency",
        "function_cpu_ms",
    ],
    "Postgres, write-ahead log, MB/s": ["wal_bytes"],
    "rows a month, millions": [],
    "table and indexes, growth a month, GB": ["row_bytes"],
    "months until the largest disk is full": ["row_bytes"],
    "Pub/Sub, published and pushed, MB/s": ["event_bytes"],
    "bucket, writes/s; half as many reads/s": [],
}
CAPACITY_INPUTS = {
    "GPU of the workers": ["worker_instances"],
    "CPUs of the workers": ["worker_instances", "worker_cpu", "worker_photograph_cpu_ms"],
    "connections to Postgres": [
        "database_connections",
        "function_instances_max",
        "connection_pool_size",
        "worker_concurrency",
    ],
    "CPU of Postgres": ["database_cpu", "target_utilisation", "function_postgres_ms", "worker_postgres_ms"],
    "writes of one bucket": [],
    "function": ["function_instances_max", "function_cpu", "target_utilisation", "function_cpu_ms"],
    "Redis, one thread": ["target_utilisation", "function_redis_ms", "worker_redis_ms"],
    "reads of one bucket": [],
    "CPUs of the region's quota": ["worker_cpu", "worker_proxy_cpu"],
    "addresses of the subnetwork": ["network_prefix", "function_instances_max"],
    "Pub/Sub push": ["event_bytes"],
    "CPU of the largest Postgres": ["target_utilisation", "function_postgres_ms", "worker_postgres_ms"],
    "Pub/Sub publishing": ["event_bytes"],
}
#: Row of the capacities → row of Google's limits with the value in the formula, and the unit as a power of ten.
LIMITS = {
    "writes of one bucket": ("bucket writes", ""),
    "reads of one bucket": ("bucket reads", ""),
    "CPUs of the region's quota": ("run cpu quota", ""),
    "addresses of the subnetwork": ("run addresses", ""),
    "Pub/Sub push": ("pubsub push", "e6"),
    "CPU of the largest Postgres": ("sql cpu", ""),
    "Pub/Sub publishing": ("pubsub publish", "e6"),
}


def _table(head: str) -> dict[str, list[str]]:
    """Row name → further cells, of the table with a head that begins with `head`."""
    lines = PAGE[PAGE.index(f"| {head} |") :].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: cells for name, *cells in rows}


LOAD = _table("load at r images/s")
CAPACITIES = _table("component")
QUOTAS = _table("name")


def _value(formula: str, r: float = 1) -> float:
    symbols = {"`": "", ",": "", "×": "*", "−": "-", "⌈": "ceil(", "⌉": ")", "⌊": "floor(", "⌋": ")"}
    for symbol, code in symbols.items():
        formula = formula.replace(symbol, code)
    return float(eval(formula, {"ceil": ceil, "floor": floor, "r": r}))


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _numbers(text: str) -> set[float]:
    return {float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?(?:e\d+)?", text)}


def _retry_hours() -> float:
    pauses = range(int(INPUTS["delivery_attempts"]) - 1)
    return sum(min(INPUTS["retry_minimum"] * 2**pause, INPUTS["retry_maximum"]) for pause in pauses) / 3600


@pytest.mark.parametrize("row", LOAD_INPUTS)
def test_the_load_equals_its_formula(row: str) -> None:
    """The load equals the formula at each of the five rates."""
    *figures, formula = LOAD[row]
    assert figures == [_shown(_value(formula, rate)) for rate in RATES]


@pytest.mark.parametrize("row", CAPACITY_INPUTS)
def test_a_capacity_equals_its_formula(row: str) -> None:
    """The capacity equals the formula, in images per second."""
    figure, formula, *_ = CAPACITIES[row]
    assert figure == _shown(_value(formula))


def _formulas() -> Iterator[tuple[str, list[str]]]:
    for row, names in LOAD_INPUTS.items():
        yield LOAD[row][-1], names
    for row, names in CAPACITY_INPUTS.items():
        yield CAPACITIES[row][1], names


@pytest.mark.parametrize(("formula", "names"), list(_formulas()))
def test_a_formula_has_the_numbers_of_its_sources(formula: str, names: list[str]) -> None:
    """A changed default or measurement fails the formula, and not only the quotation of the input."""
    assert {INPUTS[name] for name in names} <= _numbers(formula)


@pytest.mark.parametrize("row", LIMITS)
def test_a_formula_has_the_limit_of_its_source(row: str) -> None:
    """The quota or limit stands in the last table of the page."""
    limit, unit = LIMITS[row]
    assert float(QUOTAS[limit][0].replace(",", "") + unit) in _numbers(CAPACITIES[row][1])


def test_no_row_is_left_out() -> None:
    """Every row of both tables is checked, and a limit has a source and a date."""
    assert LOAD.keys() == LOAD_INPUTS.keys()
    assert CAPACITIES.keys() == CAPACITY_INPUTS.keys()
    assert {"sql disk", "run gpu quota", "redis clients"} <= QUOTAS.keys()
    for *_, source, read in QUOTAS.values():
        assert "://" in source
        assert re.fullmatch(r"202\d-\d\d-\d\d", read)


def test_the_largest_disk_is_the_limit() -> None:
    """The largest disk of Postgres is 64 TB, in bytes."""
    assert float(QUOTAS["sql disk"][0] + "e12") in _numbers(LOAD["months until the largest disk is full"][-1])


def test_the_smallest_capacity_comes_first() -> None:
    """The first full component is the first row."""
    numbers = [_value(formula) for _, formula, *_ in CAPACITIES.values()]
    assert numbers == sorted(numbers)
    assert numbers[0] > 0


def test_the_text_names_the_components_that_are_full() -> None:
    """The sentences below the table name the full components at 100, 1,000 and 10,000 images/s."""
    numbers = {name: _value(formula) for name, (_, formula, *_) in CAPACITIES.items()}
    full = {rate: [name for name, capacity in numbers.items() if capacity < rate] for rate in RATES}
    assert full[1] == full[10] == []
    assert full[100] == ["GPU of the workers", "CPUs of the workers"]
    assert full[1000] == [*full[100], "connections to Postgres", "CPU of Postgres", "writes of one bucket"]
    fixed = ["writes of one bucket", "Redis, one thread", "CPUs of the region's quota", "reads of one bucket"]
    assert [name for name in full[10_000] if not CAPACITIES[name][-1].startswith("`")] == fixed


def test_the_figures_in_the_text_are_computed() -> None:
    """The bytes of a waiting row, Pub/Sub's retries, and the photographs of a worker's CPUs are computed."""
    text = " ".join(PAGE.split())
    assert f"rows wait in Postgres, {INPUTS['row_bytes']:,.0f} bytes each" in text
    assert f"which is {_retry_hours():.3g} hours" in text
    cpus = INPUTS["worker_cpu"] * 1000 / INPUTS["worker_photograph_cpu_ms"]
    assert f"fetch and decode {cpus:.0f} photographs a second" in text


def test_the_retries_by_hand() -> None:
    """The pauses are 5, 10, 20, … 320 s, and then 600 s each, between 50 deliveries."""
    assert _retry_hours() * 3600 == pytest.approx(5 + 10 + 20 + 40 + 80 + 160 + 320 + 42 * 600)


def test_the_defaults_have_enough_connections() -> None:
    """The largest number of instances by Terraform's defaults fits into the connections of Postgres."""
    of_function = INPUTS["function_instances_max"] * INPUTS["connection_pool_size"]
    of_workers = INPUTS["worker_instances"] * (INPUTS["worker_concurrency"] + 1)
    assert of_function + of_workers <= INPUTS["database_connections"]

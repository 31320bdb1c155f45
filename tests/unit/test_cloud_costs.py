"""The bill of a month, from prices, sizes and rates that are inputs."""

import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tools.cloud_costs import __main__ as command
from tools.cloud_costs.model import Kind, bill, uses
from tools.cloud_costs.prices import PRICES, PriceList, Standing, load_prices
from tools.cloud_costs.tables import Question, all_tables
from tools.cloud_costs.traffic import (
    HOURS,
    MONTH_S,
    Bursts,
    Even,
    Traffic,
    awake_s,
    cpu_bound_rate,
    instances_needed,
    rate_per_instance,
)
from tools.generated_tables import with_tables
from tools.inputs import InputError, load_inputs

ROOT = Path(__file__).resolve().parents[2]
INPUTS = load_inputs()
LIST = load_prices()
CLOSE = pytest.approx

image_counts = st.integers(0, 50_000_000)
rates = st.floats(0.1, 90)
shapes = st.one_of(st.builds(Bursts, st.integers(0, 5000)), st.just(Even()))
months = st.builds(Traffic, image_counts, rates, shapes, st.booleans(), st.booleans())


def _run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command.main)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_the_page_has_what_the_script_prints() -> None:
    """The tables in docs/ equal the script's; `--page docs/costs.md` makes them anew."""
    page = (ROOT / "docs" / "costs.md").read_text()
    assert page == with_tables(page, all_tables(INPUTS, LIST, Question()))


def test_the_script_writes_the_page(tmp_path: Path) -> None:
    """`--page` leaves what people wrote, and the tables of the default question."""
    copy = tmp_path / "costs.md"
    copy.write_text((ROOT / "docs" / "costs.md").read_text())
    assert _run("--page", str(copy), "--images", "7") == (0, "")
    assert "| 7 |" in copy.read_text()
    assert _run("--page", str(copy)) == (0, "")
    assert copy.read_text() == (ROOT / "docs" / "costs.md").read_text()


def test_a_month_of_an_awake_worker_by_hand() -> None:
    """730 hours of one L4, five vCPU and 16.5 GiB at their prices, and nothing else that is awake."""
    found = bill(INPUTS, LIST, Traffic(1000, 20, scale_to_zero=False)).of(Kind.AWAKE)
    assert found == CLOSE(730 * 3600 * (0.0001867 + 5 * 0.000018 + 16.5 * 0.000002))


def test_what_is_always_there_by_hand() -> None:
    """Redis, Postgres with its first disk, alerts, registry and secrets, free parts taken off."""
    postgres = 730 * 0.0413 + 730 * 3.75 * 0.007 + 10 * 0.17
    expected = 730 * 0.064 + postgres + 7 * 1.5 + (10 - 0.5) * 0.1
    assert bill(INPUTS, LIST, Traffic(0, 20)).total == CLOSE(expected)


def test_the_parts_of_an_image_by_hand() -> None:
    """A hundred million images: requests, events, operations, storage and rows, without what is free."""
    images = 100_000_000
    lines = {line.part: line.cost for line in bill(INPUTS, LIST, Traffic(images, 20), free_tiers=False).lines}
    assert lines["function"] == CLOSE(images * (0.1 * 2 * 0.000024 + 0.1 * 0.75 * 0.0000025 + 0.0000004))
    gib = images * 1500 / 1024**3
    assert lines["Pub/Sub"] == CLOSE(2 * gib * 40 / 1024 + gib * 7 / (730 / 24) * 0.27)
    assert lines["Cloud Storage, operations"] == CLOSE(images * 2 * (0.000005 + 0.0000004))
    assert lines["Cloud Storage, the images"] == CLOSE(images * 438_000 / 1024**3 * 0.02)
    rows_gb = images * 1114 / 1e9
    assert lines["Postgres, the rows"] == CLOSE((rows_gb - 10) * 0.17 + 2 * rows_gb * 0.08)


@given(months, st.booleans())
def test_the_lines_are_the_total(traffic: Traffic, free: bool) -> None:
    """A bill is the sum of its lines, and of its kinds; no line is negative, no part is there twice."""
    found = bill(INPUTS, LIST, traffic, free_tiers=free)
    assert found.total == CLOSE(sum(found.of(kind) for kind in Kind))
    assert all(line.cost >= 0 for line in found.lines)
    assert max(Counter((line.part, line.kind) for line in found.lines).values()) == 1


@given(months, st.integers(1, 10_000_000))
def test_more_images_never_cost_less(traffic: Traffic, more: int) -> None:
    """However they come in, and whether the pool sleeps or not."""
    few, many = (bill(INPUTS, LIST, each) for each in (traffic, replace(traffic, images=traffic.images + more)))
    assert many.total >= few.total - 1e-6


@given(months, st.floats(1, 10))
def test_faster_captions_never_cost_more(traffic: Traffic, factor: float) -> None:
    """The same images on a faster GPU need at most as many hours."""
    faster = replace(traffic, images_per_second=traffic.images_per_second * factor)
    assert awake_s(INPUTS, faster) <= awake_s(INPUTS, traffic) * (1 + 1e-9)


@given(months)
def test_sleep_and_free_tiers_never_cost_more(traffic: Traffic) -> None:
    """A pool that sleeps is awake for at most as long as one that does not; what is free lowers the bill."""
    asleep, awake = (replace(traffic, scale_to_zero=zero) for zero in (True, False))
    assert awake_s(INPUTS, asleep) <= awake_s(INPUTS, awake)
    assert bill(INPUTS, LIST, traffic).total <= bill(INPUTS, LIST, traffic, free_tiers=False).total


@given(months)
def test_the_pool_is_awake_for_all_its_work_and_not_for_longer_than_the_month(traffic: Traffic) -> None:
    """Busy seconds fit in, and instances times the month is the most."""
    busy_s = traffic.images / rate_per_instance(INPUTS, traffic.images_per_second)
    limit = instances_needed(INPUTS, traffic) * MONTH_S
    assert busy_s <= awake_s(INPUTS, traffic) * (1 + 1e-9) <= limit * (1 + 1e-6)


def test_no_image_wakes_nobody() -> None:
    """Without images a pool that sleeps costs nothing, whatever the number of bursts."""
    for shape in (Bursts(0), Bursts(730), Even()):
        assert awake_s(INPUTS, Traffic(0, 20, shape)) == 0


def test_an_image_wakes_the_pool_once() -> None:
    """There are no more wake-ups than images: one image in thirty bursts is one."""
    start_and_idle = INPUTS.assumed.cold_start_s.value + INPUTS.deployed.pool_idle.value
    assert awake_s(INPUTS, Traffic(1, 20, Bursts(30))) == CLOSE(start_and_idle + 1 / 20)
    assert awake_s(INPUTS, Traffic(1, 20, Even())) == CLOSE(start_and_idle + 1 / 20)


def test_a_trickle_keeps_the_pool_awake() -> None:
    """Images that come before the idle time is over never let it sleep; a little rarer, and it does."""
    idle_s = INPUTS.deployed.pool_idle.value
    assert awake_s(INPUTS, Traffic(int(MONTH_S / idle_s), 20, Even())) == MONTH_S
    assert awake_s(INPUTS, Traffic(int(MONTH_S / idle_s / 2), 20, Even())) < MONTH_S


def test_more_images_than_a_month_has_room_for_need_more_instances() -> None:
    """One instance does rate × month; one image more needs a second one, always awake or not."""
    most = int(5 * MONTH_S)
    assert instances_needed(INPUTS, Traffic(most, 5)) == 1
    assert instances_needed(INPUTS, Traffic(most + 1, 5)) == 2
    assert awake_s(INPUTS, Traffic(most + 1, 5, scale_to_zero=False)) == 2 * MONTH_S


def test_a_gpu_is_not_faster_than_the_cpus_beside_it() -> None:
    """Decoding bounds the rate, whatever is claimed of the GPU."""
    assert rate_per_instance(INPUTS, 1000) == cpu_bound_rate(INPUTS) == CLOSE(4000 / 41.7)
    assert rate_per_instance(INPUTS, 20) == 20


def test_without_a_gpu_none_is_paid_for() -> None:
    """The GPU's line is there, and empty; CPU and memory stay."""
    lines = {line.part: line.cost for line in bill(INPUTS, LIST, Traffic(1000, 0.4, gpu=False)).lines}
    assert lines["worker, GPU"] == 0
    assert lines["worker, CPU and memory, its proxy's too"] > 0


def test_nothing_is_free_twice() -> None:
    """A price with a free part belongs to one use, or it would be taken off more than once."""
    free = Counter(use.price.sku for use in uses(INPUTS, LIST, Traffic(1, 1)) if use.price.free)
    assert set(free.values()) == {1}


def test_every_price_is_used() -> None:
    """But for the tiers of Redis that a larger instance would have."""
    used = {use.price.sku for use in uses(INPUTS, LIST, Traffic(1, 1))}
    assert {price.sku for price in LIST.lines()} - used == {LIST.redis_m2.sku, LIST.redis_m3.sku}


def test_a_larger_redis_has_the_price_of_its_tier() -> None:
    """Memorystore's capacity tiers: up to 4 GiB, up to 10, and above."""
    assert [LIST.redis(size) for size in (1, 4, 5, 10, 11)] == [
        LIST.redis_m1,
        LIST.redis_m1,
        LIST.redis_m2,
        LIST.redis_m2,
        LIST.redis_m3,
    ]


def test_every_price_says_where_it_was_read() -> None:
    """With an address or a name, a date, and how near it is to Google; each SKU is there once."""
    assert len({price.sku for price in LIST.lines()}) == len(LIST.lines()) == len(PriceList.model_fields) - 1
    for price in LIST.lines():
        assert price.standing in Standing
        assert len(price.source) > 10
        assert price.read.year >= 2026


def test_own_prices_replace_the_default_ones(tmp_path: Path) -> None:
    """Prices that are all doubled double the whole bill, free parts aside."""
    path = tmp_path / "mine.toml"
    text = PRICES.read_text()
    for price in sorted({entry["price"] for entry in tomllib.loads(text).values() if isinstance(entry, dict)}):
        text = text.replace(f"\nprice = {_as_written(text, price)}\n", f"\nprice = {2 * price:.12f} \n")
    path.write_text(text)
    doubled = bill(INPUTS, load_prices(path), Traffic(123_456, 7)).total
    assert doubled == CLOSE(2 * bill(INPUTS, LIST, Traffic(123_456, 7)).total)


def _as_written(text: str, price: float) -> str:
    lines = [line.removeprefix("price = ") for line in text.splitlines() if line.startswith("price = ")]
    return next(line for line in lines if not line.endswith(" ") and float(line) == price)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[redis_m1]", "[redis_m9]", "redis_m1: Field required"),
        ("[redis_m1]", "[redis_m9]", "redis_m9: Extra inputs are not permitted"),
        ("price = 0.064", "price = -1", r"redis_m1\.price: Input should be greater than or equal to 0"),
        ("price = 0.064", 'price = "?"', r"redis_m1\.price: Input should be a valid number"),
        ('standing = "Google\'s page"', 'standing = "rumour"', r"standing: Input should be "),
        ("[redis_m1]", "[redis_m1", "is not TOML"),
    ],
)
def test_a_bad_price_list_is_explained(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """A price that is missing, unknown or no price is named together with the file."""
    path = tmp_path / "mine.toml"
    path.write_text(PRICES.read_text().replace(old, new))
    with pytest.raises(InputError, match=rf"mine\.toml.*{complaint}"):
        load_prices(path)


def test_the_command_ends_with_an_error_in_one_line(tmp_path: Path) -> None:
    """No traceback for a price list or a page that cannot be read."""
    for arguments in (("--prices", str(tmp_path / "none.toml")), ("--page", str(tmp_path / "none.md"))):
        code, output = _run(*arguments)
        assert code == 1
        assert output.startswith("No costs: ")
        assert "none." in output
        assert output.count("\n") == 1


def test_the_command_answers_for_other_numbers() -> None:
    """Images, rates and wake-ups of one's own are in the tables, and no others."""
    code, output = _run(
        "--images", "250000", "--images-per-second", "12.5", "--wake-ups", "100", "--no-free-tiers"
    )
    assert code == 0
    total = bill(INPUTS, LIST, Traffic(250_000, 12.5, Bursts(100)), free_tiers=False).total
    assert f"| 250,000 | {total:,.0f} |" in output
    assert "12.5 images/s, sleeps" in output
    assert "10,000,000" not in output


def test_no_image_at_all_has_a_bill() -> None:
    """The tables hold for zero images, and for an hour of nothing."""
    tables = all_tables(INPUTS, LIST, Question(images=(0,), images_per_second=(1,), wake_ups=0))
    assert f"| 0 | {bill(INPUTS, LIST, Traffic(0, 1)).total:,.0f} |" in tables["totals"]
    assert HOURS * 3600 == MONTH_S

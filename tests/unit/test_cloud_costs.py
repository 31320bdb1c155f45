"""The bill of a month, computed from prices, sizes and rates."""

import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tools import cloud_costs
from tools.cloud_costs import (
    FIXED,
    HOURS,
    MONTH_S,
    PER_IMAGE,
    RUNNING,
    Costs,
    Month,
    all_tables,
    bill,
    quantities,
    rate_per_instance,
    redis_price,
    running_s,
    total,
)
from tools.generated_tables import with_tables
from tools.inputs import PRICES, InputError, PriceList, Standing, load_inputs, load_prices

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "costs.md"
INPUTS = load_inputs()
VALUES = INPUTS.values()
LIST = load_prices()
WITHOUT_FREE_TIERS = LIST.without_free_tiers()
CLOSE = pytest.approx

image_counts = st.integers(0, 50_000_000)
rates = st.floats(0.1, 90)
months = st.builds(Month, image_counts, rates, st.integers(0, 5000), st.booleans(), st.booleans())


def _run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(cloud_costs.main)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def _bill(month: Month, prices: PriceList = LIST) -> Costs:
    return bill(VALUES, prices, month)


def _by_component(costs: Costs) -> dict[str, float]:
    return {component: cost for (component, _), cost in costs.items()}


def test_the_page_has_the_generated_tables() -> None:
    """The tables in docs/ equal the tables of the command; `--page docs/costs.md` updates the page."""
    page = PAGE.read_text()
    assert page == with_tables(page, all_tables(INPUTS, LIST))


def test_the_figures_in_the_text_of_the_page_are_computed() -> None:
    """The page has the computed fixed costs, costs of a worker's hour, and examples of the formula of hours."""
    page = " ".join(PAGE.read_text().split())
    hour = total(_bill(Month(0, 1, scale_to_zero=False)), RUNNING) / HOURS
    without_gpu = total(_bill(Month(0, 1, scale_to_zero=False, gpu=False)), RUNNING) / HOURS
    assert f"cost about {total(_bill(Month(0, 1))):.0f} USD a month" in page
    assert f"always runs adds {hour * HOURS:.0f} USD" in page
    assert f"= {hour:.3f} USD, of which {hour - without_gpu:.3f} USD is the GPU" in page
    assert f"An hour costs {without_gpu:.3f} USD, less than half" in page
    for wake_ups, text in (
        (1, "in one burst are {hours:.1f} hours"),
        (30, "in 30 bursts {hours:.0f} hours ({cost:.2f} USD)"),
        (730, "in 730 bursts {hours:.0f} hours ({cost:.0f} USD)"),
        (1000, "a hundred hours ({cost:.0f} USD)"),
    ):
        month = Month(1000, 20, wake_ups)
        hours = running_s(VALUES, month) / 3600
        assert text.format(hours=hours, cost=total(_bill(month), RUNNING)) in page
    for images, text in (
        (1000, "1,000 images are {hours:.0f} hours ({cost:.2f} USD)"),
        (100_000, "100,000 images {hours:.0f} hours ({cost:.0f} USD)"),
    ):
        month = Month(images, VALUES["cpu_only_rate"], gpu=False)
        hours = running_s(VALUES, month) / 3600
        assert text.format(hours=hours, cost=total(_bill(month), RUNNING)) in page
    assert f"never stops: {HOURS:.0f} hours ({hour * HOURS:.0f} USD)" in page


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    """`--page` keeps the hand-written text; without other options the tables equal the tables in docs/."""
    copy = tmp_path / "costs.md"
    copy.write_text(PAGE.read_text())
    assert _run("--page", str(copy), "--images", "7") == (0, "")
    assert "| 7 |" in copy.read_text()
    assert _run("--page", str(copy)) == (0, "")
    assert copy.read_text() == PAGE.read_text()


def test_a_month_of_a_running_worker_by_hand() -> None:
    """A running worker costs 730 hours of an L4, five vCPU and 16.5 GiB."""
    found = total(_bill(Month(1000, 20, scale_to_zero=False)), RUNNING)
    assert found == CLOSE(730 * 3600 * (0.0001867 + 5 * 0.000018 + 16.5 * 0.000002))


def test_the_fixed_costs_by_hand() -> None:
    """Fixed costs are Redis, Postgres with the first disk, alerts, registry and secrets, less the free tiers."""
    postgres = 730 * 0.0413 + 730 * 3.75 * 0.007 + 10 * 0.17
    expected = 730 * 0.064 + postgres + 7 * 1.5 + (10 - 0.5) * 0.1
    assert total(_bill(Month(0, 20))) == CLOSE(expected)


def test_the_costs_of_an_image_by_hand() -> None:
    """Images cost requests, events, operations, storage, rows and logs, here without free tiers."""
    images = 100_000_000
    costs = _by_component(_bill(Month(images, 20), WITHOUT_FREE_TIERS))
    assert costs["function"] == CLOSE(images * (0.1 * 2 * 0.000024 + 0.1 * 0.75 * 0.0000025 + 0.0000004))
    gib = images * 1500 / 1024**3
    assert costs["Pub/Sub"] == CLOSE(2 * gib * 40 / 1024 + gib * 7 / (730 / 24) * 0.27)
    assert costs["Cloud Storage, operations"] == CLOSE(images * (2 * 0.000005 + 0.0000004))
    assert costs["Cloud Storage, the images"] == CLOSE(images * 438_000 / 1024**3 * 0.02)
    rows_gb = images * 1464 / 1e9
    assert costs["Postgres, the rows"] == CLOSE((rows_gb - 10) * 0.17 + 2 * rows_gb * 0.08)
    assert costs["logs"] == CLOSE(images * ((328 + 978 + 1000) * 0.5 + 200 * 0.25) / 1024**3)


@given(months, st.sampled_from([LIST, WITHOUT_FREE_TIERS]))
def test_the_components_add_up_to_the_total(month: Month, prices: PriceList) -> None:
    """A bill is the sum of fixed, per-image and running costs, and no cost is negative."""
    found = _bill(month, prices)
    assert total(found) == CLOSE(sum(total(found, kind) for kind in (FIXED, PER_IMAGE, RUNNING)))
    assert total(found) == CLOSE(sum(found.values()))
    assert all(cost >= 0 for cost in found.values())


@given(months, st.integers(1, 10_000_000))
def test_more_images_never_cost_less(month: Month, more: int) -> None:
    """More images never cost less, for any number of bursts, with and without scale to zero."""
    assert total(_bill(replace(month, images=month.images + more))) >= total(_bill(month)) - 1e-6


@given(months, st.floats(1, 10))
def test_faster_captions_never_cost_more(month: Month, factor: float) -> None:
    """The same images on a faster GPU need at most as many hours."""
    faster = replace(month, images_per_second=month.images_per_second * factor)
    assert running_s(VALUES, faster) <= running_s(VALUES, month) * (1 + 1e-9)


@given(months)
def test_scale_to_zero_and_free_tiers_never_cost_more(month: Month) -> None:
    """Scale to zero never adds running time, and free tiers never raise the bill."""
    scaled, always = (replace(month, scale_to_zero=zero) for zero in (True, False))
    assert running_s(VALUES, scaled) <= running_s(VALUES, always)
    assert total(_bill(month)) <= total(_bill(month, WITHOUT_FREE_TIERS))


@given(months)
def test_workers_run_for_all_their_work_and_at_most_for_the_month(month: Month) -> None:
    """The running time covers the busy seconds, and is at most the number of instances times the month."""
    busy_s = month.images / rate_per_instance(VALUES, month.images_per_second)
    limit = running_s(VALUES, replace(month, scale_to_zero=False))
    assert busy_s <= running_s(VALUES, month) * (1 + 1e-9) <= limit * (1 + 1e-6)


def test_without_images_no_worker_starts() -> None:
    """Without images a worker pool with scale to zero has no running time, for any number of bursts."""
    assert [running_s(VALUES, Month(0, 20, wake_ups)) for wake_ups in (0, 30, 730)] == [0, 0, 0]


def test_one_image_starts_the_worker_once() -> None:
    """The number of starts is at most the number of images: a single image in thirty bursts is a single start."""
    start_and_idle = VALUES["cold_start_s"] + VALUES["worker_idle"]
    assert running_s(VALUES, Month(1, 20, 30)) == CLOSE(start_and_idle + 1 / 20)


def test_a_trickle_keeps_the_worker_running() -> None:
    """A start per idle time keeps the worker running all month; half as many starts do not."""
    idle_times = int(MONTH_S / VALUES["worker_idle"])
    assert running_s(VALUES, Month(idle_times, 20, idle_times)) == MONTH_S
    assert running_s(VALUES, Month(idle_times // 2, 20, idle_times // 2)) < MONTH_S


def test_more_images_than_fit_into_a_month_need_more_instances() -> None:
    """A single instance captions rate × month images; another image needs a second instance."""
    most = int(5 * MONTH_S)
    assert running_s(VALUES, Month(most, 5, scale_to_zero=False)) == MONTH_S
    assert running_s(VALUES, Month(most + 1, 5, scale_to_zero=False)) == 2 * MONTH_S


def test_an_instance_is_not_faster_than_its_cpus() -> None:
    """The rate of decoding limits the rate of any GPU."""
    assert rate_per_instance(VALUES, 1000) == CLOSE(4000 / 41.7)
    assert rate_per_instance(VALUES, 20) == 20


def test_without_a_gpu_no_gpu_is_paid_for() -> None:
    """The cost of the GPU is zero; CPU and memory stay."""
    costs = _by_component(_bill(Month(1000, 0.4, gpu=False)))
    assert costs["worker, GPU"] == 0
    assert costs["worker, CPU and memory, with its proxy"] > 0


def test_a_free_tier_is_subtracted_once() -> None:
    """A price with free units belongs to a single component, or the units would be subtracted twice."""
    uses = quantities(VALUES, Month(1, 1)).values()
    free = Counter(name for used in uses for _, name in used if LIST.prices[name].free)
    assert set(free.values()) == {1}


def test_every_price_is_used() -> None:
    """Every price is used, except the prices of larger Redis instances."""
    used = {name for used in quantities(VALUES, Month(1, 1)).values() for _, name in used}
    assert LIST.prices.keys() - used == {"redis_m2", "redis_m3"}


def test_a_larger_redis_has_the_price_of_its_tier() -> None:
    """Redis has the price of Memorystore's capacity tier: up to 4 GiB, up to 10, and above."""
    found = [redis_price(memory_gb) for memory_gb in (1, 4, 5, 10, 11)]
    assert found == ["redis_m1", "redis_m1", "redis_m2", "redis_m2", "redis_m3"]
    assert set(found) <= LIST.prices.keys()


def test_every_price_has_a_source() -> None:
    """Every price has an address or a name, a date and a standing; SKUs are unique."""
    prices = LIST.prices.values()
    assert len({price.sku for price in prices}) == len(prices)
    for price in prices:
        assert price.standing in Standing
        assert len(price.source) > 10
        assert price.read.year >= 2026


def test_other_prices_replace_the_default_prices(tmp_path: Path) -> None:
    """With all prices doubled the bill without free tiers doubles, and so does the bill with free tiers."""
    path = tmp_path / "mine.toml"
    text = PRICES.read_text()
    for price in sorted({entry["price"] for entry in tomllib.loads(text).values() if isinstance(entry, dict)}):
        text = text.replace(f"\nprice = {_as_written(text, price)}\n", f"\nprice = {2 * price:.12f} \n")
    path.write_text(text)
    month = Month(123_456, 7)
    assert total(_bill(month, load_prices(path))) == CLOSE(2 * total(_bill(month)))


def _as_written(text: str, price: float) -> str:
    lines = [line.removeprefix("price = ") for line in text.splitlines() if line.startswith("price = ")]
    return next(line for line in lines if not line.endswith(" ") and float(line) == price)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[redis_m1]", "[redis_m9]", r"prices\.redis_m1 is missing"),
        ("[redis_m1]", "[redis_m9]", r"prices\.redis_m9 is unknown"),
        ('currency = "USD"\n', "", "currency: String should have at least 1 character"),
        ("price = 0.064", "price = -1", r"redis_m1\.price: Input should be greater than or equal to 0"),
        ("price = 0.064", 'price = "?"', r"redis_m1\.price: Input should be a valid number"),
        ('standing = "Google\'s page"', 'standing = "rumour"', r"standing: Input should be "),
        ("[redis_m1]", "[redis_m1", "is not TOML"),
    ],
)
def test_the_error_of_a_wrong_price_list_names_the_entry(tmp_path: Path, old: str, new: str, problem: str) -> None:
    """The error names the file and the missing, unknown or wrong price."""
    path = tmp_path / "mine.toml"
    path.write_text(PRICES.read_text().replace(old, new))
    with pytest.raises(InputError, match=rf"mine\.toml.*{problem}"):
        load_prices(path)


def test_the_command_ends_with_an_error_in_one_line(tmp_path: Path) -> None:
    """An unreadable price list or page gives a single line and no traceback."""
    for arguments in (("--prices", str(tmp_path / "none.toml")), ("--page", str(tmp_path / "none.md"))):
        code, output = _run(*arguments)
        assert code == 1
        assert output.startswith("There are no tables: ")
        assert "none." in output
        assert output.count("\n") == 1


def test_the_command_computes_other_numbers() -> None:
    """The tables have the given images, rates and bursts, and not the defaults."""
    code, output = _run(
        "--images", "250000", "--images-per-second", "12.5", "--wake-ups", "100", "--no-free-tiers"
    )
    assert code == 0
    expected = total(_bill(Month(250_000, 12.5, 100), WITHOUT_FREE_TIERS))
    assert f"| 250,000 | {expected:,.0f} |" in output
    assert "12.5 images/s, scale to zero" in output
    assert "10,000,000" not in output


def test_a_month_without_images_has_a_bill() -> None:
    """The first row of the totals is a month without images."""
    tables = all_tables(INPUTS, LIST, images=[0], gpu_rates=[1], wake_ups=0)
    assert f"| 0 | {total(_bill(Month(0, 1))):,.0f} |" in tables["totals"]

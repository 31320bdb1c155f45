"""The tables of the costs page. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tools.cloud_costs.model import Bill, Kind, bill
from tools.cloud_costs.prices import PriceList
from tools.cloud_costs.traffic import HOURS, Bursts, Even, Shape, Traffic, awake_s
from tools.generated_tables import markdown_table
from tools.inputs import Inputs


@dataclass(frozen=True)
class Question:
    """What is to be computed."""

    images: tuple[int, ...] = (1_000, 100_000, 10_000_000)
    #: Of an instance with a GPU; none of them was measured.
    images_per_second: tuple[float, ...] = (5, 20, 50)
    wake_ups: int = 30
    free_tiers: bool = True


def all_tables(inputs: Inputs, prices: PriceList, question: Question) -> dict[str, str]:
    """Every table of the page by its name, in Markdown."""
    return {
        "standing": standing_costs(inputs, prices, question),
        "totals": totals(inputs, prices, question),
        "lines": lines(inputs, prices, question),
        "shapes": shapes(inputs, prices, question),
        "without-gpu": without_gpu(inputs, prices, question),
        "hour": hour(inputs, prices),
        "prices": price_list(prices),
        "assumed": assumptions(inputs),
    }


def standing_costs(inputs: Inputs, prices: PriceList, question: Question) -> str:
    """What is paid before the first image comes: what is always there, and a worker that never sleeps."""
    nothing = _bill(inputs, prices, question, Traffic(0, 1))
    awake = _bill(inputs, prices, question, Traffic(0, 1, scale_to_zero=False))
    rows = [
        ["nothing uploaded, the pool asleep: Redis, Postgres, alerts, registry, secrets", _money(nothing.total)],
        ["more, if a worker with a GPU never sleeps", _money(awake.of(Kind.AWAKE))],
    ]
    return markdown_table(["", f"{prices.currency} a month:"], rows)


def totals(inputs: Inputs, prices: PriceList, question: Question) -> str:
    """A month's total by images, rate, and whether the pool sleeps; first that of a month without any image."""
    head = [
        "images a month",
        *(f"{rate:g} images/s, {_sleep(zero)}:" for zero in (True, False) for rate in question.images_per_second),
    ]
    rows = [
        [f"{images:,}"]
        + [
            _money(
                bill(
                    inputs,
                    prices,
                    Traffic(images, rate, Bursts(question.wake_ups), zero),
                    free_tiers=question.free_tiers,
                ).total
            )
            for zero in (True, False)
            for rate in question.images_per_second
        ]
        for images in dict.fromkeys((0, *question.images))
    ]
    return markdown_table(head, rows)


def lines(inputs: Inputs, prices: PriceList, question: Question) -> str:
    """Every line of the bill, at the middle rate, with a pool that sleeps."""
    bills = [_bill(inputs, prices, question, traffic) for traffic in _months(question)]
    rows = [
        [f"{line.part} ({line.kind.value})", *(_money(each.lines[number].cost) for each in bills)]
        for number, line in enumerate(bills[0].lines)
    ]
    sums = [["**total**", *(f"**{_money(each.total)}**" for each in bills)]]
    shares = [[f"of which {kind.value}", *(_share(each, kind) for each in bills)] for kind in Kind]
    return markdown_table(["part", *(f"{images:,} images:" for images in question.images)], rows + sums + shares)


def shapes(inputs: Inputs, prices: PriceList, question: Question) -> str:
    """How long the pool is awake, and what that costs, by how the images come in."""
    ways: list[Shape] = [Bursts(1), Bursts(30), Bursts(730), Even()]
    rows = [_shape_row(inputs, prices, question, shape) for shape in ways]
    return markdown_table(["how they come in", *(f"{images:,} images:" for images in question.images)], rows)


def _shape_row(inputs: Inputs, prices: PriceList, question: Question, shape: Shape) -> list[str]:
    cells = []
    for month in _months(question):
        traffic = replace(month, shape=shape)
        hours = awake_s(inputs, traffic) / 3600
        cost = _bill(inputs, prices, question, traffic).of(Kind.AWAKE)
        cells.append(f"{hours:,.1f} h, {_money(cost)}")
    return [str(shape), *cells]


def without_gpu(inputs: Inputs, prices: PriceList, question: Question) -> str:
    """A trial without a GPU, for as many images as one instance can do in a month."""
    rate = inputs.assumed.cpu_only_rate.value
    rows = []
    for images in (1_000, 10_000, 100_000):
        traffic = Traffic(images, rate, Bursts(question.wake_ups), gpu=False)
        found = _bill(inputs, prices, question, traffic)
        hours = f"{awake_s(inputs, traffic) / 3600:,.0f} h"
        rows.append([f"{images:,}", hours, _money(found.of(Kind.AWAKE)), _money(found.total)])
    return markdown_table(["images a month", "awake:", "worker:", "total:"], rows)


def hour(inputs: Inputs, prices: PriceList) -> str:
    """What an hour of one awake worker is made of."""
    awake = [
        line for line in bill(inputs, prices, Traffic(0, 1, scale_to_zero=False)).lines if line.kind is Kind.AWAKE
    ]
    rows = [[line.part, _money(line.cost / HOURS, digits=3)] for line in awake]
    total = sum(line.cost for line in awake) / HOURS
    return markdown_table(["part", "an hour awake:"], [*rows, ["**total**", f"**{_money(total, digits=3)}**"]])


def price_list(prices: PriceList) -> str:
    """Every price with its source."""
    rows = [
        [
            price.sku,
            f"{price.price:.10f}".rstrip("0").rstrip("."),
            price.unit,
            f"{price.free:,.15g}" if price.free else "",
            price.region,
            f"{price.standing.value}: {price.source}",
            price.read.isoformat(),
        ]
        for price in prices.lines()
    ]
    return markdown_table(
        ["SKU", f"{prices.currency}:", "for a", "free a month:", "region", "where it was read", "when"], rows
    )


def assumptions(inputs: Inputs) -> str:
    """What nobody measured."""
    rows = [[name.replace("_", " "), f"{entry.value:g} {entry.unit}", entry.why] for name, entry in inputs.assumed]
    return markdown_table(["assumed", "value", "why"], rows)


def _months(question: Question) -> list[Traffic]:
    rate = _middle(question.images_per_second)
    return [Traffic(images, rate, Bursts(question.wake_ups)) for images in question.images]


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _bill(inputs: Inputs, prices: PriceList, question: Question, traffic: Traffic) -> Bill:
    return bill(inputs, prices, traffic, free_tiers=question.free_tiers)


def _share(each: Bill, kind: Kind) -> str:
    return f"{100 * each.of(kind) / each.total:.0f} %" if each.total else "–"


def _sleep(scale_to_zero: bool) -> str:
    return "sleeps" if scale_to_zero else "always awake"


def _money(amount: float, digits: int = 0) -> str:
    # Below a dollar, cents matter; above, they pretend to know.
    return f"{amount:,.2f}" if not digits and amount < 10 else f"{amount:,.{digits}f}"

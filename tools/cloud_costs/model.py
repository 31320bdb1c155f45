"""The bill of a month: what is used of each price, and what that comes to. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from tools.cloud_costs.prices import Price, PriceList
from tools.cloud_costs.traffic import HOURS, Traffic, awake_s
from tools.inputs import Inputs

_GIB = 1024**3
_GB = 1000**3
_DAYS = HOURS / 24


class Kind(StrEnum):
    """What a line of the bill depends on."""

    FIXED = "fixed"
    PER_IMAGE = "per image"
    AWAKE = "while the workers are awake"


@dataclass(frozen=True)
class Use:
    """What a part of the system uses of one price."""

    part: str
    kind: Kind
    price: Price
    #: In the price's unit.
    quantity: float


@dataclass(frozen=True)
class Line:
    """What a part of the system costs."""

    part: str
    kind: Kind
    cost: float


@dataclass(frozen=True)
class Bill:
    """A month's costs, in the currency of the prices."""

    lines: tuple[Line, ...]

    @property
    def total(self) -> float:
        """The sum of all lines."""
        return sum(line.cost for line in self.lines)

    def of(self, kind: Kind) -> float:
        """The sum of the lines of one kind."""
        return sum(line.cost for line in self.lines if line.kind is kind)


def bill(inputs: Inputs, prices: PriceList, traffic: Traffic, *, free_tiers: bool = True) -> Bill:
    """What the first month costs with these images, sizes and prices.

    Objects and rows of one month are counted; they stay, so the next month has them twice.
    """
    return Bill(tuple(_lines(uses(inputs, prices, traffic), free_tiers=free_tiers)))


def uses(inputs: Inputs, prices: PriceList, traffic: Traffic) -> list[Use]:
    """All that is used in the month."""
    return [
        *_fixed(inputs, prices),
        *_function(inputs, prices, traffic.images),
        *_events(inputs, prices, traffic.images),
        *_objects(inputs, prices, traffic.images),
        *_rows(inputs, prices, traffic.images),
        *_logs(inputs, prices, traffic.images),
        *_worker(inputs, prices, traffic),
    ]


def _lines(used: Iterable[Use], *, free_tiers: bool) -> Iterator[Line]:
    parts: dict[tuple[str, Kind], float] = {}
    for use in used:
        charged = max(0.0, use.quantity - use.price.free) if free_tiers else use.quantity
        parts[use.part, use.kind] = parts.get((use.part, use.kind), 0.0) + charged * use.price.price
    return (Line(part, kind, cost) for (part, kind), cost in parts.items())


def _fixed(inputs: Inputs, prices: PriceList) -> Iterator[Use]:
    deployed, assumed = inputs.deployed, inputs.assumed
    memory = deployed.redis_memory.value
    yield Use("Redis", Kind.FIXED, prices.redis(memory), memory * HOURS)
    yield Use("Postgres", Kind.FIXED, prices.sql_cpu, deployed.database_cpu.value * HOURS)
    yield Use("Postgres", Kind.FIXED, prices.sql_memory, deployed.database_memory.value * HOURS)
    yield Use("Postgres", Kind.FIXED, prices.sql_disk, deployed.database_disk.value)
    yield Use("alerts", Kind.FIXED, prices.alerts, assumed.alert_conditions.value)
    yield Use("registry, secrets", Kind.FIXED, prices.registry, assumed.registry_gb.value)
    yield Use("registry, secrets", Kind.FIXED, prices.secrets, assumed.secret_versions.value)


def _function(inputs: Inputs, prices: PriceList, images: int) -> Iterator[Use]:
    deployed, seconds = inputs.deployed, images * inputs.assumed.billed_request_s.value
    cpu = deployed.function_cpu.value + deployed.function_proxy_cpu.value
    memory = deployed.function_memory.value + deployed.function_proxy_memory.value
    yield Use("function", Kind.PER_IMAGE, prices.run_function_cpu, seconds * cpu)
    yield Use("function", Kind.PER_IMAGE, prices.run_function_memory, seconds * memory)
    yield Use("function", Kind.PER_IMAGE, prices.run_function_requests, images)


def _events(inputs: Inputs, prices: PriceList, images: int) -> Iterator[Use]:
    # Bytes are counted when they are published and once more when they are pushed.
    published = images * inputs.assumed.event_bytes.value / _GIB
    months = inputs.deployed.events_retention.value / 86400 / _DAYS
    yield Use("Pub/Sub", Kind.PER_IMAGE, prices.pubsub_throughput, 2 * published)
    yield Use("Pub/Sub", Kind.PER_IMAGE, prices.pubsub_retention, published * months)


def _objects(inputs: Inputs, prices: PriceList, images: int) -> Iterator[Use]:
    # The upload and the patch; the download and the reading of the metadata before the patch.
    yield Use("Cloud Storage, operations", Kind.PER_IMAGE, prices.storage_class_a, 2 * images)
    yield Use("Cloud Storage, operations", Kind.PER_IMAGE, prices.storage_class_b, 2 * images)
    stored = images * inputs.measured.photograph_kb.value * 1000 / _GIB
    yield Use("Cloud Storage, the images", Kind.PER_IMAGE, prices.storage, stored)


def _rows(inputs: Inputs, prices: PriceList, images: int) -> Iterator[Use]:
    gigabytes = images * inputs.measured.row_bytes.value / _GB
    beyond_disk = max(0.0, gigabytes - inputs.deployed.database_disk.value)
    yield Use("Postgres, the rows", Kind.PER_IMAGE, prices.sql_disk, beyond_disk)
    yield Use(
        "Postgres, the rows", Kind.PER_IMAGE, prices.sql_backup, gigabytes * inputs.assumed.backup_copies.value
    )


def _logs(inputs: Inputs, prices: PriceList, images: int) -> Iterator[Use]:
    measured, assumed = inputs.measured, inputs.assumed
    own = measured.function_log_bytes.value + measured.worker_log_bytes.value
    written = images * (own + assumed.request_log_bytes.value) / _GIB
    yield Use("logs", Kind.PER_IMAGE, prices.logs, written)
    yield Use("logs", Kind.PER_IMAGE, prices.flow_logs, images * assumed.flow_log_bytes.value / _GIB)


def _worker(inputs: Inputs, prices: PriceList, traffic: Traffic) -> Iterator[Use]:
    deployed, seconds = inputs.deployed, awake_s(inputs, traffic)
    cpu = deployed.worker_cpu.value + deployed.worker_proxy_cpu.value
    memory = deployed.worker_memory.value + deployed.worker_proxy_memory.value
    yield Use("worker, GPU", Kind.AWAKE, prices.run_gpu, seconds if traffic.gpu else 0.0)
    yield Use("worker, CPU and memory, its proxy's too", Kind.AWAKE, prices.run_worker_cpu, seconds * cpu)
    yield Use("worker, CPU and memory, its proxy's too", Kind.AWAKE, prices.run_worker_memory, seconds * memory)

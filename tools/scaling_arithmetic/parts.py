"""How many images per second each part can take before something has to be done. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tools.cloud_costs.traffic import cpu_bound_rate, rate_per_instance
from tools.inputs import Inputs
from tools.scaling_arithmetic.model import connections, postgres_ms, redis_ms


class Basis(StrEnum):
    """What a capacity rests on."""

    MEASURED = "measured here"
    QUOTA = "Google's quota"
    ASSUMED = "rate assumed"
    COMPUTED = "computed from sizes"


@dataclass(frozen=True)
class Part:
    """Something that can be full."""

    name: str
    images_per_s: float
    basis: Basis
    why: str


def parts_as_deployed(inputs: Inputs, gpu_rate: float) -> list[Part]:
    """Every part with Terraform's defaults, the first to be full first."""
    found = [*_compute(inputs, gpu_rate), *_stores(inputs), *_google(inputs)]
    return sorted(found, key=lambda part: part.images_per_s)


def parts_at_their_largest(inputs: Inputs, gpu_rate: float) -> list[Part]:
    """What does not grow with more instances of one stack, the first to be full first."""
    limits, usable = inputs.limits, inputs.assumed.target_utilisation.value
    found = [
        _redis(inputs),
        Part(
            "CPU of one Postgres",
            limits.sql_cpu.value * usable * 1000 / postgres_ms(inputs),
            Basis.MEASURED,
            f"{limits.sql_cpu.value:g} vCPU at {usable:.0%}, {postgres_ms(inputs):.3g} ms per image; "
            "that it scales so far was not measured",
        ),
        _cpu_quota(inputs, gpu_rate),
        *_google(inputs),
    ]
    return sorted(found, key=lambda part: part.images_per_s)


def full_at(parts: list[Part], images_per_s: float) -> list[Part]:
    """The parts that cannot take so many."""
    return [part for part in parts if part.images_per_s < images_per_s]


def _compute(inputs: Inputs, gpu_rate: float) -> Iterator[Part]:
    deployed, usable = inputs.deployed, inputs.assumed.target_utilisation.value
    workers, functions = deployed.worker_instances.value, deployed.function_instances_max.value
    yield Part(
        "GPU of the workers",
        workers * rate_per_instance(inputs, gpu_rate),
        Basis.ASSUMED,
        f"{workers:g} instance at {gpu_rate:g} images/s",
    )
    yield Part(
        "CPUs of the workers",
        workers * cpu_bound_rate(inputs),
        Basis.MEASURED,
        f"{workers:g} instance of {deployed.worker_cpu.value:g} vCPU, "
        f"{inputs.measured.worker_photograph_cpu_ms.value:g} ms per photograph",
    )
    yield Part(
        "function",
        functions * deployed.function_cpu.value * usable * 1000 / inputs.measured.function_cpu_ms.value,
        Basis.MEASURED,
        f"{functions:g} instances at {usable:.0%}, {inputs.measured.function_cpu_ms.value:g} ms per event",
    )
    yield Part(
        "addresses of the subnetwork",
        _worker_instances_of_network(inputs) * rate_per_instance(inputs, gpu_rate),
        Basis.COMPUTED,
        f"/{deployed.network_prefix.value:g}, {inputs.limits.run_addresses.value:g} addresses per instance, "
        f"{functions:g} instances of the function, the others workers",
    )
    yield Part(
        "connections to Postgres",
        _worker_instances_of_connections(inputs) * rate_per_instance(inputs, gpu_rate),
        Basis.COMPUTED,
        f"{deployed.database_connections.value:g}: at most {connections(inputs, int(functions), 0)} are the "
        f"function's, and {connections(inputs, 0, 1)} each worker's",
    )


def _worker_instances_of_network(inputs: Inputs) -> float:
    # Google keeps four addresses of each subnetwork to itself.
    addresses = 2.0 ** (32 - inputs.deployed.network_prefix.value) - 4
    return addresses // inputs.limits.run_addresses.value - inputs.deployed.function_instances_max.value


def _worker_instances_of_connections(inputs: Inputs) -> int:
    of_function = connections(inputs, int(inputs.deployed.function_instances_max.value), 0)
    return (int(inputs.deployed.database_connections.value) - of_function) // connections(inputs, 0, 1)


def _stores(inputs: Inputs) -> Iterator[Part]:
    usable, cpu = inputs.assumed.target_utilisation.value, inputs.deployed.database_cpu.value
    yield _redis(inputs)
    yield Part(
        "CPU of Postgres",
        cpu * usable * 1000 / postgres_ms(inputs),
        Basis.MEASURED,
        f"{cpu:g} vCPU at {usable:.0%}, {postgres_ms(inputs):.3g} ms per image",
    )


def _redis(inputs: Inputs) -> Part:
    usable = inputs.assumed.target_utilisation.value
    return Part(
        "Redis, one thread",
        usable * 1000 / redis_ms(inputs),
        Basis.MEASURED,
        f"one CPU at {usable:.0%}, {redis_ms(inputs):.3g} ms per image; TLS and the replica not measured",
    )


def _cpu_quota(inputs: Inputs, gpu_rate: float) -> Part:
    deployed, quota = inputs.deployed, inputs.limits.run_cpu_quota.value
    per_worker = deployed.worker_cpu.value + deployed.worker_proxy_cpu.value
    return Part(
        "CPUs of the region's quota",
        quota // per_worker * rate_per_instance(inputs, gpu_rate),
        Basis.QUOTA,
        f"{quota:,g} vCPU, {per_worker:g} for each worker of {gpu_rate:g} images/s; can be raised",
    )


def _google(inputs: Inputs) -> Iterator[Part]:
    limits, event = inputs.limits, inputs.assumed.event_bytes.value
    yield Part(
        "writes of one bucket",
        limits.bucket_writes.value / 2,
        Basis.QUOTA,
        f"{limits.bucket_writes.value:,g} a second at first; upload and metadata are two; it grows by itself",
    )
    yield Part(
        "reads of one bucket",
        limits.bucket_reads.value / 2,
        Basis.QUOTA,
        f"{limits.bucket_reads.value:,g} a second at first; image and metadata are two; it grows by itself",
    )
    yield Part(
        "Pub/Sub push",
        limits.pubsub_push.value * 1e6 / event,
        Basis.QUOTA,
        f"{limits.pubsub_push.value:g} MB/s in a large region, {event:,g} bytes per event; second-hand; "
        "can be raised",
    )
    yield Part(
        "Pub/Sub publishing",
        limits.pubsub_publish.value * 1e6 / event,
        Basis.QUOTA,
        f"{limits.pubsub_publish.value:g} MB/s in a large region; can be raised",
    )

"""The arithmetic of the load. Pure."""

import math
from dataclasses import dataclass

from tools.cloud_costs.traffic import MONTH_S, rate_per_instance
from tools.inputs import Inputs

_GIB = 1024**3


@dataclass(frozen=True)
class Load:
    """What a steady rate of photographs asks for."""

    images_per_s: float
    #: CPUs busy, before any reserve.
    function_cores: float
    function_instances: int
    worker_cores: float
    #: Instances with one GPU each, at the GPU's assumed rate.
    worker_instances: int
    redis_commands_per_s: float
    redis_cores: float
    postgres_cores: float
    transactions_per_s: float
    connections: int
    rows_a_month: float
    table_bytes_a_month: float
    #: Until the largest disk is full, if nothing is ever dropped.
    months_on_one_disk: float
    wal_bytes_per_s: float
    event_bytes_per_s: float
    bucket_writes_per_s: float
    bucket_reads_per_s: float
    #: How long Redis has room for what comes in while no worker runs.
    queue_full_after_s: float


def load(inputs: Inputs, images_per_s: float, gpu_rate: float) -> Load:
    """The load of `images_per_s` photographs; `gpu_rate` is what one instance with its GPU captions per second."""
    measured, deployed = inputs.measured, inputs.deployed
    function_cores = images_per_s * measured.function_cpu_ms.value / 1000
    function = instances_for(function_cores, deployed.function_cpu.value * inputs.assumed.target_utilisation.value)
    worker = instances_for(images_per_s, rate_per_instance(inputs, gpu_rate))
    return Load(
        images_per_s=images_per_s,
        function_cores=function_cores,
        function_instances=function,
        worker_cores=images_per_s * measured.worker_photograph_cpu_ms.value / 1000,
        worker_instances=worker,
        redis_commands_per_s=images_per_s * measured.redis_commands.value,
        redis_cores=images_per_s * redis_ms(inputs) / 1000,
        postgres_cores=images_per_s * postgres_ms(inputs) / 1000,
        transactions_per_s=images_per_s * measured.transactions.value,
        connections=connections(inputs, function, worker),
        rows_a_month=images_per_s * MONTH_S,
        table_bytes_a_month=_rows_bytes(inputs, images_per_s),
        months_on_one_disk=inputs.limits.sql_disk.value * 1e12 / _rows_bytes(inputs, images_per_s),
        wal_bytes_per_s=images_per_s * measured.wal_bytes.value,
        event_bytes_per_s=images_per_s * inputs.assumed.event_bytes.value,
        bucket_writes_per_s=2 * images_per_s,
        bucket_reads_per_s=2 * images_per_s,
        queue_full_after_s=waiting_images(inputs) / images_per_s,
    )


def _rows_bytes(inputs: Inputs, images_per_s: float) -> float:
    return images_per_s * MONTH_S * inputs.measured.row_bytes.value


def instances_for(load: float, capacity: float) -> int:
    """Instances for a load; one at least."""
    # 100 / (1 / 0.01) is a little more than 1 to a computer.
    return max(1, math.ceil(round(load / capacity, 9)))


def redis_ms(inputs: Inputs) -> float:
    """CPU of Redis per image, in ms: the function's message and the worker's work with it."""
    return inputs.measured.function_redis_ms.value + inputs.measured.worker_redis_ms.value


def postgres_ms(inputs: Inputs) -> float:
    """CPU of Postgres per image, in ms."""
    return inputs.measured.function_postgres_ms.value + inputs.measured.worker_postgres_ms.value


def connections(inputs: Inputs, function_instances: int, worker_instances: int) -> int:
    """Connections to Postgres at most: a pool per function instance; one per child, and one of the parent's."""
    per_worker = int(inputs.deployed.worker_concurrency.value) + 1
    return function_instances * int(inputs.deployed.pool_size.value) + worker_instances * per_worker


def waiting_images(inputs: Inputs) -> float:
    """Messages that the deployed Redis has room for."""
    return inputs.deployed.redis_memory.value * _GIB / inputs.measured.queue_bytes.value


def retry_window_s(inputs: Inputs) -> float:
    """How long Pub/Sub tries an event again before it becomes a dead letter, if its back-off doubles each time."""
    deployed = inputs.deployed
    backoff, total = deployed.retry_minimum.value, 0.0
    for _ in range(int(deployed.delivery_attempts.value) - 1):
        total += backoff
        backoff = min(2 * backoff, deployed.retry_maximum.value)
    return total

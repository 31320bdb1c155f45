"""How images come in, and for how long the workers are awake because of it. Pure."""

import math
from dataclasses import dataclass

from tools.inputs import Inputs

#: A month, as Google's calculator has it.
HOURS = 730.0
MONTH_S = HOURS * 3600


@dataclass(frozen=True)
class Bursts:
    """Images come in so many bursts a month, each after the pool has fallen asleep."""

    count: int

    def awake_s(self, images: int, busy_s: float, start_s: float, idle_s: float) -> float:
        """Seconds in which one instance is paid for, without the limit of a month."""
        return busy_s + min(self.count, images) * (start_s + idle_s)

    def __str__(self) -> str:
        return "1 burst" if self.count == 1 else f"{self.count} bursts"


@dataclass(frozen=True)
class Even:
    """Images come one by one, always with the same time between."""

    def awake_s(self, images: int, busy_s: float, start_s: float, idle_s: float) -> float:
        """Seconds in which one instance is paid for, without the limit of a month."""
        # The next image comes before the pool falls asleep, so it never does.
        if images and MONTH_S / images <= idle_s:
            return MONTH_S
        return busy_s + images * (start_s + idle_s)

    def __str__(self) -> str:
        return "evenly, one by one"


Shape = Bursts | Even


@dataclass(frozen=True)
class Traffic:
    """One month's images, and the pool that captions them."""

    images: int
    #: Of one instance, if its CPUs keep up. Not measured for any GPU.
    images_per_second: float
    shape: Shape = Bursts(30)
    scale_to_zero: bool = True
    gpu: bool = True


def cpu_bound_rate(inputs: Inputs) -> float:
    """Photographs per second that an instance's CPUs can fetch and decode, whatever its GPU can do."""
    return inputs.deployed.worker_cpu.value * 1000 / inputs.measured.worker_photograph_cpu_ms.value


def rate_per_instance(inputs: Inputs, images_per_second: float) -> float:
    """Images per second of one instance: the slower one of GPU and CPUs."""
    return min(images_per_second, cpu_bound_rate(inputs))


def instances_needed(inputs: Inputs, traffic: Traffic) -> int:
    """Instances that caption a month's images within the month, but at least the pool's own number."""
    busy_s = traffic.images / rate_per_instance(inputs, traffic.images_per_second)
    return max(int(inputs.deployed.worker_instances.value), math.ceil(busy_s / MONTH_S))


def awake_s(inputs: Inputs, traffic: Traffic) -> float:
    """Instance-seconds of the worker pool in a month, the idle ones before it sleeps included."""
    instances = instances_needed(inputs, traffic)
    if not traffic.scale_to_zero:
        return instances * MONTH_S
    busy_s = traffic.images / rate_per_instance(inputs, traffic.images_per_second) / instances
    start_s, idle_s = inputs.assumed.cold_start_s.value, inputs.deployed.pool_idle.value
    return instances * min(traffic.shape.awake_s(traffic.images, busy_s, start_s, idle_s), MONTH_S)

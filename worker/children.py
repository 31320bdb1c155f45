"""The number of a worker's children where no setting names it: enough for full batches, within the memory.

`docs/decisions/0034-children-for-full-batches.md` has the reasons.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dropline.errors import SettingsError
from dropline.log import get_logger
from dropline.settings import Settings
from worker.devices import count_gpus
from worker.memory import LEAST_SHARE_BYTES, MemoryPlan, plan_memory
from worker.memory_limit import MemoryLimit, find_limit

log = get_logger(__name__)

#: Of each engine on a GPU: while one batch is in the engine, the images of the next are claimed, fetched and
#: decoded, and the captions of the last one are written.
BATCHES_IN_FLIGHT = 2
#: On CPUs, which see one image of Florence-2's own size at a time: the cores work, however many images wait.
LEAST_CHILDREN = 4
#: Each child has a connection to Postgres, which by its own default has 100, also for function and gallery.
MOST_CHILDREN = 64
#: The share that the number leaves to each decoder: twice the least, so that few images take turns.
ROOMY_SHARE_BYTES = 2 * LEAST_SHARE_BYTES


class Bound(StrEnum):
    """What decided about a number of children."""

    BATCHES = "batches"
    CPU = "cpu"
    MEMORY = "memory"
    CONNECTIONS = "connections"


@dataclass(frozen=True, slots=True)
class Children:
    """A chosen number of children."""

    number: int
    #: The number for full batches, whatever memory and connections allow.
    wanted: int
    bound: Bound
    gpu_engines: int
    max_batch: int

    def report(self) -> dict[str, object]:
        """For the log."""
        return {
            "children": self.number,
            "wanted": self.wanted,
            "decided_by": str(self.bound),
            "gpu_engines": self.gpu_engines,
            "max_batch": self.max_batch,
        }


def with_children(
    settings: Settings,
    find: Callable[[int], MemoryLimit] = find_limit,
    count: Callable[[], int] = count_gpus,
) -> tuple[Settings, Children | None]:
    """The settings with a number of children, and how it was chosen; None where the settings name the number.

    Args:
        settings: with the devices of all engines.
        find: the memory of the worker, by `DROPLINE_WORKER__MEMORY_BYTES`.
        count: the visible GPUs; asked for `auto` alone.
    """
    if settings.worker.concurrency:
        return settings, None
    limit = find(settings.worker.memory_bytes) if settings.images.child_memory_bytes else None
    children = choose_children(settings, limit, _gpu_engines(settings, count))
    return _with_number(settings, children.number), children


def choose_children(settings: Settings, limit: MemoryLimit | None, gpu_engines: int) -> Children:
    """The number of children.

    Args:
        settings: of the worker; its own number is ignored.
        limit: of the memory; None: decoders have no limit, so there is no sum.
        gpu_engines: engines on GPUs.
    """
    max_batch = settings.engine.max_batch
    if gpu_engines:
        wanted, bound = BATCHES_IN_FLIGHT * max_batch * gpu_engines, Bound.BATCHES
    else:
        wanted, bound = max(LEAST_CHILDREN, BATCHES_IN_FLIGHT * len(settings.engine.devices)), Bound.CPU
    number = wanted
    if number > MOST_CHILDREN:
        number, bound = MOST_CHILDREN, Bound.CONNECTIONS
    fitting = number if limit is None else _most_that_fit(settings, limit, number)
    if fitting < number:
        number, bound = fitting, Bound.MEMORY
    return Children(number, wanted, bound, gpu_engines, max_batch)


def log_children(children: Children | None) -> None:
    """Log a chosen number."""
    if children is not None:
        log.info("children_chosen", **children.report())


def _gpu_engines(settings: Settings, count: Callable[[], int]) -> int:
    engine = settings.engine
    if engine.stub:
        return 0
    if engine.device == "auto":
        # With several GPUs, each would have been named.
        return min(1, count())
    return sum(device.startswith("cuda") for device in engine.devices)


def _most_that_fit(settings: Settings, limit: MemoryLimit, most: int) -> int:
    """The largest number up to `most` with a roomy share for each; at least 1, which `plan_memory` may refuse."""
    for number in range(most, 1, -1):
        plan = _plan(_with_number(settings, number), limit)
        if plan is not None and (plan.share_bytes >= ROOMY_SHARE_BYTES or not plan.has_turns):
            return number
    return 1


def _plan(settings: Settings, limit: MemoryLimit) -> MemoryPlan | None:
    try:
        return plan_memory(settings, limit)
    except SettingsError:
        return None


def _with_number(settings: Settings, number: int) -> Settings:
    return settings.model_copy(update={"worker": settings.worker.model_copy(update={"concurrency": number})})

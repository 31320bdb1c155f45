"""The steps of a run, in order: a pure function of the seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

#: Images of this colour kill the engine that runs them (`tests.support.failpoint_engine`).
_DEADLY = 0xFF0000
#: One in so many poisoned objects is an image that kills the engine; the other objects are no images.
_DEADLY_EVERY = 10


class Content(StrEnum):
    """The content of an object."""

    IMAGE = "image"
    #: A text with the content type of an image: the row fails at the first attempt.
    WORDS = "words"
    #: An image that kills the engine: the row fails at the third attempt.
    DEADLY = "deadly"


class Fault(StrEnum):
    """An attack on the stack."""

    WORKER_KILLED = "a worker killed"
    WORKER_STOPPED = "a worker stopped and started"
    CHILD_KILLED = "a worker's child killed"
    ENGINE_KILLED = "an engine killed"
    REDIS_RESTARTED = "Redis killed and started"
    REDIS_LOST = "Redis killed and started without its data"
    POSTGRES_RESTARTED = "Postgres crashed and started"
    FUNCTION_KILLED = "the function killed and started"
    REDIS_HALVED = "half of the messages on Redis deleted"
    REDIS_EMPTIED = "Redis emptied while its connections live"
    ENGINES_DIE = "engines that die on every image, for a while"
    DISK_FULL = "no file of Postgres can grow, for a while"
    ROLE_REVOKED = "the worker's right to update rows revoked, for a while"
    BUCKET_ROLE_REVOKED = "the worker's rights on the bucket revoked, for a while"
    CLOCK_OFF = "a worker started with a clock ten minutes off"
    POOL_SLEEPS = "no uploads until the worker pool has scaled to zero"
    ALL_LOST = "all workers killed, and Redis emptied"


@dataclass(frozen=True, slots=True)
class Upload:
    """An object version."""

    name: str
    content: Content
    #: RGB, different for every image to caption: the caption is the colour in hexadecimal.
    color: int
    #: Whether the event is published again, with another message id.
    repeated: bool

    @property
    def caption(self) -> str:
        """The caption by the counting engine."""
        return f"{self.color:06x}"


@dataclass(frozen=True, slots=True)
class Dose:
    """Numbers and shares of uploads and faults; the defaults are for the whole run."""

    objects: int = 5000
    repeated: float = 0.2
    overwritten: float = 0.1
    poisoned: float = 0.05
    faults: tuple[tuple[Fault, int], ...] = (
        (Fault.WORKER_KILLED, 40),
        (Fault.WORKER_STOPPED, 60),
        (Fault.CHILD_KILLED, 40),
        (Fault.ENGINE_KILLED, 10),
        (Fault.REDIS_RESTARTED, 7),
        (Fault.REDIS_LOST, 3),
        (Fault.POSTGRES_RESTARTED, 5),
        (Fault.FUNCTION_KILLED, 5),
        (Fault.REDIS_HALVED, 10),
        (Fault.REDIS_EMPTIED, 5),
        (Fault.ENGINES_DIE, 3),
        (Fault.DISK_FULL, 5),
        (Fault.ROLE_REVOKED, 5),
        (Fault.BUCKET_ROLE_REVOKED, 5),
        (Fault.CLOCK_OFF, 10),
        (Fault.POOL_SLEEPS, 5),
    )
    #: Faults before the others.
    at_start: tuple[Fault, ...] = ()
    #: Faults when every object version has its row, and no event is to come.
    at_end: tuple[Fault, ...] = (Fault.ALL_LOST,)
    #: Duration of each fault that lasts, in seconds.
    outage_s: float = 60.0


#: Short enough to run with the tests.
SHORT = Dose(
    objects=300,
    faults=(
        (Fault.WORKER_KILLED, 2),
        (Fault.WORKER_STOPPED, 1),
        (Fault.CHILD_KILLED, 2),
        (Fault.REDIS_LOST, 1),
        (Fault.POSTGRES_RESTARTED, 1),
        (Fault.FUNCTION_KILLED, 1),
        (Fault.REDIS_HALVED, 1),
        (Fault.REDIS_EMPTIED, 1),
        (Fault.ENGINES_DIE, 1),
        (Fault.DISK_FULL, 1),
        (Fault.ROLE_REVOKED, 1),
        (Fault.CLOCK_OFF, 1),
    ),
    # Before the deaths: the pool does not sleep before the leases of the dead have ended.
    at_start=(Fault.POOL_SLEEPS,),
    at_end=(),
    outage_s=2.0,
)
#: Between the short and the whole run: 40 faults.
MEDIUM = Dose(
    objects=500,
    faults=(
        (Fault.WORKER_KILLED, 6),
        (Fault.WORKER_STOPPED, 4),
        (Fault.CHILD_KILLED, 4),
        (Fault.ENGINE_KILLED, 3),
        (Fault.REDIS_RESTARTED, 2),
        (Fault.REDIS_LOST, 2),
        (Fault.POSTGRES_RESTARTED, 2),
        (Fault.FUNCTION_KILLED, 2),
        (Fault.REDIS_HALVED, 2),
        (Fault.REDIS_EMPTIED, 2),
        (Fault.ENGINES_DIE, 2),
        (Fault.DISK_FULL, 2),
        (Fault.ROLE_REVOKED, 2),
        (Fault.BUCKET_ROLE_REVOKED, 1),
        (Fault.CLOCK_OFF, 2),
        (Fault.POOL_SLEEPS, 1),
    ),
    outage_s=10.0,
)
#: For workers that do not look for rows: the last fault leaves rows that no message names.
CONTROL = Dose(objects=60, faults=())


def make_plan(dose: Dose, rng: random.Random) -> list[Upload | Fault]:
    """The steps of a run: objects are overwritten some uploads after their first version, faults spread evenly."""
    uploads = _uploads(dose, rng)
    faults = [fault for fault, times in dose.faults for _ in range(times)]
    rng.shuffle(faults)
    faults = [*dose.at_start, *faults]
    plan: list[Upload | Fault] = list(uploads)
    for number in reversed(range(len(faults))):
        plan.insert((number + 1) * len(uploads) // (len(faults) + 1), faults[number])
    return [*plan, *dose.at_end]


def most_repeated(
    plan: Sequence[Upload | Fault], workers: int, children: int, *, outages: int = 1, lost_with_engines: int = 0
) -> int:
    """The largest number of repeated inferences due to the plan: the images at work at each death.

    Args:
        workers: number of workers.
        children: number of children of each worker.
        outages: time limits of an image in the duration of a fault that lasts, rounded up.
        lost_with_engines: inferences that ended with an engine that one of their images killed.
    """
    # A caption not recorded in time is dropped at the time limit.
    all_dropped = workers * children
    at_most = {
        Fault.WORKER_KILLED: children,
        Fault.ENGINE_KILLED: children,
        Fault.CHILD_KILLED: 1,
        Fault.POSTGRES_RESTARTED: all_dropped,
        Fault.DISK_FULL: all_dropped * outages,
        Fault.ROLE_REVOKED: all_dropped * outages,
        Fault.ALL_LOST: all_dropped,
    }
    return sum(at_most.get(step, 0) for step in plan if isinstance(step, Fault)) + lost_with_engines


def _uploads(dose: Dose, rng: random.Random) -> list[Upload]:
    colors, poisoned = (color for color in count(1) if color != _DEADLY), count(1)
    first = [_upload(f"{number:05}.png", dose, rng, colors, poisoned) for number in range(dose.objects)]
    # Each upload has a place to sort by: the second version of an object comes anywhere after the first.
    placed = [(float(place), upload) for place, upload in enumerate(first)]
    for place, upload in enumerate(first):
        if rng.random() < dose.overwritten:
            later = _upload(upload.name, dose, rng, colors, poisoned)
            placed.append((rng.uniform(place + 0.5, min(place + 50, dose.objects)), later))
    return [upload for _, upload in sorted(placed, key=lambda entry: entry[0])]


def _upload(name: str, dose: Dose, rng: random.Random, colors: Iterator[int], poisoned: Iterator[int]) -> Upload:
    content, color = Content.IMAGE, next(colors)
    if rng.random() < dose.poisoned:
        deadly = next(poisoned) % _DEADLY_EVERY == 0
        content, color = (Content.DEADLY, _DEADLY) if deadly else (Content.WORDS, color)
    return Upload(name, content, color, repeated=rng.random() < dose.repeated)

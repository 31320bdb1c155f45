"""The steps of a run, in order: a pure function of the seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

#: Images of this colour kill the engine that runs them (`tests.support.failpoint_engine`).
_DEADLY = 0xFF0000
#: Number of engines killed by such an image, before the row becomes a dead letter.
_DEADLY_KILLS = 3
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
    )


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
    ),
)


def make_plan(dose: Dose, rng: random.Random) -> list[Upload | Fault]:
    """The steps of a run: objects are overwritten some uploads after their first version, faults spread evenly."""
    uploads = _uploads(dose, rng)
    faults = [fault for fault, times in dose.faults for _ in range(times)]
    rng.shuffle(faults)
    plan: list[Upload | Fault] = list(uploads)
    for number in reversed(range(len(faults))):
        plan.insert((number + 1) * len(uploads) // (len(faults) + 1), faults[number])
    return plan


def most_repeated(plan: Sequence[Upload | Fault], workers: int, children: int) -> int:
    """The largest number of repeated inferences due to the deaths in the plan: the images at work at each death.

    Args:
        workers: number of workers.
        children: number of children of each worker.
    """
    at_most = {
        Fault.WORKER_KILLED: children,
        Fault.ENGINE_KILLED: children,
        Fault.CHILD_KILLED: 1,
        # A caption not recorded in time is dropped at the time limit.
        Fault.POSTGRES_RESTARTED: workers * children,
    }
    killers = sum(isinstance(step, Upload) and step.content is Content.DEADLY for step in plan)
    return (
        sum(at_most.get(step, 0) for step in plan if isinstance(step, Fault)) + killers * _DEADLY_KILLS * children
    )


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

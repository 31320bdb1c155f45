"""Who takes part in sleep and wake: procedures under way, deliveries, workers, and calls to Cloud Run."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from dropline.errors import DroplineError
from tests.support.scaling_store import MemoryStore


@dataclass(frozen=True)
class Commit:
    """The function writes the row: whether it is unfinished."""

    row: int


@dataclass(frozen=True)
class Push:
    """The function puts the message on the queue."""

    row: int


@dataclass(frozen=True)
class Atomically:
    """For protocols that are wrong on purpose: any single step in Redis."""

    act: Callable[["MemoryStore"], Any]


class Actor:
    """A procedure under way, and the command it waits for."""

    def __init__(self, procedure: Generator[Any, Any, Any]) -> None:
        self._procedure = procedure
        self.command: Any = None
        self.done = False
        self.result: Any = None
        self.error: DroplineError | None = None
        self._run(lambda: next(procedure))

    def answer(self, value: Any) -> None:
        self._run(lambda: self._procedure.send(value))

    def fail(self, error: DroplineError) -> None:
        self._run(lambda: self._procedure.throw(error))

    def _run(self, resume: Callable[[], Any]) -> None:
        try:
            self.command = resume()
        except StopIteration as end:
            self.done, self.result = True, end.value
        except DroplineError as error:
            self.done, self.error = True, error


@dataclass(eq=False)
class Delivery:
    """An event in the function's hands."""

    row: int
    actor: Actor


@dataclass(eq=False)
class Instance:
    """A worker."""

    ready: bool = False
    #: Told to stop; it goes on until it is killed.
    stopping: bool = False
    hand: set[int] = field(default_factory=set)
    deactivator: Actor | None = None
    #: The deactivator's mark ran out between being renewed and the call.
    late: bool = False


@dataclass(eq=False)
class Call:
    """A call to Cloud Run under way."""

    instances: int
    #: Who waits for the answer; None: nobody any more.
    actor: Actor | None
    number: int
    applied: bool = False

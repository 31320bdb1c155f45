"""Actors of scale to zero: running procedures, deliveries, workers, and calls to Cloud Run."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from dropline.errors import DroplineError
from tests.support.scaling_store import MemoryStore


@dataclass(frozen=True)
class Commit:
    """The function commits the row. Answer: True if the row is unfinished."""

    row: int


@dataclass(frozen=True)
class Push:
    """The function puts the message on the queue."""

    row: int


@dataclass(frozen=True)
class Atomically:
    """Any single step in Redis; for protocols with a deliberate error."""

    act: Callable[["MemoryStore"], Any]


class Actor:
    """A running procedure, and the command whose answer is due."""

    def __init__(self, procedure: Generator[Any, Any, Any]) -> None:
        self._procedure = procedure
        self.command: Any = None
        self.done = False
        self.result: Any = None
        self.error: DroplineError | None = None
        #: The moment of the query for unfinished rows.
        self.checked_at = 0
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
    #: Has received SIGTERM; continues until killed.
    stopping: bool = False
    hand: set[int] = field(default_factory=set)
    deactivator: Actor | None = None
    #: The mark of the deactivator expired between its renewal and the call.
    late: bool = False


@dataclass(eq=False)
class Call:
    """A running call to Cloud Run."""

    instances: int
    #: The actor that waits for the answer; None: the actor has crashed or given up.
    actor: Actor | None
    number: int
    applied: bool = False

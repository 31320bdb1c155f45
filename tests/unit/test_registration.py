"""The worker's row never prevents a worker from starting or stopping: a scripted database and event loop."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from db.start_check import WORKER
from dropline.errors import AccessDenied, DatabaseUnavailable
from worker.engine.process import LoadedModel
from worker.registration import Registration

LOADED = LoadedModel(name="demo", revision="sha256-1", device="cpu", largest_batch=32)


@dataclass
class Timer:
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Loop:
    """Collects the timers of the registration."""

    timers: list[tuple[float, Timer]] = field(default_factory=list)
    again: Callable[[], None] = lambda: None

    def call_later(self, delay_s: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        timer = Timer()
        self.timers.append((delay_s, timer))
        self.again = lambda: callback(*arguments)
        return timer


@dataclass
class Postgres:
    """Raises the planned errors, then takes every statement."""

    errors: list[Exception] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    def connect(self) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return self

    def transaction(self) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def execute(self, statement: Any, _values: Any) -> None:
        self.statements.append(str(statement).split()[0])


def registration_at(postgres: Postgres) -> Registration:
    return Registration(postgres.connect, "dropline-worker-a", lambda: LOADED)


@pytest.mark.parametrize(
    "error", [DatabaseUnavailable("away"), AccessDenied("no INSERT on workers"), RuntimeError("unforeseen")]
)
def test_a_row_that_cannot_be_written_is_tried_again_after_growing_pauses(error: Exception) -> None:
    """Any error is a log line and a timer; the row is written once the statement succeeds."""
    postgres, loop = Postgres([error] * 8), Loop()
    registration_at(postgres).start(loop)  # type: ignore[arg-type]
    for _ in range(8):
        assert not postgres.statements
        loop.again()
    assert postgres.statements == ["INSERT", "DELETE"]
    assert [delay_s for delay_s, _ in loop.timers] == [1, 2, 4, 8, 16, 32, 64, 64]


def test_the_row_is_written_once_over_all_connections_to_redis() -> None:
    """Celery starts the consumer again after a lost connection; a pending try is not doubled."""
    postgres, loop = Postgres([DatabaseUnavailable("away")]), Loop()
    registration = registration_at(postgres)
    for _ in range(3):
        registration.start(loop)  # type: ignore[arg-type]
    assert postgres.statements == ["INSERT", "DELETE"]
    assert [timer.cancelled for _, timer in loop.timers] == [True]


def test_a_row_is_closed_only_where_it_was_written() -> None:
    """A worker that ends before it is ready, or without a row, sends nothing; a close that failed is repeated."""
    postgres, loop = Postgres([DatabaseUnavailable("away")]), Loop()
    registration = registration_at(postgres)
    registration.close()
    registration.start(loop)  # type: ignore[arg-type]
    registration.close()
    assert (postgres.statements, loop.timers[0][1].cancelled) == ([], True)
    registration.start(loop)  # type: ignore[arg-type]
    postgres.errors = [DatabaseUnavailable("away")]
    registration.close()
    assert postgres.statements == ["INSERT", "DELETE"]
    for _ in range(2):
        registration.close()
        assert postgres.statements == ["INSERT", "DELETE", "UPDATE"]


def test_a_worker_starts_without_rights_on_its_table() -> None:
    """The check at start refuses a login without the rights that captions need, and no other login."""
    assert "workers" not in WORKER.rights

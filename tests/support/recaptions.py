"""Captioned rows by the hundred, made by statements, and passes over them."""

from collections.abc import Callable

from sqlalchemy import Connection, text

from db.session import Database
from operations.recaption import Recaptioner

_INSERT = text("""
    INSERT INTO captions (bucket, object_name, generation, task, status, caption, model, model_revision,
                          captioned_at, attempts, write_back)
    SELECT 'drops', to_char(n, 'FM0000000') || '.png', 1, '<CAPTION>', 'captioned', 'caption ' || n, :model,
           :revision, now() - interval '30 days', 1, true
    FROM generate_series(CAST(:first AS integer), :last) AS n
""")
START = text("""
    INSERT INTO workers (name, host, model, model_revision, device, largest_batch)
    VALUES (:model || :revision, 'gpu-1', :model, :revision, 'cpu', 8)
""")


def insert_captioned(
    connection: Connection, first: int, last: int, model: str = "old", revision: str = "r1"
) -> None:
    """Insert captioned rows, numbered in their names."""
    connection.execute(_INSERT, {"first": first, "last": last, "model": model, "revision": revision})


def start_worker(connection: Connection, model: str = "new", revision: str = "r2") -> None:
    """Insert the row of a worker that has started."""
    connection.execute(START, {"model": model, "revision": revision})


def recaptioner_of(
    database: Database,
    enqueue: Callable[[int], None] = lambda _row_id: None,
    wake: Callable[[], None] = lambda: None,
) -> Recaptioner:
    """A recaptioner without Redis."""
    return Recaptioner(database, enqueue, wake)


def to_redo(connection: Connection) -> list[int]:
    """The rows that are to be captioned again."""
    statement = text("SELECT id FROM captions WHERE redo AND status = 'captioned' ORDER BY id")
    return list(connection.execute(statement).scalars())

"""Rows for tests: the transitions of the function and of the worker, by the same queries, without a process."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection, text

from db import attempts, claims, filtered, object_rows
from db.connections import Connector
from db.session import Database, make_engine
from dropline.contract import (
    Caption,
    Claim,
    Dimensions,
    FilterReason,
    ObjectFacts,
    ObjectVersion,
    Status,
    TaskPrompt,
    TaskRequest,
    WriteBack,
    WriteOutcome,
)
from dropline.settings import DatabaseSettings

TASK = TaskRequest(TaskPrompt.CAPTION)
OTHER_TASK = TaskRequest(TaskPrompt.OPEN_VOCABULARY_DETECTION, "a \N{CAT FACE}")
G1, G2, G3 = (ObjectVersion("drops", "a.jpg", generation) for generation in (1, 2, 3))
IMAGE = Dimensions(width=640, height=480)
LEASE_S = 600.0
#: The name of the child in claims of a test.
CHILD = "test/1"


@contextmanager
def database_of(database_url: str) -> Iterator[Database]:
    """A database for many threads of a test, whose statements may wait long; closed at the end."""
    settings = settings_of(database_url).model_copy(update={"statement_timeout_ms": 600_000})
    with closing(Database.connect(settings, "test", connections=20)) as database:
        yield database


@contextmanager
def open_connection(database_url: str, **options: Any) -> Iterator[Connection]:
    """A connection for statements outside of `Database.transaction`, with SQLAlchemy's options of an engine."""
    engine = make_engine(Connector(settings_of(database_url), "test"), **options)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def settings_of(database_url: str) -> DatabaseSettings:
    """Settings with the URL of the test's database."""
    return DatabaseSettings(url=SecretStr(database_url))


def a_caption(words: str = "a red circle", result: dict[str, Any] | None = None) -> Caption:
    """An answer of the engine."""
    return Caption(text=words, result=result, model="demo", model_revision="r1")


def drop(connection: Connection, version: ObjectVersion, task: TaskRequest = TASK) -> int:
    """Insert a queued row, as the function for a FINALIZE: the row's id."""
    facts = ObjectFacts(content_type="image/png", size_bytes=99)
    return object_rows.register_object(connection, version, facts, task).row_id


def take(connection: Connection, row_id: int, lease_s: float = LEASE_S) -> Claim:
    """Claim the row, as the worker."""
    claim = claims.claim(connection, row_id, lease_s, CHILD).work
    assert isinstance(claim, Claim)
    assert claim.row_id == row_id
    return claim


def record(connection: Connection, claim: Claim, words: str = "a red circle", *, write_back: bool = False) -> bool:
    """Record a caption, as the worker."""
    lease_s = LEASE_S if write_back else None
    recorded = attempts.record_caption(
        connection, claim, a_caption(words), IMAGE, size_bytes=99, write_back_lease_s=lease_s
    )
    return recorded.held


def caption_object(database: Database, version: ObjectVersion, words: str = "a red circle") -> int:
    """Insert, claim and caption a row: the row's id."""
    with database.transaction() as connection:
        row_id = drop(connection, version)
    caption_row(database, row_id, words)
    return row_id


def caption_row(database: Database, row_id: int, words: str = "a red circle") -> None:
    """Claim and caption a queued row, in two transactions as the worker."""
    with database.transaction() as connection:
        claim = take(connection, row_id)
    with database.transaction() as connection:
        assert record(connection, claim, words)


def fail_object(database: Database, version: ObjectVersion, code: str, error: str) -> int:
    """Insert a failed row: the row's id."""
    with database.transaction() as connection:
        row_id = drop(connection, version)
        assert attempts.fail(connection, take(connection, row_id), code, error).held
    return row_id


def filter_object(database: Database, version: ObjectVersion, reason: FilterReason) -> None:
    """Count and notify a filtered object, as the function."""
    with database.transaction() as connection:
        filtered.count(connection, version, reason)


def finish_write_back(
    connection: Connection, row_id: int, *, written: bool, code: str | None = None, note: str | None = None
) -> bool:
    """End the write-back of the row, as the worker."""
    write_back = WriteBack(row_id, G1, str(TASK), "a red circle", "demo", CHILD)
    return attempts.finish_write_back(connection, write_back, WriteOutcome(written, code, note)).held


def end_waits(connection: Connection) -> None:
    """Let all leases and back-offs run out, as time does after the death of a worker."""
    connection.execute(
        text("UPDATE captions SET lease_until = now() - interval '1s' WHERE lease_until IS NOT NULL")
    )
    connection.execute(text("UPDATE captions SET not_before = now() - interval '1s' WHERE not_before > now()"))


_REDO = text("""
    UPDATE captions SET redo = true, priority = 1, queued_at = now(), not_before = NULL, failing_since = NULL,
           lease_until = NULL, lost_attempts = 0, slow_attempts = 0, attempts_before_redrive = attempts,
           redo_failed_at = NULL, updated_at = now()
    WHERE id = :id AND status = 'captioned' AND NOT redo
""")


def redo(connection: Connection, row_id: int) -> None:
    """Queue a captioned row again; the row keeps its caption."""
    connection.execute(_REDO, {"id": row_id})


def row_of(connection: Connection, row_id: int) -> dict[str, Any]:
    """All columns of a row."""
    found = connection.execute(text("SELECT * FROM captions WHERE id = :id"), {"id": row_id})
    return dict(found.mappings().one())


def history_of(connection: Connection, row_id: int) -> list[str]:
    """The replaced captions of a row, the oldest first."""
    statement = text("SELECT caption FROM caption_history WHERE caption_id = :id ORDER BY id")
    return list(connection.execute(statement, {"id": row_id}).scalars())


def status_of(connection: Connection, row_id: int) -> Status:
    """The row's status."""
    return Status(row_of(connection, row_id)["status"])

"""An operator's own SQL: one statement in a read-only transaction, with the rights of dropline_reader."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors
from psycopg.pq import ExecStatus

from db.session import libpq_url
from dropline.errors import ClientError, DatabaseUnavailable
from dropline.settings import DatabaseSettings, require

# A login with more rights gives them up, if the login may act as dropline_reader.
_BECOME_READER = """
    SELECT set_config('role', 'dropline_reader', true) WHERE EXISTS (
        SELECT FROM pg_roles WHERE rolname = 'dropline_reader' AND pg_has_role(oid, 'SET'))
"""


@dataclass(frozen=True, slots=True)
class StatementResult:
    """The columns' names, and the rows as Python values. Both are empty if the statement returns no rows."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


def run_read_only(settings: DatabaseSettings, statement: str, timeout_ms: int) -> StatementResult:
    """Run one statement, for at most `timeout_ms` milliseconds.

    Raises:
        ClientError: Postgres refused the statement, or the time is over; the message is one line.
        DatabaseUnavailable: Postgres cannot be reached, or the connection broke.
    """
    try:
        with _connect(settings, timeout_ms) as connection, connection.cursor() as cursor:
            cursor.execute(_BECOME_READER)
            # Postgres prepares one statement only, so a text with several is refused.
            cursor.execute(statement.encode(), prepare=True)
            if cursor.pgresult is None or cursor.pgresult.status == ExecStatus.EMPTY_QUERY:
                raise ClientError("there is nothing to run; give one SQL statement")
            if cursor.statusmessage == "LISTEN":
                raise ClientError(
                    "LISTEN would end with the command; `dropline watch` shows changes as they happen"
                )
            columns = [column.name for column in cursor.description or ()]
            return StatementResult(columns, cursor.fetchall() if columns else [])
    except errors.QueryCanceled:
        raise ClientError(f"the statement took longer than {timeout_ms / 1000:g} s; raise --timeout") from None
    except psycopg.Error as error:
        raise _named(error) from error


def _connect(settings: DatabaseSettings, timeout_ms: int) -> psycopg.Connection[tuple[Any, ...]]:
    connection = psycopg.connect(
        libpq_url(require(settings.url, "DROPLINE_DATABASE__URL")),
        application_name="dropline-sql",
        connect_timeout=settings.connect_timeout_s,
        options=f"-c statement_timeout={timeout_ms} -c default_transaction_read_only=on",
    )
    connection.read_only = True
    return connection


def _named(error: psycopg.Error) -> ClientError | DatabaseUnavailable:
    state = error.sqlstate
    if state is None and isinstance(error, psycopg.OperationalError):
        return DatabaseUnavailable(f"cannot reach Postgres: {_one_line(str(error))}")
    if state is not None and state.startswith(("08", "53", "57")):
        return DatabaseUnavailable(f"Postgres went away: {_one_line(str(error))}")
    diagnosis = error.diag
    # For several statements the message is about prepared statements. The C function's name is not translated.
    if isinstance(error, errors.SyntaxError) and diagnosis.source_function == "exec_parse_message":
        return ClientError("these are several statements; give one statement at a time")
    parts = (diagnosis.message_primary or str(error), diagnosis.message_hint, _place(diagnosis.statement_position))
    return ClientError(_one_line("; ".join(part for part in parts if part)))


def _place(position: str | None) -> str | None:
    return f"at character {position}" if position else None


def _one_line(text: str) -> str:
    return " ".join(text.split())

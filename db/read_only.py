"""An operator's own SQL: one statement in a read-only transaction, with the rights of dropline_reader."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import ExecStatus
from psycopg.types.string import TextLoader

from db.connections import Connector
from db.errors import named_error
from db.start_check import READER
from dropline.errors import ClientError, DroplineError
from dropline.settings import DatabaseSettings

# A login with more rights gives them up, if the login may act as dropline_reader.
_BECOME_READER = """
    SELECT set_config('role', 'dropline_reader', true) WHERE EXISTS (
        SELECT FROM pg_roles WHERE rolname = 'dropline_reader' AND pg_has_role(oid, 'SET'))
"""


#: Types whose Python values lose no part of the value of Postgres. Of all others (dates up to infinity, intervals
#: with months, bytea, ranges, numeric …) the text of Postgres is taken.
_KEPT_TYPES = frozenset(
    {"bool", "int2", "int4", "int8", "oid", "float4", "float8", "text", "varchar", "name", "bpchar"}
)
_JSON_TYPES = frozenset({"json", "jsonb"})


class JsonText(str):
    """A value of type json or jsonb as its own text: parsing would merge equal keys and round numbers."""

    __slots__ = ()


class _JsonTextLoader(Loader):
    """Loads json and jsonb unparsed."""

    def load(self, data: Buffer) -> JsonText:
        return JsonText(bytes(data).decode())


@dataclass(frozen=True, slots=True)
class StatementResult:
    """The columns' names, and the rows. Both are empty if the statement returns no rows.

    A value is None, a bool, an int, a float, a `JsonText`, a list of values (an array), or else the text of
    Postgres.
    """

    columns: list[str]
    rows: list[tuple[Any, ...]]


def run_read_only(settings: DatabaseSettings, statement: str, timeout_ms: int) -> StatementResult:
    """Run one statement, for at most `timeout_ms` milliseconds.

    Raises:
        ClientError: Postgres refused the statement, or the time is over; the message is one line.
        DatabaseUnavailable: Postgres cannot be reached, or the connection broke.
    """
    limited = settings.model_copy(update={"statement_timeout_ms": timeout_ms})
    connector = Connector(limited, "dropline-sql", READER, read_only=True)
    try:
        with _connect(connector) as connection, connection.cursor() as cursor:
            if connector.is_pooled:
                cursor.execute(connector.local_settings.encode())
            cursor.execute(_BECOME_READER)
            with connection.pipeline():
                # A pipeline has the extended protocol: a text with several statements is refused, and no prepared
                # statement is left behind in the session of a pooler.
                cursor.execute(statement.encode(), prepare=False)
            if cursor.pgresult is None or cursor.pgresult.status == ExecStatus.EMPTY_QUERY:
                raise ClientError("there is nothing to run; give one SQL statement")
            if cursor.statusmessage == "LISTEN":
                raise ClientError(
                    "LISTEN would end with the command; `dropline watch` shows changes as they happen"
                )
            columns = [column.name for column in cursor.description or ()]
            has_rows = cursor.pgresult.status == ExecStatus.TUPLES_OK
            return StatementResult(columns, cursor.fetchall() if has_rows else [])
    except errors.QueryCanceled:
        raise ClientError(f"the statement took longer than {timeout_ms / 1000:g} s; raise --timeout") from None
    except UnicodeDecodeError:
        raise ClientError(
            "a value is not UTF-8, so the database has another encoding; select it as bytea (`::bytea`)"
        ) from None
    except UnicodeEncodeError:
        raise ClientError("the statement is not UTF-8; check the shell's locale") from None
    except psycopg.Error as error:
        raise _named(error) from error


def _connect(connector: Connector) -> psycopg.Connection[tuple[Any, ...]]:
    connection = connector.open()
    connection.autocommit = False
    connection.read_only = True
    _load_without_loss(connection)
    return connection


def _load_without_loss(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    for each in connection.adapters.types:
        if each.name in _JSON_TYPES:
            connection.adapters.register_loader(each.oid, _JsonTextLoader)
        elif each.name not in _KEPT_TYPES:
            connection.adapters.register_loader(each.oid, TextLoader)


def _named(error: psycopg.Error) -> DroplineError:
    """Like `db.errors.named_error`, but the statement is the user's: a refusal names its mistake."""
    named = named_error(error)
    if error.sqlstate is None and not isinstance(error, psycopg.DataError | psycopg.NotSupportedError):
        return named
    if error.sqlstate is not None and error.sqlstate.startswith(("08", "28", "3D", "53", "57")):
        return named
    diagnosis = error.diag
    # For several statements the message is about prepared statements. The C function's name is not translated.
    if isinstance(error, errors.SyntaxError) and diagnosis.source_function == "exec_parse_message":
        return ClientError("these are several statements; give one statement at a time")
    parts = (diagnosis.message_primary or str(error), diagnosis.message_hint, _place(diagnosis.statement_position))
    return ClientError(" ".join("; ".join(part for part in parts if part).split()) or type(error).__name__)


def _place(position: str | None) -> str | None:
    return f"at character {position}" if position else None

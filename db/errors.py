"""Errors of Postgres and of the client libraries, named as Dropline's errors: in a single place, by SQLSTATE.

Every class of psycopg's errors has a name here; a message is a line with the remedy.
"""

import psycopg
from psycopg.errors import InsufficientPrivilege, ReadOnlySqlTransaction

from dropline.errors import (
    AccessDenied,
    CaptionUnusable,
    DatabaseReadOnly,
    DatabaseUnavailable,
    DroplineError,
    EditConflict,
    EditRefused,
    NoSuchCaption,
    RowEnded,
    SchemaOutdated,
    SettingsError,
    StatementRefused,
)
from dropline.loopback import local_stack_advice

_UNREACHABLE = "check that Postgres runs and that the URL names it"

# By class of SQLSTATE, or by a whole SQLSTATE; the longest match counts.
_TRANSIENT = {
    "08": _UNREACHABLE,
    "0A000": "the statement is prepared again at the next attempt",
    "25": "the next attempt has a transaction of its own",
    "26": "set DROPLINE_DATABASE__URL to Postgres itself, or to a pooler in session mode",
    "28": "correct the user and the password in the URL",
    "34": "the next attempt has a transaction of its own",
    "3D": "correct the name of the database in the URL",
    "40": "the next attempt may succeed",
    "53": "give Postgres more disk, memory or connections (max_connections)",
    "53100": "free disk space of the Postgres server",
    "53300": "raise max_connections, or lower DROPLINE_DATABASE__POOL_SIZE",
    "54000": "a session that listens, but stays in a transaction, keeps all notifications: end that session "
    "(pg_stat_activity has its pid; SELECT pg_terminate_backend(pid))",
    "55": "another session holds the lock; try again",
    "57": "Postgres stopped, or ended the statement; try again",
    "57014": "the statement took too long; DROPLINE_DATABASE__STATEMENT_TIMEOUT_MS is the limit",
    "58": "look at the log and the disk of the Postgres server",
    "F0": "look at the configuration of the Postgres server",
    "XX": "look at the log of the Postgres server",
}
#: Refusals of Dropline's own functions in Postgres.
_REFUSALS: dict[str, type[EditRefused]] = {
    "DL001": NoSuchCaption,
    "DL002": RowEnded,
    "DL003": CaptionUnusable,
    "DL004": EditConflict,
}
#: A table, a column, a function, a type or a schema is missing.
_OUTDATED = ("42", "3F")


def named_error(error: Exception) -> DroplineError:
    """Dropline's name of an error of psycopg.

    The classes: `AccessDenied`, `DatabaseReadOnly`, `SchemaOutdated`, `DatabaseUnavailable` for every error that a
    later attempt may not meet, `SettingsError` for a URL with an option unknown to Postgres, the kinds of
    `EditRefused` for Dropline's functions, and `StatementRefused` for the rest (the values of the statement).
    """
    text = one_line(error)
    state: str | None = getattr(error, "sqlstate", None)
    if isinstance(error, InsufficientPrivilege):
        return AccessDenied(f"Postgres refused: {text}; grant the login the role it needs (docs/deploy.md)")
    if isinstance(error, ReadOnlySqlTransaction):
        return DatabaseReadOnly(f"Postgres refused: {text}; use the URL of the primary server")
    if state is None:
        return _without_state(error, text)
    if (refusal := _REFUSALS.get(state)) is not None and isinstance(error, psycopg.Error):
        return refusal(error.diag.message_primary or text)
    if (remedy := _longest_match(state)) is not None:
        return DatabaseUnavailable(f"Postgres did not answer: {text}; {remedy}{local_stack_advice(text)}")
    if state.startswith(_OUTDATED):
        return SchemaOutdated(
            f"the database lacks a part of Dropline's schema: {text}; run `python -m migrations` on it, or "
            "correct the name of the database in the URL"
        )
    return StatementRefused(f"Postgres refused the values of a statement: {text} (SQLSTATE {state})")


def is_answer(error: DroplineError) -> bool:
    """True if Postgres has answered, for example with a refusal; False if it may be unreachable."""
    return type(error) is not DatabaseUnavailable


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks; the name of the class for an empty message."""
    return " ".join(str(error).split()) or type(error).__name__


def _without_state(error: Exception, text: str) -> DroplineError:
    """An error of the client library: of a connection, or of the values before the sending."""
    if isinstance(error, psycopg.ProgrammingError):
        return SettingsError(f"the URL of Postgres cannot be used: {text}; correct DROPLINE_DATABASE__URL")
    if isinstance(error, psycopg.DataError | psycopg.NotSupportedError):
        return StatementRefused(f"Postgres cannot store a value: {text}")
    return DatabaseUnavailable(f"Postgres did not answer: {text}; {_UNREACHABLE}{local_stack_advice(text)}")


def _longest_match(state: str) -> str | None:
    return _TRANSIENT.get(state) or _TRANSIENT.get(state[:2])

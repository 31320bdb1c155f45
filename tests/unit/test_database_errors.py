"""Every error class of psycopg has a name of Dropline's, and a message of one line with what to do."""

import psycopg
import pytest
from psycopg import errors

from db.errors import named_error
from dropline.errors import (
    AccessDenied,
    DatabaseReadOnly,
    DatabaseUnavailable,
    DroplineError,
    SchemaOutdated,
    SettingsError,
    StatementRefused,
)

#: Every class with a SQLSTATE, and the classes of the client library.
CLASSES = sorted(
    {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, psycopg.Error)},
    key=lambda each: each.__name__,
)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_a_name(kind: type[psycopg.Error]) -> None:
    """The message has the words of Postgres on one line."""
    named = named_error(kind("first\n  second"))
    assert isinstance(named, DroplineError)
    assert type(named) is not DroplineError
    assert "first second" in str(named)


@pytest.mark.parametrize(
    ("state", "kind", "told"),
    [
        ("08006", DatabaseUnavailable, "check that Postgres runs"),
        ("0A000", DatabaseUnavailable, "prepared again"),
        ("22001", StatementRefused, "22001"),
        ("22021", StatementRefused, "22021"),
        ("22P05", StatementRefused, "22P05"),
        ("23505", StatementRefused, "23505"),
        ("25006", DatabaseReadOnly, "primary server"),
        ("25P02", DatabaseUnavailable, "next attempt"),
        ("26000", DatabaseUnavailable, "session mode"),
        ("28P01", DatabaseUnavailable, "password"),
        ("3D000", DatabaseUnavailable, "name of the database"),
        ("3F000", SchemaOutdated, "python -m migrations"),
        ("40P01", DatabaseUnavailable, "next attempt"),
        ("42501", AccessDenied, "grant"),
        ("42703", SchemaOutdated, "python -m migrations"),
        ("42P01", SchemaOutdated, "python -m migrations"),
        ("53100", DatabaseUnavailable, "free disk space"),
        ("53300", DatabaseUnavailable, "max_connections"),
        ("54000", DatabaseUnavailable, "end that session"),
        ("54001", StatementRefused, "54001"),
        ("55P03", DatabaseUnavailable, "lock"),
        ("57014", DatabaseUnavailable, "DROPLINE_DATABASE__STATEMENT_TIMEOUT_MS"),
        ("57P01", DatabaseUnavailable, "try again"),
        ("58030", DatabaseUnavailable, "disk"),
        ("XX001", DatabaseUnavailable, "log of the Postgres server"),
    ],
)
def test_a_sqlstate_decides(state: str, kind: type[DroplineError], told: str) -> None:
    """Transient, outdated, refused or denied, each with its remedy."""
    named = named_error(errors.lookup(state)("words"))
    assert type(named) is kind
    assert told in str(named)


def test_errors_without_a_sqlstate_are_the_client_librarys() -> None:
    """A lost connection is transient, an unknown option of the URL a setting, an unstorable value a refusal."""
    assert type(named_error(psycopg.OperationalError("x"))) is DatabaseUnavailable
    assert type(named_error(psycopg.InterfaceError(""))) is DatabaseUnavailable
    assert "InterfaceError" in str(named_error(psycopg.InterfaceError("")))
    assert type(named_error(psycopg.ProgrammingError('invalid URI query parameter: "schema"'))) is SettingsError
    assert type(named_error(psycopg.DataError("text fields cannot contain NUL"))) is StatementRefused

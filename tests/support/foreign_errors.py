"""Every error class of the libraries that reach a service, made without the service."""

import inspect
import socket
import ssl
import types
from typing import Any

import google.auth.exceptions
import psycopg
import redis.exceptions
import requests.exceptions
from google.api_core import exceptions as api_exceptions
from psycopg import errors as postgres_errors

#: Text with a line break and an escape sequence: neither may reach a terminal.
WORDS = "first line\n\x1b[31msecond line"

#: One class of each class of SQLSTATE.
_STATES = (
    *("08006", "0A000", "0L000", "22001", "22021", "23505", "25006", "25P02", "26000", "28000", "28P01", "3D000"),
    *("3F000", "40001", "40P01", "42501", "42601", "42703", "42P01", "53100", "53200", "53300", "54000", "55P03"),
    *("57014", "57P01", "57P03", "58030", "F0000", "P0001", "XX000", "XX001"),
)


def of_system() -> list[Exception]:
    """Errors of the operating system on a connection."""
    kinds: tuple[type[Exception], ...] = (
        *(OSError, ConnectionRefusedError, ConnectionResetError, BrokenPipeError, TimeoutError, PermissionError),
        *(socket.gaierror, ssl.SSLError),
    )
    return [kind(5, WORDS) for kind in kinds]


def of_postgres() -> list[Exception]:
    """The top classes of psycopg, and one class of each class of SQLSTATE."""
    kinds = [each for each in vars(psycopg).values() if _is_error(each, psycopg.Error)]
    return [kind(WORDS) for kind in (*kinds, *map(postgres_errors.lookup, _STATES))]


def of_redis() -> list[Exception]:
    """All classes of redis.exceptions, and the answers that Redis gives as a plain ResponseError."""
    kinds = [each for each in vars(redis.exceptions).values() if _is_error(each, redis.exceptions.RedisError)]
    answers = ("MISCONF", "WRONGTYPE", "CLUSTERDOWN", "NOAUTH", "WRONGPASS", "DENIED", "ERR max number of clients")
    return [
        *(_made(kind) for kind in kinds),
        *(redis.exceptions.ResponseError(f"{answer} {WORDS}") for answer in answers),
    ]


def of_storage() -> list[Exception]:
    """All classes of google.api_core, google.auth and requests."""
    modules: tuple[tuple[types.ModuleType, type[Exception]], ...] = (
        (api_exceptions, api_exceptions.GoogleAPICallError),
        (google.auth.exceptions, google.auth.exceptions.GoogleAuthError),
        (requests.exceptions, requests.exceptions.RequestException),
    )
    return [_made(each) for module, base in modules for each in vars(module).values() if _is_error(each, base)]


def _is_error(found: Any, base: type[Exception]) -> bool:
    return inspect.isclass(found) and issubclass(found, base)


def _made(kind: type[Exception]) -> Exception:
    for arguments in ((WORDS,), (WORDS, "", 0), ("1 host:6379",)):
        try:
            return kind(*arguments)
        except (TypeError, ValueError):
            continue
    raise AssertionError(f"{kind} needs other arguments")

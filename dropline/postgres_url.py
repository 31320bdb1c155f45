"""The check of a Postgres URL from a setting or an option, as far as the text alone decides."""

import re

from dropline.errors import SettingsError
from dropline.server_url import split_url

_EXAMPLE = "postgresql://user:password@host:port/name"
_SCHEMES = ("postgres", "postgresql", "postgresql+psycopg")
#: psql's other form of an address, `host=… dbname=…`.
_KEY_AND_VALUE = re.compile(r"\s*\w+\s*=")
#: Parameters of other libraries, and what replaces each.
_FOREIGN_PARAMETERS = {
    "pgbouncer": "Dropline finds a pooler by itself (DROPLINE_DATABASE__POOLER)",
    "schema": "Dropline's tables are in the schema public",
    "connection_limit": "DROPLINE_DATABASE__POOL_SIZE is the limit",
    "pool_timeout": "Dropline has no such setting",
}


def check_postgres_url(url: str, name: str) -> str:
    """The URL in the form that psql and psycopg take: `postgresql://user:password@host:port/database`.

    psql's own form without `://` (`host=… dbname=…`) is returned unchanged.

    Args:
        url: the value.
        name: the variable or the option with this value, for the error. The error never has the URL: a URL may
            hold a password.

    Raises:
        SettingsError: `url` is not a Postgres URL.
    """
    if "://" not in url and _KEY_AND_VALUE.match(url):
        return url.strip()
    parts = split_url(url, name, _EXAMPLE)
    if parts.scheme not in _SCHEMES:
        raise SettingsError(f"{name} must look like {_EXAMPLE}")
    return parts.render("postgresql")


def refused_address(name: str, message: str) -> SettingsError:
    """The error for an address that libpq refuses; `message` is libpq's, and may quote a part of the address."""
    if parameter := re.search(r'invalid (?:URI query parameter|connection option)[^"]*"(\w+)"', message):
        found = parameter[1]
        remedy = _FOREIGN_PARAMETERS.get(found, "see the parameters in Postgres's manual, section 32.1.2")
        return SettingsError(
            f"{name} has the parameter {found}, which Postgres does not have: remove it; {remedy}"
        )
    return SettingsError(f"{name} is not an address that Postgres's client library can read; write {_EXAMPLE}")

"""The check of a Postgres URL from a setting or an option."""

import re

from dropline.errors import SettingsError

#: SQLAlchemy's grammar of a URL, with a number as the port.
_POSTGRES_URL = re.compile(
    r"(?:postgres|postgresql|postgresql\+psycopg)://(?=.)"
    r"(?P<rest>(?:[^:/]*(?::[^@]*)?@)?(?:\[[^/?]+\]|[^/:?]+)?(?::\d+)?(?:[/?].*)?)",
    re.DOTALL,
)


def check_postgres_url(url: str, name: str) -> str:
    """The URL in the form that psql and psycopg take: `postgresql://user:password@host:port/database`.

    `name` is the variable or the option with this value. The error has `name` and not the URL: a URL may hold
    a password.

    Raises:
        SettingsError: `url` is not a Postgres URL.
    """
    match = _POSTGRES_URL.fullmatch(url)
    if match is None:
        raise SettingsError(f"{name} must look like postgresql://user:password@host:port/name")
    return f"postgresql://{match['rest']}"

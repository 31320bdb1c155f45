"""Which login a command takes: the reader's for what only reads, the function's for what puts work in."""

from pydantic import SecretStr
from sqlalchemy.exc import ArgumentError

from db.session import libpq_url
from dropline.errors import SettingsError
from dropline.settings import DatabaseSettings, Settings

_READER = "DATABASE_URL"
_OWN = "DROPLINE_DATABASE__URL"


def reader_database(settings: Settings) -> DatabaseSettings:
    """Postgres for what only reads: the reader's URL where there is one.

    Raises:
        SettingsError: no URL is set, or it is not one of Postgres; names the variable it came from.
    """
    if settings.database_url:
        return _checked(settings, settings.database_url, _READER)
    return own_database(settings)


def own_database(settings: Settings) -> DatabaseSettings:
    """Postgres for what changes rows.

    Raises:
        SettingsError: no URL is set, or it is not one of Postgres.
    """
    if not settings.database.url:
        raise SettingsError(
            f"{_OWN} is not set; while `dropline up` runs, `source .local/env` sets it "
            "(docs/settings.md has all settings)"
        )
    return _checked(settings, settings.database.url, _OWN)


def _checked(settings: Settings, url: SecretStr, variable: str) -> DatabaseSettings:
    try:
        libpq_url(url.get_secret_value())
    except (SettingsError, ArgumentError, ValueError):
        raise SettingsError(f"{variable} must look like postgresql://user:password@host:port/name") from None
    return settings.database.model_copy(update={"url": url})

"""Whether Postgres and Redis of the environment answer at all, whatever they answer: for the start of a job."""

import socket
from urllib.parse import urlsplit

from psycopg import pq
from psycopg.conninfo import make_conninfo

from db.connections import WRITER_URL
from db.conninfo import parse_conninfo
from dropline.errors import SettingsError
from dropline.redis_url import check_redis_url
from dropline.settings import Settings, load_settings

_BROKER_URL = "DROPLINE_BROKER__URL"
#: Longest wait for one answer, in seconds: the first one through the Cloud SQL Auth Proxy needs a new certificate.
_ANSWER_S = 5
_REDIS_PORT = 6379


def find_silent() -> str:
    """Name a server of the environment that does not answer; empty: each one does, or none is configured.

    A wrong password, login or database is an answer, and so is a wrong setting: the command that runs next names
    the fault.
    """
    try:
        return _find_silent(load_settings())
    except SettingsError:
        return ""


def _find_silent(settings: Settings) -> str:
    """As `find_silent`. Raises SettingsError."""
    if settings.database.url and not _answers_postgres(settings.database.url.get_secret_value()):
        return f"Postgres ({WRITER_URL})"
    if settings.broker.url and not _answers_redis(settings.broker.url.get_secret_value()):
        return f"Redis ({_BROKER_URL})"
    return ""


def _answers_postgres(url: str) -> bool:
    """Ask as `pg_isready` does. A connection alone proves nothing: the proxy takes it, and closes it again."""
    parameters = parse_conninfo(url, WRITER_URL) | {"connect_timeout": str(_ANSWER_S)}
    found = pq.PGconn.ping(make_conninfo(**parameters).encode())
    return found not in (pq.Ping.NO_RESPONSE, pq.Ping.REJECT)


def _answers_redis(url: str) -> bool:
    parts = urlsplit(check_redis_url(url, _BROKER_URL))
    try:
        socket.create_connection((parts.hostname or "", parts.port or _REDIS_PORT), _ANSWER_S).close()
    except OSError:
        return False
    return True

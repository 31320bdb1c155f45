"""From the text of a setting to parameters of libpq, Postgres's client library, which every connection uses."""

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from dropline.errors import SettingsError
from dropline.postgres_url import check_postgres_url, refused_address

#: As the directory of a socket, the path makes libpq check all parameters and fail before any connection.
_NO_SOCKET = "/dev/null"
_NOT_CONNECTED = "connection to server"


def parse_conninfo(url: str, name: str) -> dict[str, str]:
    """The parameters of an address, for `psycopg.connect`.

    Args:
        url: a URL, or psql's `host=… dbname=…`. Several hosts, `target_session_attrs`, `service` and a directory
            with a Unix socket as the host are possible.
        name: the variable or the option with this value, for the error. No error has the URL.

    Raises:
        SettingsError: libpq refuses the address.
    """
    try:
        found = conninfo_to_dict(check_postgres_url(url, name))
    except psycopg.ProgrammingError as error:
        raise refused_address(name, str(error)) from None
    parameters = {key: str(value) for key, value in found.items() if value is not None}
    if message := _refusal(parameters):
        raise SettingsError(f"{name} cannot be used: {message}")
    return parameters


def _refusal(parameters: dict[str, str]) -> str:
    """libpq's objection to a value (a port, a mode of TLS, a missing service); empty if libpq has none.

    libpq checks values at the start of a connection. The message quotes the value, never the password.
    """
    hosts = parameters.get("host") or parameters.get("hostaddr") or ""
    without_hosts = {key: value for key, value in parameters.items() if key not in ("host", "hostaddr")}
    probe = make_conninfo(**without_hosts, host=",".join([_NO_SOCKET] * (hosts.count(",") + 1)))
    message = pq.PGconn.connect_start(probe.encode()).get_error_message()
    return "" if message.startswith(_NOT_CONNECTED) else " ".join(message.split())

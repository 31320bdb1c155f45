"""The check of a Redis URL from a setting or an option.

Celery and the Redis client read a URL differently: a database that is no number is an error to one and database 0
to the other, and each has a form of its own for Unix sockets. A URL that both read alike is accepted.
"""

import re
from urllib.parse import parse_qsl

from dropline.errors import SettingsError
from dropline.server_url import ServerUrl, split_url

_EXAMPLE = "redis://:password@host:port/0"
_OTHER_SCHEMES = {
    "unix": "let Redis listen on a TCP port: a Unix socket cannot be used",
    "redis+socket": "let Redis listen on a TCP port: a Unix socket cannot be used",
    "socket": "let Redis listen on a TCP port: a Unix socket cannot be used",
    "sentinel": "name the primary: Sentinel is not supported",
}
_TLS_PARAMETERS = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
#: Values of `ssl_cert_reqs`: the client's, and Celery's.
_CERT_REQS = {
    **{value: value for value in ("none", "optional", "required")},
    "CERT_NONE": "none",
    "CERT_OPTIONAL": "optional",
    "CERT_REQUIRED": "required",
}
_MAX_PORT = 65535
_PORT = re.compile(r":([0-9]+)$")
_DATABASE = re.compile(r"(?:/[0-9]*)?")


def check_redis_url(url: str, name: str) -> str:
    """The URL in a form that Celery and the Redis client read alike: `redis://user:password@host:port/0`.

    A `rediss://` URL (TLS) without `ssl_cert_reqs` gets `ssl_cert_reqs=required`: without it, Celery would connect
    without TLS.

    Args:
        url: the value.
        name: the variable or the option with this value, for the error. The error never has the URL: a URL may
            hold a password.

    Raises:
        SettingsError: `url` is not a Redis URL, or the two libraries would read it differently.
    """
    parts = split_url(url, name, _EXAMPLE)
    if remedy := _OTHER_SCHEMES.get(parts.scheme):
        raise SettingsError(f"{name} must look like {_EXAMPLE}; {remedy}")
    if parts.scheme not in ("redis", "rediss"):
        raise SettingsError(f"{name} must look like {_EXAMPLE}, or rediss://… with TLS")
    _check_host(parts, name)
    if not _DATABASE.fullmatch(parts.path):
        raise SettingsError(f"{name} must end in the number of the database, as in {_EXAMPLE}")
    query = _tls_query(parts, name)
    return ServerUrl(parts.scheme, parts.user, parts.password, parts.hosts, parts.path, query).render()


def _check_host(parts: ServerUrl, name: str) -> None:
    if "," in parts.hosts:
        raise SettingsError(f"{name} names several hosts: name one, the primary")
    if not parts.hosts:
        raise SettingsError(f"{name} names no host; write {_EXAMPLE}")
    port = _PORT.search(parts.hosts)
    if port and not 0 < int(port[1]) <= _MAX_PORT:
        raise SettingsError(f"{name} has the port {port[1]}; a port is a number from 1 to {_MAX_PORT}")


def _tls_query(parts: ServerUrl, name: str) -> str:
    """The parameters, with the client's spelling of `ssl_cert_reqs`."""
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    for found in parameters:
        if found not in _TLS_PARAMETERS:
            raise SettingsError(
                f"{name} has the parameter {found}: remove it; {', '.join(_TLS_PARAMETERS)} are known"
            )
    if parts.scheme == "redis":
        if parameters:
            raise SettingsError(f"{name} has parameters of TLS: write rediss://… for TLS, or remove them")
        return ""
    required = _CERT_REQS.get(parameters.get("ssl_cert_reqs", "required"))
    if required is None:
        raise SettingsError(f"{name} has an unknown ssl_cert_reqs: write required, optional or none")
    others = [each for each in parts.query.split("&") if each and not each.startswith("ssl_cert_reqs=")]
    return "&".join([f"ssl_cert_reqs={required}", *others])

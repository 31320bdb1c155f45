"""The grammar of the URLs of Postgres and Redis: one reading for every library that connects.

The libraries disagree on raw `@`, `/`, `#` and `?` in a password, and some read a wrong host, or none, without an
error. Here such a URL is read once, and every library gets the user and the password percent-encoded.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from dropline.errors import SettingsError

_HOST = r"(?:\[[^\[\]/@?#\s]+\]|[^\[\]:,/@?#\s]*)(?::[0-9]*)?"
#: Everything after the user and the password: hosts, path and parameters, without a raw `@` before the parameters.
_ADDRESS = re.compile(
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)(?P<path>/[^@?#\s]*)?(?:\?(?P<query>(?:[\w.-]+=[^&#\s]*(?:&|$))*))?"
)
_PERCENT_ENCODED = re.compile(r"(?:[^%]|%(?!00)[0-9A-Fa-f]{2})*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A URL in parts; user and password are decoded."""

    scheme: str
    user: str
    password: str | None
    #: `host:port`, or several separated by commas; may be empty.
    hosts: str
    #: With the leading slash; may be empty. Still percent-encoded, like `query`.
    path: str
    query: str

    def render(self, scheme: str = "") -> str:
        """The URL with user and password percent-encoded."""
        user = quote(self.user, safe="")
        secret = "" if self.password is None else f":{quote(self.password, safe='')}"
        login = f"{user}{secret}@" if user or secret else ""
        query = f"?{self.query}" if self.query else ""
        return f"{scheme or self.scheme}://{login}{self.hosts}{self.path}{query}"


def split_url(text: str, name: str, example: str) -> ServerUrl:
    """Read a URL; raw `@`, `/`, `#`, `?` and `:` in the password are taken as they are.

    White space at both ends is ignored: files with secrets often end in a line break.

    Args:
        text: the value of a setting or an option.
        name: the variable or the option, for the error. The error never has the URL: a URL may hold a password.
        example: the usual form, for the error.

    Raises:
        SettingsError: `text` is not a URL, or has a `%` that begins no percent-encoding before the host.
    """
    text = text.strip()
    if text[:1] in ("'", '"', "`"):
        raise SettingsError(f"{name} begins with a quotation mark: remove the quotation marks")
    scheme, separator, rest = text.partition("://")
    if not separator or not rest:
        raise SettingsError(f"{name} must look like {example}")
    for end in _possible_ends(rest):
        if address := _ADDRESS.fullmatch(rest, end + 1 if end >= 0 else 0):
            user, colon, password = rest[: max(end, 0)].partition(":")
            return ServerUrl(
                scheme=scheme,
                user=_decoded(user, name),
                password=_decoded(password, name) if colon else None,
                hosts=address["hosts"],
                path=address["path"] or "",
                query=address["query"] or "",
            )
    raise SettingsError(
        f"{name} must look like {example}; percent-encode special characters of the password (@ is %40, / is %2F)"
    )


def _possible_ends(rest: str) -> list[int]:
    """Where the password may end: nowhere (-1: no login), or before any `@`. The first valid reading counts."""
    return [-1, *(place for place, character in enumerate(rest) if character == "@")]


def _decoded(text: str, name: str) -> str:
    if not _PERCENT_ENCODED.fullmatch(text):
        raise SettingsError(
            f"{name} has a % in its user or password that begins no percent-encoding: write % as %25"
        )
    return unquote(text)

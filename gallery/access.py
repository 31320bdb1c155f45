"""Access to the gallery: scopes, tokens, and the check of Host and Origin.

Without tokens and without an Identity-Aware Proxy the gallery listens on a loopback address alone, and every
program of the machine has all scopes. A page of another site must not have them: the browser sends its requests
with the site's Origin, or, after the site's name was pointed at 127.0.0.1 (DNS rebinding), with the site's Host.
"""

import enum
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from fastapi import Request

from dropline.errors import ClientError, PermanentError, SettingsError
from gallery.limits import Limits

#: Cookie with the token of a browser, which cannot send a header with an image or an event stream.
TOKEN_COOKIE = "dropline_token"  # noqa: S105 - the name of a cookie
_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<scopes>[a-z+]+):(?P<digest>[0-9a-f]{64})")


class Scope(enum.StrEnum):
    """A kind of request. No scope includes another."""

    READ = "read"
    SUBMIT = "submit"
    EDIT = "edit"


ALL_SCOPES = frozenset(Scope)


class MissingCredentials(PermanentError):
    """The request has no token, and the gallery requires one."""

    default_code = "missing_token"


class CredentialsRefused(PermanentError):
    """The token is unknown, or the header of the Identity-Aware Proxy is not valid."""

    default_code = "token_refused"


class ScopeMissing(PermanentError):
    """The token lacks the scope of the request."""

    default_code = "scope_missing"


class ForeignSite(PermanentError):
    """The request comes from a page of another site, or names another host."""

    default_code = "foreign_site"


@dataclass(frozen=True, slots=True)
class Principal:
    """The sender of a request."""

    #: The token's name, an e-mail address, or `local`; for logs and rate limits.
    name: str
    scopes: frozenset[Scope]


#: A program on the machine of a gallery without tokens.
LOCAL = Principal("local", ALL_SCOPES)


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """A token of the settings: the SHA-256. A token has 256 random bits, so no salt is needed."""

    name: str
    scopes: frozenset[Scope]
    #: 64 hexadecimal digits.
    digest: str

    @classmethod
    def named(cls, name: str, scopes: frozenset[Scope], digest: str) -> "TokenEntry":
        """A new entry.

        Raises:
            ClientError: the name is empty, longer than 64 characters, or has others than letters, digits, `.`, `_`
                and `-`.
        """
        entry = cls(name, scopes, digest)
        if not _ENTRY.fullmatch(str(entry)):
            raise ClientError(f"{name[:80]!r}: the name of a token has 1 to 64 letters, digits, dots, _ and -")
        return entry

    @classmethod
    def parse(cls, text: str) -> "TokenEntry":
        """Read `NAME:SCOPES:SHA256`, with scopes as `read+submit`.

        Raises:
            SettingsError: the text has another form.
        """
        match = _ENTRY.fullmatch(text)
        names = match["scopes"].split("+") if match else []
        if match is None or not set(names) <= set(Scope):
            raise SettingsError(
                "a token of the gallery is not of the form NAME:SCOPES:SHA256, with scopes as read+submit+edit; "
                "`dropline gallery token` makes it"
            )
        return cls(match["name"], frozenset(map(Scope, names)), match["digest"])

    def __str__(self) -> str:
        scopes = "+".join(scope for scope in Scope if scope in self.scopes)
        return f"{self.name}:{scopes}:{self.digest}"


def digest_of(token: str) -> str:
    """The SHA-256 of a token, in hexadecimal digits."""
    return hashlib.sha256(token.encode()).hexdigest()


class ProxyVerifier(Protocol):
    """Verifies the signed header of an Identity-Aware Proxy."""

    #: Scopes of everyone whom the proxy admits.
    scopes: frozenset[Scope]

    async def verify(self, headers: Mapping[str, str]) -> Principal | None:
        """The person of the header; None without the header.

        Raises:
            CredentialsRefused: the header is not valid.
            TransientError: the public keys cannot be fetched.
        """


class Access:
    """Decides which sender has which scopes. Immutable."""

    def __init__(
        self, entries: Iterable[TokenEntry], proxy: ProxyVerifier | None, *, open_to_machine: bool
    ) -> None:
        """Store the parts.

        Args:
            entries: tokens.
            proxy: the check of an Identity-Aware Proxy's header; None: no such proxy.
            open_to_machine: True: no token is needed, and Host must be a loopback name.
        """
        self._entries = tuple(entries)
        self._proxy = proxy
        self.open_to_machine = open_to_machine
        #: Scopes that some sender has.
        self.scopes = frozenset(scope for entry in self._entries for scope in entry.scopes)
        if proxy is not None:
            self.scopes |= proxy.scopes
        if open_to_machine:
            self.scopes = ALL_SCOPES

    def check_site(self, headers: Mapping[str, str]) -> None:
        """Refuse requests that a page of another site makes a browser send.

        Raises:
            ForeignSite: Host is no loopback name, where no token is needed; or Origin is another site's.
        """
        host = headers.get("host", "")
        if self.open_to_machine and not is_loopback(_host_name(host)):
            raise ForeignSite(
                f"this gallery serves 127.0.0.1 and localhost alone, and the request names {host[:200]!r}"
            )
        origin = headers.get("origin")
        if origin is not None and not _is_same_site(origin, host):
            raise ForeignSite(f"a page of {origin[:200]!r} may not use this gallery")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not _is_navigation(headers):
            raise ForeignSite("a page of another site may not use this gallery")

    async def identify(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> Principal:
        """The sender of a request.

        Raises:
            MissingCredentials: a token is required, and the request has none.
            CredentialsRefused: the token or the proxy's header is not valid.
            TransientError: the public keys of the proxy cannot be fetched.
        """
        if self.open_to_machine:
            return LOCAL
        # Without tokens a cookie is one of an earlier time, and a header is meant for the proxy.
        if self._entries and (token := _token(headers, cookies)):
            return self.owner_of(token)
        person = None if self._proxy is None else await self._proxy.verify(headers)
        if person is None:
            raise MissingCredentials("send a token of the gallery, as `Authorization: Bearer …`")
        return person

    def owner_of(self, token: str) -> Principal:
        """The principal of a token.

        Raises:
            CredentialsRefused: no such token.
        """
        digest = digest_of(token)
        found = [entry for entry in self._entries if hmac.compare_digest(entry.digest, digest)]
        if not found:
            raise CredentialsRefused("the gallery has no such token; `dropline gallery token` makes one")
        return Principal(found[0].name, found[0].scopes)


def requires(scope: Scope) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency of a route: the sender of the request, who has the scope and has not used up the rate.

    Raises:
        MissingCredentials, CredentialsRefused, ScopeMissing, TransientError: see `Access.identify`.
        TooManyRequests: the sender has used up the requests or submissions of the minute.
    """

    async def principal(request: Request) -> Principal:
        access: Access = request.app.state.resources.access
        found = await access.identify(request.headers, request.cookies)
        if scope not in found.scopes:
            raise ScopeMissing(f"the token {found.name} lacks the scope {scope}; make one that has it")
        limits: Limits = request.app.state.limits
        limits.requests.take(found.name)
        if scope is Scope.SUBMIT and request.method == "POST":
            limits.submissions.take(found.name)
        request.state.principal = found
        return found

    return principal


def is_loopback(host: str) -> bool:
    """True for `localhost` and the loopback addresses of IPv4 and IPv6."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(headers: Mapping[str, str], cookies: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else cookies.get(TOKEN_COOKIE, "")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_same_site(origin: str, host: str) -> bool:
    """True for the host and port of the request itself; the scheme may differ, since a proxy may end TLS."""
    try:
        theirs = urlsplit(origin)
        ours = urlsplit(f"{theirs.scheme}://{host}")
        default = {"http": 80, "https": 443}[theirs.scheme]
        pair = [(each.hostname, each.port or default) for each in (theirs, ours)]
    except (ValueError, KeyError):
        return False  # such as `null`
    return pair[0] == pair[1]


def _is_navigation(headers: Mapping[str, str]) -> bool:
    """A person follows a link to the gallery."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"

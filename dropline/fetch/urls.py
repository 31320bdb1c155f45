"""Which addresses (URLs) are fetched. Pure.

These rules refuse early and in clear words. The guard does not rest on them: the IP address of every connection is
checked, for every spelling of the name.
"""

import re

import httpx2

from dropline.errors import AddressRefused
from dropline.settings import FetchSettings

_MOST_CHARACTERS = 8000
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_IPV6 = re.compile(r"[0-9a-f:.]+")
#: Forms that a resolver of C takes for an IPv4 address: `2130706433`, `0x7f.1`, `127.1`.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_IPV4 = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_LOCAL_NAME = re.compile(r"(?:.*\.)?(?:localhost|localdomain|local|internal|home\.arpa)")
_OTHER_WAY = "download the image and give its path"


def parse_address(text: str, settings: FetchSettings) -> httpx2.URL:
    """The address, with a host that is an IP address in its usual form or a name in lower-case ASCII.

    Raises:
        AddressRefused: not an address that is fetched.
    """
    try:
        url = httpx2.URL(text[: _MOST_CHARACTERS + 1])
    except (httpx2.InvalidURL, ValueError):
        raise AddressRefused(f"{shown(text)} is not the address of an image: check the spelling") from None
    if len(text) > _MOST_CHARACTERS:
        raise AddressRefused(f"{shown(text)} has more than {_MOST_CHARACTERS} characters; {_OTHER_WAY}")
    return _permitted(text, url, settings)


def _permitted(text: str, url: httpx2.URL, settings: FetchSettings) -> httpx2.URL:
    if url.scheme not in ("http", "https"):
        raise AddressRefused(f"{shown(text)} is not fetched: only http and https are; {_OTHER_WAY}")
    if url.userinfo:
        raise AddressRefused(f"{shown(text)} has a user name: addresses are fetched without login; {_OTHER_WAY}")
    host = url.raw_host.decode("ascii").removesuffix(".")
    _check_host(text, host, settings)
    _check_port(text, url.port, settings)
    return url.copy_with(host=host, fragment=None)


def _check_host(text: str, host: str, settings: FetchSettings) -> None:
    is_ipv6 = ":" in host
    if not (_IPV6 if is_ipv6 else _NAME).fullmatch(host):
        raise AddressRefused(f"{shown(text)} has no usual host name: check the spelling")
    if not is_ipv6 and _NUMERIC.fullmatch(host) and not _IPV4.fullmatch(host):
        raise AddressRefused(
            f"{shown(text)} has a number as its host: write an IP address as four decimal numbers"
        )
    if _LOCAL_NAME.fullmatch(host) and not settings.allow_private:
        raise private(text, "a local name")


def _check_port(text: str, port: int | None, settings: FetchSettings) -> None:
    """Lower ports belong to other protocols, and their servers might take the request for a request of theirs."""
    lowest = 1 if settings.allow_private else 1024
    if port not in (None, 80, 443) and not lowest <= port <= 65535:
        raise AddressRefused(f"{shown(text)} is not fetched: ports are 80, 443, and 1024 to 65535; {_OTHER_WAY}")


def private(text: str, kind: str) -> AddressRefused:
    """The refusal of an address that leads to a private place; the IP address itself is not shown to strangers."""
    return AddressRefused(
        f"{shown(text)} is not fetched, since the address leads to {kind}: set DROPLINE_FETCH__ALLOW_PRIVATE=true "
        f"if that is meant, or {_OTHER_WAY}"
    )


def never(text: str, kind: str) -> AddressRefused:
    """The refusal of an address that leads to a place which no setting allows."""
    return AddressRefused(f"{shown(text)} is not fetched, since the address leads to {kind}; {_OTHER_WAY}")


def shown(text: str) -> str:
    """An address in a message: one line of ASCII, shortened, without query, since a query may have a signature."""
    return ascii(text.partition("?")[0].partition("#")[0])[:160]

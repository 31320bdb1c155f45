"""Who may use the gallery: scopes, tokens, Host and Origin."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from dropline.errors import SettingsError
from dropline.settings import GallerySettings
from gallery.access import (
    Access,
    CredentialsRefused,
    ForeignSite,
    MissingCredentials,
    Principal,
    Scope,
    TokenEntry,
    digest_of,
    is_loopback,
)
from gallery.server import access_from

TOKEN = "a-token-of-the-test"
ENTRY = f"ci:read+submit:{digest_of(TOKEN)}"
OPEN = Access([], None, open_to_machine=True)
CLOSED = Access([TokenEntry.parse(ENTRY)], None, open_to_machine=False)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.8.9.1", "::1"])
def test_loopback_names(host: str) -> None:
    """Names and addresses that only this machine reaches."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "127.0.0.1.nip.io"])
def test_other_names(host: str) -> None:
    """Names and addresses of other machines, or of all interfaces."""
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:18406"},
        {"host": "[::1]:18406"},
        {"host": "localhost:18406", "origin": "http://localhost:18406"},
        {"host": "localhost", "origin": "http://localhost"},
        {"host": "localhost:18406", "sec-fetch-site": "same-origin"},
        {
            "host": "localhost:18406",
            "sec-fetch-site": "cross-site",
            "sec-fetch-mode": "navigate",
            "sec-fetch-dest": "document",
        },
    ],
)
def test_own_requests_pass(headers: dict[str, str]) -> None:
    """Programs of the machine, the page itself, and links to the page."""
    OPEN.check_site(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "evil.example"},
        {"host": "evil.example:18406", "origin": "http://evil.example:18406"},
        {"host": "192.168.1.7:18406"},
        {"host": "localhost:18406", "origin": "http://localhost:3000"},
        {"host": "localhost:18406", "origin": "http://evil.example"},
        {"host": "localhost:18406", "origin": "null"},
        {"host": "localhost:18406", "origin": "http://[bad"},
        {"host": "[bad", "origin": "http://[bad"},
        {"host": "localhost:18406", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"host": "localhost:18406", "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {
            "host": "localhost:18406",
            "sec-fetch-site": "cross-site",
            "sec-fetch-mode": "navigate",
            "sec-fetch-dest": "iframe",
        },
    ],
)
def test_requests_of_another_site_are_refused(headers: dict[str, str]) -> None:
    """DNS rebinding, pages of other sites and of other ports."""
    with pytest.raises(ForeignSite):
        OPEN.check_site(headers)


def test_with_tokens_the_host_may_be_any_name_but_the_origin_must_be_the_same() -> None:
    """A proxy with a public name in front of the gallery ends TLS."""
    CLOSED.check_site({"host": "gallery.example", "origin": "https://gallery.example"})
    with pytest.raises(ForeignSite):
        CLOSED.check_site({"host": "gallery.example", "origin": "https://evil.example"})


def test_a_token_has_its_scopes_alone() -> None:
    """The scopes of the entry; the same for a cookie."""
    for headers, cookies in [({"authorization": f"Bearer {TOKEN}"}, {}), ({}, {"dropline_token": TOKEN})]:
        principal = asyncio.run(CLOSED.identify(headers, cookies))
        assert (principal.name, principal.scopes) == ("ci", frozenset({Scope.READ, Scope.SUBMIT}))


def test_without_a_token_or_with_another_one_nobody_is_identified() -> None:
    """No token, another scheme, another token, and the digest in place of the token."""
    for headers in ({}, {"authorization": "Basic YTpi"}):
        with pytest.raises(MissingCredentials):
            asyncio.run(CLOSED.identify(headers, {}))
    for token in ("other", digest_of(TOKEN), "\N{SNOWMAN}"):
        with pytest.raises(CredentialsRefused):
            asyncio.run(CLOSED.identify({"authorization": f"Bearer {token}"}, {}))


class Proxy:
    """An Identity-Aware Proxy that admits Ana."""

    scopes = frozenset(Scope)

    async def verify(self, headers: Mapping[str, str]) -> Principal | None:
        return Principal("ana@example.com", self.scopes) if "x-goog-iap-jwt-assertion" in headers else None


def test_the_scopes_of_all_senders() -> None:
    """Those of every token; those of the proxy; and all scopes for a machine's own programs."""
    reader = TokenEntry.named("reader", frozenset({Scope.READ}), "0" * 64)
    editor = TokenEntry.named("editor", frozenset({Scope.EDIT}), "1" * 64)
    assert Access([reader], None, open_to_machine=False).scopes == {Scope.READ}
    assert Access([reader, editor], None, open_to_machine=False).scopes == {Scope.READ, Scope.EDIT}
    assert Access([], Proxy(), open_to_machine=False).scopes == OPEN.scopes == set(Scope)


def test_behind_a_proxy_a_token_of_an_earlier_time_changes_nothing() -> None:
    """A browser keeps its cookie for weeks, and a program's header with its identity is meant for the proxy."""
    access = Access([], Proxy(), open_to_machine=False)
    signed = {"x-goog-iap-jwt-assertion": "signed"}
    for headers, cookies in [(signed, {"dropline_token": TOKEN}), (signed | {"authorization": "Bearer id"}, {})]:
        assert asyncio.run(access.identify(headers, cookies)).name == "ana@example.com"
    with pytest.raises(MissingCredentials):
        asyncio.run(access.identify({}, {"dropline_token": TOKEN}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gallery.example"])
def test_an_address_that_others_reach_needs_tokens(host: str) -> None:
    """The gallery does not start there without a token or a proxy."""
    with pytest.raises(SettingsError, match=r"dropline gallery token"):
        access_from(GallerySettings(host=host))
    assert not access_from(GallerySettings(host=host, tokens=(ENTRY,))).open_to_machine


def test_configured_tokens_are_needed_on_a_loopback_address_too() -> None:
    """Without tokens, programs of the machine need none."""
    assert access_from(GallerySettings()).open_to_machine
    assert not access_from(GallerySettings(tokens=(ENTRY,))).open_to_machine


@pytest.mark.parametrize(
    "entry", ["", "ci:read", f"ci:write:{digest_of('a')}", f"c i:read:{digest_of('a')}", TOKEN]
)
def test_a_malformed_entry_is_refused(entry: str) -> None:
    """The error does not repeat the entry, which may be a token."""
    with pytest.raises(SettingsError) as caught:
        TokenEntry.parse(entry)
    assert not entry or entry not in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    """As a file that is not there."""
    file = tmp_path / "tokens"
    for content in (None, b"\xff\xfe"):
        if content:
            file.write_bytes(content)
        with pytest.raises(SettingsError, match="DROPLINE_GALLERY__TOKENS_FILE"):
            access_from(GallerySettings(tokens_file=str(file)))


def test_an_entry_is_written_as_read() -> None:
    """The text of an entry."""
    assert str(TokenEntry.parse(ENTRY)) == ENTRY

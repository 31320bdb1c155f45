"""The requests of each image that leave out the library: token, proxy, connection and checksum."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import google_crc32c
import pytest
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud.storage import Client
from google.cloud.storage.exceptions import DataCorruption

from dropline.storage.client import make_client
from dropline.storage.direct import DirectRequests
from tests.support.http_stand_in import JsonHandler, StandInServer

BODY = b"the stored bytes" * 1000


class Expiring(Credentials):
    """Credentials whose first token has expired, unknown to their owner."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "old"

    def refresh(self, request: object) -> None:
        """Take a new token."""
        self.token = "new"


@dataclass
class Seen:
    """What the stand-in was asked."""

    targets: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    clients: set[tuple[str, int]] = field(default_factory=set)


@contextmanager
def storage(*, checksum: str | None = None, only_token: str | None = None) -> Iterator[tuple[str, Seen]]:
    """A stand-in that has one object under every name; `only_token` is the one that it takes."""
    seen = Seen()

    class Handler(JsonHandler):
        def do_GET(self) -> None:  # noqa: N802 - the base class's name
            seen.targets.append(self.path)
            seen.tokens.append(self.headers["authorization"])
            seen.clients.add(self.client_address)
            if only_token is not None and self.headers["authorization"] != f"Bearer {only_token}":
                self.refuse(401, "the token has expired")
                return
            self.send_response(200)
            if checksum is not None:
                self.send_header("X-Goog-Hash", checksum)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

    server = StandInServer(Handler)
    with server.serving():
        yield server.url, seen


def download(direct: DirectRequests, client: Client) -> bytes:
    """The object `a b/ü.png` of the bucket `drops`."""
    to = io.BytesIO()
    direct.download(client.bucket("drops").blob("a b/ü.png", generation=5), to)
    return to.getvalue()


def crc32c(data: bytes) -> str:
    """As Cloud Storage writes the checksum."""
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


def test_downloads_share_a_connection_and_name_the_generation() -> None:
    """The bytes are verified, and the second request uses the connection of the first."""
    with storage(checksum=f"crc32c={crc32c(BODY)},md5=ignored") as (url, seen):
        client = make_client("p", url)
        direct = DirectRequests(client, (5.0, 30.0))
        assert [download(direct, client), download(direct, client)] == [BODY, BODY]
    assert len(seen.clients) == 1
    assert seen.targets[0] == "/download/storage/v1/b/drops/o/a%20b%2F%C3%BC.png?generation=5&alt=media"


def test_damaged_bytes_are_an_error() -> None:
    """The library's error, which makes the row try again."""
    with storage(checksum=f"crc32c={crc32c(b'others')}") as (url, _):
        client = make_client("p", url)
        with pytest.raises(DataCorruption, match="crc32c"):
            download(DirectRequests(client, (5.0, 30.0)), client)


def test_an_expired_token_is_renewed_once() -> None:
    """As in the library's session: a 401 may be about a token that expired on its way."""
    with storage(only_token="new") as (url, seen):
        client = make_client("p", url)
        client._http.credentials = Expiring()
        assert download(DirectRequests(client, (5.0, 30.0)), client) == BODY
    assert seen.tokens == ["Bearer old", "Bearer new"]


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of plain HTTP gets whole addresses."""
    with storage() as (url, seen):
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        client = Client("p", AnonymousCredentials(), client_options={"api_endpoint": "http://storage.invalid"})
        assert download(DirectRequests(client, (5.0, 30.0)), client) == BODY
    assert seen.targets[0].startswith("http://storage.invalid/download/storage/v1/b/drops/o/")

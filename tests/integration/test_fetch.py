"""Fetching from real sockets: private places get no connection, whichever way leads to them.

A test machine has no public server. Here 127.0.0.2 counts as public, and all other addresses keep their kind.
"""

import gzip
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from dropline.errors import AddressRefused, FetchFailed, FetchTimeout, FetchTooLarge
from dropline.fetch import connections, fetch
from dropline.fetch.addresses import why_refused
from dropline.settings import FetchSettings
from tests.support.web import Web, certificate, ok, redirect, serving

PUBLIC = "127.0.0.2"
GUARDED = FetchSettings()
IMAGE = b"\x89PNG not decoded here"


@pytest.fixture(autouse=True)
def one_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.2 is public; the rule for all other addresses is the product's."""

    def rule(address: str, *, allow_private: bool = False) -> str | None:
        return None if address == PUBLIC else why_refused(address, allow_private=allow_private)

    monkeypatch.setattr(connections, "why_refused", rule)


@pytest.fixture
def public() -> Iterator[Web]:
    """A public server."""
    with serving(PUBLIC) as web:
        web.answers["/cat.png"] = ok(IMAGE, "Content-Type: image/png; charset=binary")
        yield web


@pytest.fixture
def private() -> Iterator[Web]:
    """A server on loopback that would answer with a secret."""
    with serving("127.0.0.1") as web:
        web.answers["/cat.png"] = ok(b"secret")
        yield web


class Names:
    """A resolver with scripted answers, which counts the questions."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.questions: list[str] = []

    def __call__(self, host: str) -> Sequence[str]:
        self.questions.append(host)
        return self._answers[min(len(self.questions), len(self._answers)) - 1]


def test_a_public_image_is_fetched(public: Web) -> None:
    """The bytes, type and name of the answer; the request has the host's name and no secrets."""
    names = Names([PUBLIC])
    fetched = fetch(public.url("/cat.png", "photos.example"), GUARDED, resolve=names)
    assert (fetched.data, fetched.content_type, fetched.name) == (IMAGE, "image/png", "cat.png")
    assert names.questions == ["photos.example"]
    head = public.requests[0].lower()
    assert f"host: photos.example:{public.port}\r\n" in head
    assert "cookie" not in head
    assert "authorization" not in head


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "127。0。0。1", "localhost"]
)
def test_spellings_of_loopback_get_no_connection(private: Web, host: str) -> None:
    """A private server has no connection; with the setting it has one."""
    url = private.url("/cat.png", host)
    with pytest.raises(AddressRefused, match="DROPLINE_FETCH__ALLOW_PRIVATE"):
        fetch(url, GUARDED)
    assert private.connections == 0
    assert fetch(url, FetchSettings(allow_private=True)).data == b"secret"
    assert private.connections == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        [*[PUBLIC] * 20, "10.0.0.1"],
        ["169.254.169.254"],
        ["fe80::1%lo"],
    ],
)
def test_a_name_with_a_private_address_gets_no_connection(public: Web, private: Web, addresses: list[str]) -> None:
    """One private address among public ones refuses the name; the message does not show the address."""
    with pytest.raises(AddressRefused) as refused:
        fetch(private.url("/cat.png", "inside.example"), GUARDED, resolve=Names(addresses))
    assert (public.connections, private.connections) == (0, 0)
    assert not any(address in str(refused.value) for address in addresses)


def test_the_setting_does_not_open_metadata(private: Web) -> None:
    """Private addresses may be allowed; the metadata server stays refused."""
    names = Names(["169.254.169.254"])
    with pytest.raises(AddressRefused, match="metadata"):
        fetch(private.url("/cat.png", "inside.example"), FetchSettings(allow_private=True), resolve=names)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{port}/cat.png",
        "//127.0.0.1:{port}/cat.png",
        "http://[::ffff:127.0.0.1]:{port}/cat.png",
        "http://inside.example:{port}/cat.png",
        "http://user:word@photos.example:{port}/cat.png",
        "file:///etc/passwd",
    ],
)
def test_a_redirect_to_a_private_place_is_not_followed(
    public: Web, private: Web, status: int, target: str
) -> None:
    """The public server is reached and the private one is not, by its address or by a name."""
    public.answers["/away"] = redirect(target.format(port=private.port), status)
    hosts = {"photos.example": [PUBLIC], "inside.example": ["127.0.0.1"]}
    with pytest.raises(AddressRefused):
        fetch(public.url("/away", "photos.example"), GUARDED, resolve=hosts.__getitem__)
    assert (public.connections, private.connections) == (1, 0)


def test_a_name_that_changes_its_address_is_refused(public: Web) -> None:
    """DNS rebinding: each connection has one question, and its answer is checked and used."""
    public.answers["/away"] = redirect("/cat.png")
    with serving("127.0.0.1") as private:
        names = Names([PUBLIC], ["127.0.0.1"])
        with pytest.raises(AddressRefused):
            fetch(public.url("/away", "photos.example"), GUARDED, resolve=names)
        assert names.questions == ["photos.example"] * 2
        assert (public.connections, private.connections) == (1, 0)


def test_the_library_asks_no_second_question(public: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver of the system is asked for the name once; further look-ups have the checked address alone."""
    questions: list[object] = []
    look_up = socket.getaddrinfo

    def counted(host: str | bytes, *args: int, **options: int) -> object:
        questions.append(host)
        return look_up(PUBLIC if host == "photos.example" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    assert fetch(public.url("/cat.png", "photos.example"), GUARDED).data == IMAGE
    assert questions == ["photos.example", PUBLIC]


def test_redirects_between_public_places(public: Web) -> None:
    """Relative and absolute redirects are followed, without the cookie; the name is that of the first address."""
    public.answers["/first%20cat.jpg?size=1"] = redirect("second")
    public.answers["/second"] = redirect(public.url("/cat.png", "cdn.example"), 308)
    fetched = fetch(public.url("/first%20cat.jpg?size=1", "photos.example"), GUARDED, resolve=Names([PUBLIC]))
    assert (fetched.data, fetched.name) == (IMAGE, "first cat.jpg")
    assert not any("cookie" in head.lower() for head in public.requests)


def test_redirects_are_limited(public: Web) -> None:
    """A circle of redirects ends at the limit."""
    public.answers["/round"] = redirect("/round")
    with pytest.raises(FetchFailed, match="3 redirects"):
        fetch(public.url("/round"), FetchSettings(max_redirects=3))
    assert public.connections == 4


def test_proxies_and_logins_of_the_environment_are_not_used(
    public: Web, private: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No request goes to a proxy, and no password of a netrc file is sent."""
    (tmp_path / ".netrc").write_text(f"machine {PUBLIC} login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, private.url("/"))
    assert fetch(public.url(), GUARDED).data == IMAGE
    assert private.connections == 0
    assert "authorization" not in public.requests[0].lower()


def test_an_address_that_does_not_answer_is_passed_over(public: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several public addresses, one without a server is no failure."""
    monkeypatch.setattr(connections, "why_refused", lambda _address, **_options: None)
    names = Names(["127.0.0.3", PUBLIC])
    assert fetch(public.url("/cat.png", "photos.example"), GUARDED, resolve=names).data == IMAGE


LIMITED = FetchSettings(max_size_bytes=1000)


def chunked(stream: socket.socket) -> None:
    """An answer without a length, and without an end."""
    stream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        stream.sendall(b"64\r\n" + b"a" * 100 + b"\r\n")


def empty_blocks(stream: socket.socket) -> None:
    """Deflate blocks without content, and without an end: nothing comes out of the decompressor."""
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n\x78\x9c")
    while True:
        stream.sendall(b"\x00\x00\x00\xff\xff" * 100)


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"a" * 1001),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 1001,
        chunked,
        empty_blocks,
        ok(gzip.compress(bytes(1001)), "Content-Encoding: gzip"),
        ok(zlib.compress(bytes(500_000_000), 9)[:900], "Content-Encoding: deflate"),
    ],
)
def test_large_answers_are_cut_off(public: Web, answer: bytes | Callable[[socket.socket], None]) -> None:
    """By the length that the server states, by the bytes that come, and by the bytes after decompression."""
    public.answers["/cat.png"] = answer
    with pytest.raises(FetchTooLarge, match="DROPLINE_FETCH__MAX_SIZE_BYTES"):
        fetch(public.url(), LIMITED)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "GZIP"])
def test_a_compressed_image_is_decompressed(public: Web, coding: str) -> None:
    """Up to the limit, though the request asks for no compression."""
    data = gzip.compress(bytes(1000)) if coding.lower() == "gzip" else zlib.compress(bytes(1000))
    public.answers["/cat.png"] = ok(data, f"Content-Encoding: {coding}")
    assert fetch(public.url(), LIMITED).data == bytes(1000)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n", "status 206"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (redirect("http://[::1"), "no address"),
        (ok(b"<html>", "Content-Type: Text/HTML; charset=utf-8"), "web page"),
        (ok(b"", "Content-Encoding: br"), "content encoding 'br'"),
        (ok(b"", "Content-Encoding: gzip, gzip"), "content encoding 'gzip, gzip'"),
        (ok(b"no gzip", "Content-Encoding: gzip"), "could not be fetched"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "could not be fetched"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "could not be fetched"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 200_000 + b"\r\n\r\n", "could not be fetched"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "could not be fetched"),
        (b"", "could not be fetched"),
    ],
)
def test_answers_without_an_image(public: Web, answer: bytes, words: str) -> None:
    """Each is an error in one line, with the reason."""
    public.answers["/cat.png"] = answer
    with pytest.raises((FetchFailed, AddressRefused)) as failed:
        fetch(public.url(), GUARDED)
    assert words in str(failed.value)
    assert str(failed.value).isprintable()


def test_a_server_that_is_not_there(public: Web) -> None:
    """A refused connection, and a name without an address."""
    public.close()
    with pytest.raises(FetchFailed, match="could not be fetched"):
        fetch(public.url(), GUARDED)
    with pytest.raises(FetchFailed, match="has no address"):
        fetch("https://photos.example/", GUARDED, resolve=Names([]))


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set at the end of the test, so that slow servers end."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\nA: ", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"]
)
@pytest.mark.parametrize("drip", [b"", b"a", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_slow_server_is_left_at_the_time_limit(
    public: Web, over: threading.Event, head: bytes, drip: bytes
) -> None:
    """Silence, or a byte now and then, before and in the headers and in the body."""

    def slow(stream: socket.socket) -> None:
        stream.sendall(head)
        while not over.wait(0.02):
            stream.sendall(drip)

    public.answers["/cat.png"] = slow
    with pytest.raises(FetchTimeout, match="try again"):
        fetch(public.url(), FetchSettings(timeout_s=0.3))


def test_a_silent_name_server_is_left_at_the_time_limit(over: threading.Event) -> None:
    """The look-up of a name is part of the time."""

    def silent(_host: str) -> Sequence[str]:
        over.wait(60)
        return [PUBLIC]

    with pytest.raises(FetchTimeout, match="DROPLINE_FETCH__TIMEOUT_S"):
        fetch("https://photos.example/cat.png", FetchSettings(timeout_s=0.2), resolve=silent)


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The server's side of a certificate for photos.example, which the client trusts."""
    path = certificate(tmp_path, "photos.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_tls_verifies_the_name(tls: ssl.SSLContext) -> None:
    """The handshake has the name and not the address; a certificate for another name is refused."""
    indicated: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: indicated.append(name)
    with serving(PUBLIC, tls) as web:
        web.answers["/cat.png"] = ok(IMAGE)
        names = Names([PUBLIC])
        assert fetch(web.url("/cat.png", "photos.example"), GUARDED, resolve=names).data == IMAGE
        with pytest.raises(FetchFailed, match="certificate"):
            fetch(web.url("/cat.png", "other.example"), GUARDED, resolve=names)
        assert indicated == ["photos.example", "other.example"]
        assert len(web.requests) == 1


def test_a_silent_handshake_is_left_at_the_time_limit() -> None:
    """A server that accepts and says nothing."""
    with socket.create_server((PUBLIC, 0)) as silent, pytest.raises(FetchTimeout):
        fetch(f"https://{PUBLIC}:{silent.getsockname()[1]}/", FetchSettings(timeout_s=0.2))

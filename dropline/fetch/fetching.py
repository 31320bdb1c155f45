"""Fetches the image behind an address: redirects, size, time and errors.

A request has no cookies, no credentials and no header of the caller, so a redirect carries none onwards. Proxies
of the environment are not used: a proxy resolves the name itself, and the checked address would not be the
fetched one.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote

import httpcore2
import httpx2

from dropline.deadline import Deadline
from dropline.errors import AddressRefused, FetchFailed, FetchTimeout, FetchTooLarge
from dropline.fetch.connections import GuardedBackend, Resolver, left_s, system_addresses
from dropline.fetch.urls import parse_address, shown
from dropline.selection import media_type
from dropline.settings import FetchSettings

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: A second coding could expand the work a thousandfold before a byte is counted.
_CODINGS = frozenset({"", "identity", "gzip", "deflate"})
_PAGES = frozenset({"text/html", "application/xhtml+xml"})
_HEADERS = {"accept": "image/*, */*;q=0.1", "accept-encoding": "identity", "user-agent": "dropline"}
_MOST_OF_A_NAME = 200
_UNUSABLE = re.compile(r"[^ -~\u00a0-\ud7ff\uf900-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer of a server, whole. The bytes are untrusted, and may be no image."""

    data: bytes
    #: `type/subtype` in lower case without parameters; empty without one.
    content_type: str
    #: The last segment of the path of the first address, without control characters; may be empty.
    name: str


def fetch(url: str, settings: FetchSettings, *, resolve: Resolver = system_addresses) -> Fetched:
    """Fetch the bytes behind an http or https address. Blocks for `settings.timeout_s` at most.

    Args:
        url: the address; untrusted.
        settings: limits, and whether private addresses are permitted.
        resolve: the addresses of a host name.

    Raises:
        AddressRefused: the address, or a redirect, is none that is fetched; no connection was made to the place.
        FetchTooLarge: more bytes than `settings.max_size_bytes`, before or after decompression.
        FetchTimeout: not whole within `settings.timeout_s`.
        FetchFailed: the server cannot be reached, or its answer has no image.
    """
    deadline = Deadline.after(settings.timeout_s)
    with _named_errors(url, settings), _Transport(settings, resolve, deadline) as transport:
        address = parse_address(url, settings)
        for _ in range(settings.max_redirects + 1):
            left_s(deadline)
            with contextlib.closing(transport.handle_request(_request(address))) as answer:
                target = _redirect_of(answer)
                if target is None:
                    _require_image(url, answer)
                    return Fetched(_body(answer, settings.max_size_bytes), _content_type(answer), _name(url))
                address = parse_address(_joined(url, address, target), settings)
    raise FetchFailed(
        f"{shown(url)} has more than {settings.max_redirects} redirects: give the last address, or raise "
        "DROPLINE_FETCH__MAX_REDIRECTS"
    )


class _Transport(httpx2.BaseTransport):
    """Sends requests by the guarded connections; a connection is not used again."""

    def __init__(self, settings: FetchSettings, resolve: Resolver, deadline: Deadline) -> None:
        self._most_bytes = settings.max_size_bytes
        backend = GuardedBackend(resolve, deadline, allow_private=settings.allow_private)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpx2.create_ssl_context(), max_keepalive_connections=0, network_backend=backend
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        answer = self._pool.handle_request(
            httpcore2.Request(
                request.method,
                httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=b"",
            )
        )
        assert isinstance(answer.stream, Iterable)
        stream = _Stream(answer.stream, answer.close, self._most_bytes)
        return httpx2.Response(answer.status, headers=answer.headers, stream=stream, request=request)

    def close(self) -> None:
        self._pool.close()


class _Stream(httpx2.SyncByteStream):
    """The bytes of an answer as they arrive, counted before decompression."""

    def __init__(self, blocks: Iterable[bytes], close: Callable[[], None], most_bytes: int) -> None:
        self._blocks = blocks
        self._close = close
        self._most_bytes = most_bytes

    def __iter__(self) -> Iterator[bytes]:
        return _counted(self._blocks, self._most_bytes)

    def close(self) -> None:
        self._close()


def _counted(blocks: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    count = 0
    for block in blocks:
        count += len(block)
        _require_size(count, most_bytes)
        yield block


def _require_size(size_bytes: int, most_bytes: int) -> None:
    if size_bytes > most_bytes:
        raise FetchTooLarge("more bytes than the limit")


def _request(address: httpx2.URL) -> httpx2.Request:
    return httpx2.Request("GET", address, headers=_HEADERS)


def _redirect_of(answer: httpx2.Response) -> str | None:
    return answer.headers.get("location") if answer.status_code in _REDIRECTS else None


def _joined(url: str, address: httpx2.URL, target: str) -> str:
    try:
        return str(address.join(target))
    except (httpx2.InvalidURL, ValueError):
        raise AddressRefused(f"{shown(url)} redirects to a text that is no address") from None


def _require_image(url: str, answer: httpx2.Response) -> None:
    if answer.status_code != HTTPStatus.OK:
        raise FetchFailed(f"{shown(url)} was answered with status {answer.status_code}: check it in a browser")
    if _content_type(answer) in _PAGES:
        raise FetchFailed(f"{shown(url)} is a web page: give the address of the image in the page")
    if (coding := answer.headers.get("content-encoding", "").strip().lower()) not in _CODINGS:
        raise FetchFailed(
            f"{shown(url)} has the content encoding {shown(coding)}, which is not decoded here: download the "
            "image, and give its path"
        )


def _body(answer: httpx2.Response, most_bytes: int) -> bytes:
    _require_size(int(answer.headers.get("content-length", "0")), most_bytes)
    return b"".join(_counted(answer.iter_bytes(), most_bytes))


def _content_type(answer: httpx2.Response) -> str:
    return media_type(answer.headers.get("content-type", ""))


def _name(url: str) -> str:
    path = url.partition("#")[0].partition("?")[0].partition("://")[2].partition("/")[2]
    return _UNUSABLE.sub("", unquote(path.rpartition("/")[2]).replace("/", ""))[:_MOST_OF_A_NAME]


@contextlib.contextmanager
def _named_errors(url: str, settings: FetchSettings) -> Iterator[None]:
    """The errors of the libraries as ours, in one line."""
    try:
        yield
    except (httpcore2.TimeoutException, FetchTimeout):
        raise FetchTimeout(
            f"{shown(url)} was not fetched within {settings.timeout_s:g} s: try again, or raise "
            "DROPLINE_FETCH__TIMEOUT_S"
        ) from None
    except FetchTooLarge:
        raise FetchTooLarge(
            f"{shown(url)} has more than {settings.max_size_bytes} bytes: make the image smaller, or raise "
            "DROPLINE_FETCH__MAX_SIZE_BYTES and DROPLINE_EVENTS__MAX_SIZE_BYTES"
        ) from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpx2.HTTPError) as error:
        reason = _UNUSABLE.sub(" ", str(error))[:200] or type(error).__name__
        raise FetchFailed(
            f"{shown(url)} could not be fetched ({reason}): try again, or check the address"
        ) from None

"""A proxy before fake-gcs-server that adds Cloud Storage's rules, and faults on demand.

with serve(gcs_server.url) as proxy:
    proxy.fail("PATCH", 503, times=2)
    proxy.lose_response("PATCH")
"""

import contextlib
import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.gcs_rules import OBJECT, Answer, CloudStorageRules, refused

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date"})


@dataclass(frozen=True)
class Seen:
    """A received request."""

    method: str
    #: As sent, percent encoding included.
    path: str
    query: dict[str, str]
    body: bytes

    @property
    def object_name(self) -> str | None:
        """Name of the requested object, decoded; None for uploads, lists and buckets."""
        match = OBJECT.fullmatch(self.path)
        return unquote(match["name"]) if match else None

    @property
    def is_download(self) -> bool:
        """True if the request downloads an object."""
        return self.query.get("alt") == "media"


@dataclass
class Fault:
    """A fault of the next `times` requests of a method for single objects; POST: of the next uploads."""

    method: str
    times: int
    #: Status of an immediate answer, without the server.
    status: int | None = None
    #: Let the server act, then close the connection without an answer.
    lose_response: bool = False
    #: Change a byte of the answer's body.
    damage: bool = False
    #: Announce the whole body, send the first half, and close.
    cut: bool = False
    #: Seconds until anything happens.
    delay_s: float = 0.0
    #: Called before the server sees the request.
    before: Callable[[], object] | None = None


@dataclass
class GcsProxy:
    """Handle on a running proxy."""

    url: str
    #: All requests, in order of arrival.
    requests: list[Seen] = field(default_factory=list)
    _faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, method: str, status: int, times: int = 1) -> None:
        """Answer the next requests with an error."""
        self._add(Fault(method, times, status=status))

    def recover(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def lose_response(self, method: str, times: int = 1) -> None:
        """Apply the next requests, and close their connections without an answer."""
        self._add(Fault(method, times, lose_response=True))

    def damage(self, times: int = 1) -> None:
        """Change a byte of the next downloads."""
        self._add(Fault("GET", times, damage=True))

    def cut(self, times: int = 1) -> None:
        """End the next downloads in the middle."""
        self._add(Fault("GET", times, cut=True))

    def delay(self, method: str, seconds: float, times: int = 1) -> None:
        """Let the next requests wait."""
        self._add(Fault(method, times, delay_s=seconds))

    def before(self, method: str, action: Callable[[], object]) -> None:
        """Run `action` once, between the arrival of the next request and its effect."""
        self._add(Fault(method, 1, before=action))

    def count(self, method: str) -> int:
        """How many requests of a method about single objects came in."""
        with self._lock:
            return sum(seen.method == method and seen.object_name is not None for seen in self.requests)

    def take(self, seen: Seen) -> Fault | None:
        """Record a request; return and use up its fault."""
        with self._lock:
            self.requests.append(seen)
            if seen.object_name is None and seen.method != "POST":
                return None
            for fault in self._faults:
                if fault.method == seen.method and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def _add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)


@contextlib.contextmanager
def serve(upstream: str) -> Iterator[GcsProxy]:
    """A proxy before the server at `upstream` (`http://host:port`), on a free port, while the block lasts."""
    server = _Server(Upstream(upstream))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Upstream:
    """The server behind, with the rules applied."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._address = urlsplit(url).netloc
        self._rules = CloudStorageRules(self._plain)
        # The server loses an overwrite during a PATCH.
        self._writing = threading.RLock()

    def handle(self, seen: Seen, target: str, headers: dict[str, str]) -> Answer:
        """The answer of Cloud Storage."""
        about_one = seen.object_name is not None
        metadata_path = seen.path.removeprefix("/download")
        with self._writing:
            if about_one and seen.method == "PATCH":
                return self._rules.patch(metadata_path, seen.query, seen.body)
            refusal = self._rules.check(metadata_path, seen.query) if about_one else None
            return refusal or self._shown(self.send(seen.method, target, seen.body, headers))

    def send(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send one request to the server, unchanged."""
        connection = http.client.HTTPConnection(self._address, timeout=60)
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            kept = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
            return Answer(response.status, response.read(), kept)
        finally:
            connection.close()

    def _plain(self, method: str, target: str, body: bytes) -> Answer:
        return self.send(method, target, body, {"Content-Type": "application/json"})

    def _shown(self, answer: Answer) -> Answer:
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        # An object may be JSON too; only downloads have the header with the hash.
        if not is_json or not answer.body or "X-Goog-Hash" in answer.headers:
            return answer
        shown = self._rules.shown(answer.resource)
        return Answer(answer.status, json.dumps(shown).encode(), answer.headers)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.proxy = GcsProxy(url=f"http://127.0.0.1:{self.server_port}")

    def handle_error(self, request: object, client_address: object) -> None:
        """Print every error except disconnected clients, which some tests cause."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = Seen(self.command, parts.path, dict(parse_qsl(parts.query)), body)
        fault = self.server.proxy.take(seen) or Fault(self.command, 0)
        answer = self._acted(seen, fault)
        if fault.lose_response:
            self.close_connection = True
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._answer(answer, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - the base class's names

    def _acted(self, seen: Seen, fault: Fault) -> Answer:
        time.sleep(fault.delay_s)
        if fault.before is not None:
            fault.before()
        if fault.status is not None:
            return refused(fault.status, f"told to answer {fault.status}")
        own = _HOP_BY_HOP | {"host"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in own}
        return self.server.upstream.handle(seen, self.path, headers)

    def _answer(self, answer: Answer, fault: Fault) -> None:
        body = answer.body
        if fault.damage:
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, self._pointing_here(value) if name == "Location" else value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault.cut:
            self.close_connection = True
            body = body[: len(body) // 2]
        if self.command != "HEAD":
            self.wfile.write(body)

    def _pointing_here(self, location: str) -> str:
        """Resumable uploads continue at the address in the header `Location`."""
        return location.replace(self.server.upstream.url, self.server.proxy.url)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Do not print: `GcsProxy.requests` is the log."""

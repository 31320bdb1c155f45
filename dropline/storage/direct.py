"""The two requests that every image costs, over the connections of the library's session and with less work.

A download and a PATCH through google-cloud-storage and requests take three times the CPU of the same bytes through
urllib3. Pool, proxy, certificates and retries are those that requests finds for the session; errors are those of
the library, for `dropline.storage.errors`.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, BinaryIO
from urllib.parse import urlencode

import google_crc32c
import requests
import urllib3
from google.api_core import exceptions as api
from google.cloud.storage import Blob, Client
from google.cloud.storage.exceptions import DataCorruption

_BLOCK_BYTES = 65_536
#: Longest body of a refusal that is read, in bytes.
_LONGEST_REFUSAL = 65_536


@dataclass(frozen=True, slots=True)
class _Refused:
    """The body of a refusal, as `dropline.storage.refusals` reads it."""

    text: str


@dataclass(frozen=True, slots=True)
class _Route:
    """How requests reaches one server."""

    pool: urllib3.HTTPConnectionPool
    retries: urllib3.Retry
    #: Before the path of each request: the server, for a proxy of plain HTTP; else empty.
    prefix: str


class DirectRequests:
    """Requests for single objects. Threads may share the object; processes may not."""

    def __init__(self, client: Client, timeout_s: tuple[float, float]) -> None:
        """Send nothing yet.

        Args:
            client: whose credentials, session and address are used.
            timeout_s: for connecting, and between received bytes.
        """
        self._session = client._http  # noqa: SLF001 - the library has no other way to its session
        self._base: str = client._connection.API_BASE_URL  # noqa: SLF001 - as above
        agent: str = client._connection.user_agent  # noqa: SLF001 - as above
        self._headers = {"User-Agent": agent, "X-Goog-API-Client": agent}
        connect_s, read_s = timeout_s
        self._timeout = urllib3.Timeout(connect=connect_s, read=read_s)
        # Of the session, which repeats requests for tokens.
        auth_request = self._session._auth_request  # noqa: SLF001 - as above
        self._auth_request = functools.partial(auth_request, timeout=read_s)

    def download(self, blob: Blob, to: BinaryIO) -> str | None:
        """Write the stored bytes of exactly the blob's generation, verified by checksum; their `Content-Encoding`.

        Raises:
            api.GoogleAPICallError: the answer has another status than 200.
            DataCorruption: the bytes do not have the checksum.
            urllib3.exceptions.HTTPError, google.auth.exceptions.GoogleAuthError: no answer.
        """
        query = {"generation": blob.generation, "alt": "media"}
        with self._answer("GET", f"/download/storage/v1{blob.path}", query, {"Accept-Encoding": "gzip"}) as answer:
            expected = _Expected.of(answer.headers)
            for block in answer.stream(_BLOCK_BYTES, decode_content=False):
                to.write(block)
                expected.update(block)
            expected.check(blob)
            return answer.headers.get("Content-Encoding")

    def patch_metadata(
        self, blob: Blob, values: Mapping[str, str], *, if_generation_match: int, if_metageneration_match: int
    ) -> None:
        """Set keys of the object's metadata, under preconditions.

        Raises:
            api.GoogleAPICallError: the answer has another status than 2xx.
            urllib3.exceptions.HTTPError, google.auth.exceptions.GoogleAuthError: no answer.
        """
        query = {
            "generation": blob.generation,
            "ifGenerationMatch": if_generation_match,
            "ifMetagenerationMatch": if_metageneration_match,
            "prettyPrint": "false",
        }
        body = json.dumps({"metadata": dict(values)}).encode()
        headers = {"Content-Type": "application/json"}
        with self._answer("PATCH", f"/storage/v1{blob.path}", query, headers, body) as answer:
            answer.read()

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """A 2xx answer, whose connection is reused if the block reads the whole body."""
        target = f"{path}?{urlencode(query)}"
        answer = self._send(method, target, {**self._headers, **headers}, body)
        try:
            self._require_success(answer, f"{method} {self._base}{target}")
            yield answer
        except BaseException:
            answer.close()
            raise
        finally:
            answer.release_conn()

    @staticmethod
    def _require_success(answer: urllib3.BaseHTTPResponse, request: str) -> None:
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return
        text = answer.read(_LONGEST_REFUSAL, decode_content=True).decode(errors="replace")
        message = f"{request}: {_message(text)}"
        raise api.from_http_status(answer.status, message, response=_Refused(text))

    def _send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        answer = self._send_once(method, target, dict(headers), body)
        if answer.status != HTTPStatus.UNAUTHORIZED:
            return answer
        # A token may expire between its reading and its use, as in the library's session.
        answer.drain_conn()
        answer.release_conn()
        self._session.credentials.refresh(self._auth_request)
        return self._send_once(method, target, dict(headers), body)

    def _send_once(
        self, method: str, target: str, headers: dict[str, str], body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        self._session.credentials.before_request(self._auth_request, method, self._base + target, headers)
        route = self._route
        return route.pool.urlopen(
            method,
            route.prefix + target,
            body=body,
            headers=headers,
            retries=route.retries,
            redirect=False,
            assert_same_host=False,
            timeout=self._timeout,
            preload_content=False,
            decode_content=False,
        )

    @functools.cached_property
    def _route(self) -> _Route:
        url = f"{self._base}/"
        request = requests.Request("GET", url).prepare()
        settings = self._session.merge_environment_settings(url, {}, None, None, None)
        adapter = self._session.get_adapter(url)
        pool = adapter.get_connection_with_tls_context(
            request, settings["verify"], proxies=settings["proxies"], cert=settings["cert"]
        )
        adapter.cert_verify(pool, url, settings["verify"], settings["cert"])
        prefix = adapter.request_url(request, settings["proxies"]).removesuffix("/")
        return _Route(pool, adapter.max_retries, prefix)


class _Expected:
    """The checksum that an answer names: CRC32C, or MD5 where no fast CRC32C is installed."""

    def __init__(self, name: str, expected: str | None) -> None:
        self._name = name
        self._expected = expected
        self._sum = google_crc32c.Checksum() if name == "crc32c" else hashlib.md5(usedforsecurity=False)

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "_Expected":
        name = "crc32c" if google_crc32c.implementation == "c" else "md5"
        parts = (part.strip().partition("=") for part in headers.get("X-Goog-Hash", "").split(","))
        return cls(name, next((value for kind, _, value in parts if kind == name), None))

    def update(self, block: bytes) -> None:
        if self._expected is not None:
            self._sum.update(block)

    def check(self, blob: Blob) -> None:
        found = base64.b64encode(self._sum.digest()).decode()
        if self._expected is not None and found != self._expected:
            message = f"the {self._name} of {blob.name} is {found}, and Cloud Storage names {self._expected}"
            raise DataCorruption(None, message)


def _message(text: str) -> str:
    """The message in the body of a refusal, as the library reads it."""
    try:
        found = json.loads(text)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        return text or "unknown error"
    return str(found)

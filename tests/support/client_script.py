"""A service made of prepared answers, for both clients: each request takes the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import httpx2

from dropline import AsyncClient, Client

BASE = "http://127.0.0.1:18406"
ROW: dict[str, Any] = {
    "id": "AQID", "uri": "gs://drops/a.jpg", "bucket": "drops", "object_name": "a.jpg", "generation": 7,
    "task": "<CAPTION>", "status": "captioned", "caption": "a cat", "result": None, "model": "demo",
    "model_revision": "1", "content_type": "image/jpeg", "size_bytes": 9, "width": 20, "height": 10,
    "error_code": None, "error": None, "queued_at": "2026-11-26T09:12:24.502113+00:00", "started_at": None,
    "captioned_at": None, "metadata_written_at": None, "updated_at": None, "of_a_later_release": 1,
}  # fmt: skip
SUBMITTED = {"id": "AQID", "uri": "gs://drops/a.jpg", "task": "<CAPTION>", "status": "queued"}


def answer(status: int, document: Any = None, **headers: str) -> httpx2.Response:
    """An answer with JSON."""
    return httpx2.Response(status, json=document, headers={k.replace("_", "-"): v for k, v in headers.items()})


def refusal(status: int, code: str, detail: str, **headers: str) -> httpx2.Response:
    """A problem document (RFC 9457)."""
    document = {"type": "about:blank", "title": "T", "status": status, "detail": detail, "code": code}
    return answer(status, document, content_type="application/problem+json", **headers)


def stream(text: str) -> httpx2.Response:
    """Server-sent events; then the stream ends."""
    return httpx2.Response(200, content=text.encode(), headers={"content-type": "text/event-stream"})


@dataclass
class Script:
    """Answers, or errors of the connection, in the order of the requests."""

    answers: list[httpx2.Response | Exception]
    requests: list[httpx2.Request] = field(default_factory=list)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """The next answer."""
        request.read()
        return self._next(request)

    async def later(self, request: httpx2.Request) -> httpx2.Response:
        """The next answer, for an asynchronous client."""
        await request.aread()
        return self._next(request)

    def _next(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        # A client changes the response that it gets.
        return httpx2.Response(found.status_code, headers=found.headers, content=found.content)


def plain(script: Script, method: str, *args: Any, token: str | None = None, **options: Any) -> Any:
    """Call a method of `Client`; the first items of an iterator as a list."""
    most = options.pop("most", None)
    with Client(BASE, token, transport=httpx2.MockTransport(script)) as client:
        found = getattr(client, method)(*args, **options)
        if not isinstance(found, Iterator):
            return found
        return list(islice(found, most))


def asynchronous(script: Script, method: str, *args: Any, token: str | None = None, **options: Any) -> Any:
    """Call a method of `AsyncClient`; the first items of an iterator as a list."""
    most = options.pop("most", None)

    async def main() -> Any:
        async with AsyncClient(BASE, token, transport=httpx2.MockTransport(script.later)) as client:
            found = getattr(client, method)(*args, **options)
            if isinstance(found, Awaitable):
                return await found
            items: list[Any] = []
            async for item in found:
                items.append(item)
                if len(items) == most:
                    break
            await found.aclose()
            return items

    return asyncio.run(main())


#: Both clients have the same behaviour.
BOTH: list[Callable[..., Any]] = [plain, asynchronous]

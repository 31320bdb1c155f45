"""The connections of the gallery's server: the time for the head of a request, and their number."""

import asyncio
from typing import cast

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from dropline.settings import GallerySettings
from gallery.limits import Overloaded
from gallery.problems import problem_of

#: Longest time for the head of a request, in seconds. uvicorn has no such limit, and clients that never finish a
#: request could occupy all connections.
HEAD_S = 30.0
#: Connections beside those of streams and waits.
FURTHER = 500


class TimedConnection(H11Protocol):
    """HTTP/1.1 that ends when the head of a request does not arrive in time; `gallery.headers` limits the body."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._watch()

    def data_received(self, data: bytes) -> None:
        """A part of a request, or several requests."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Limit the time while no request is being answered. An idle connection has uvicorn's limit instead."""
        request = cast("RequestResponseCycle | None", self.cycle)  # None before the first one
        is_answering = request is not None and not request.response_complete
        if is_answering or self.transport.is_closing():
            self._stop()
        elif self._limit is None:
            self._limit = self.loop.call_later(HEAD_S, self.transport.close)

    def _stop(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class ConnectionLimit:
    """ASGI middleware: answers 503 while too many connections are open, and closes the connection of the request.

    uvicorn's own limit answers with plain text instead of a problem.
    """

    def __init__(self, app: ASGIApp, settings: GallerySettings) -> None:
        """Wrap `app`, whose `state.count_connections` is set by the server."""
        self._app = app
        self._most = settings.max_streams + settings.max_waits + FURTHER

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["app"].state.count_connections() <= self._most:
            await self._app(scope, receive, send)
            return

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        refusal = Overloaded(f"more than {self._most} connections are open; try again")
        await problem_of(refusal)(scope, receive, send_and_close)

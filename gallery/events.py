"""Server-sent events: each change of a row."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Response
from starlette.types import Receive, Scope, Send

from db.snapshot import Snapshot
from dropline.log import get_logger
from gallery.access import Scope as Right
from gallery.access import requires
from gallery.feed import MOST_MISSED, Stream, id_block, reset_block, state_blocks
from gallery.hub import ChangeHub
from gallery.limits import Overloaded
from gallery.resources import Resources
from gallery.schemas import EVENTS_EXAMPLE, PROBLEMS

log = get_logger(__name__)

#: A comment is sent after so many seconds without an event: a dead connection is found.
_HEARTBEAT_S = 25.0
#: A client that takes no byte for so many seconds is disconnected.
_STALLED_S = 60.0
#: Bytes sent at once, unless a block has more.
_MOST_BYTES = 65_536
#: Milliseconds after which a browser connects again.
_RETRY = b"retry: 2000\n"

SendBody = Callable[[bytes], Awaitable[None]]


def router(resources: Resources) -> APIRouter:
    """The route of events."""
    routes = APIRouter(prefix="/api", tags=["events"])
    hub, most = resources.hub, resources.settings.gallery.max_streams

    @routes.get(
        "/events",
        dependencies=[Depends(requires(Right.READ))],
        response_class=Response,
        responses=PROBLEMS
        | {200: {"description": "Events, as they happen.", "content": {"text/event-stream": EVENTS_EXAMPLE}}},
        summary="Each change of a row, as it happens",
    )
    async def events(
        last_event_id: Annotated[str | None, Header(description="`id` of the last event that arrived.")] = None,
    ) -> Response:
        """Server-sent events `caption`, each with a row as JSON, until the client disconnects.

        With `Last-Event-ID` the present state of all rows comes first whose change the client has not been sent,
        of at most 1,000; an event `reset` stands for more. A row may come again, and none is missed.
        """
        hub.require_listening()
        if hub.feed.streams >= most:
            raise Overloaded(f"{most} event streams are open, and more are not allowed")
        return EventStream(hub, last_event_id)

    return routes


class EventStream(Response):
    """A stream of events, until either side ends it."""

    media_type = "text/event-stream"

    def __init__(self, hub: ChangeHub, last_event_id: str | None) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._hub = hub
        self._last_event_id = last_event_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; an error before the first byte is raised."""

        async def send_body(body: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(_STALLED_S):
                await send({"type": "http.response.body", "body": body, "more_body": more})

        with self._hub.feed.stream() as stream:
            beginning = await self._beginning(stream)
            await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": self.raw_headers})
            watcher = asyncio.create_task(_end_at_disconnect(receive, stream))
            try:
                await send_body(_RETRY + b"".join(beginning))
                await _send_events(stream, send_body)
                await send_body(b"", more=False)
            except TimeoutError:
                log.info("slow_stream_disconnected")
                scope["app"].state.disconnect(scope["client"])
                # Until the server has noticed: an unfinished answer to a connected client would be an error.
                await asyncio.wait([watcher], timeout=1)
            finally:
                watcher.cancel()

    async def _beginning(self, stream: Stream) -> list[bytes]:
        """The first blocks: an id for a new client, else the rows that changed after the client's id."""
        if self._last_event_id is None:
            return [id_block(await self._hub.snapshot())]
        try:
            since = Snapshot.parse(self._last_event_id)
        except ValueError:
            return [reset_block(await self._hub.snapshot())]
        found = await self._hub.changed_after(since)
        if len(found.rows) > MOST_MISSED or since.is_after(found.snapshot):
            return [reset_block(await self._hub.snapshot())]
        stream.begin_with(found.snapshot)
        return state_blocks(found.rows, found.snapshot)


async def _send_events(stream: Stream, send_body: SendBody) -> None:
    while stream.is_open:
        blocks = await stream.take(_HEARTBEAT_S, _MOST_BYTES)
        if stream.is_open:
            await send_body(b"".join(blocks) or b":\n\n")


async def _end_at_disconnect(receive: Receive, stream: Stream) -> None:
    message: dict[str, Any] = {}
    while message.get("type") != "http.disconnect":
        message = dict(await receive())
    stream.end()

"""Answers in parts, without a Content-Length: HTTP/1.1 sends them in chunks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from dropline.log import get_logger

log = get_logger(__name__)

#: A client that does not take a part in this time is disconnected, in seconds.
STALLED_S = 60.0
_SLICE_BYTES = 65_536


class TimedStream(StreamingResponse):
    """Parts for a client. A client that takes none for `STALLED_S` is disconnected."""

    def __init__(
        self,
        parts: AsyncIterator[bytes],
        media_type: str,
        headers: Mapping[str, str] | None = None,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        """Send nothing yet; `end` is called at the end of the answer, also after an error."""
        super().__init__(parts, headers=headers, media_type=media_type)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the parts."""

        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(STALLED_S):
                    await send(message)
            except TimeoutError:
                log.info("slow_client_disconnected", path=scope["path"])
                scope["app"].state.disconnect(scope["client"])
                # Ended by the disconnection: an unfinished answer to a connected client would be an error.
                await asyncio.sleep(1)
                raise

        try:
            await super().__call__(scope, receive, send_in_time)
        finally:
            self._end()


async def slices_of(data: bytes) -> AsyncIterator[bytes]:
    """The data in order; one slice at a time is copied."""
    for begin in range(0, len(data), _SLICE_BYTES):
        yield data[begin : begin + _SLICE_BYTES]

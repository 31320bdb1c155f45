"""Clients of a gallery: event streams with counts of their events, and requests waiting for a caption."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import lru_cache

import httpx2

from benchmarks.checks import RunInvalidError
from dropline.contract import ChangeNotice

#: Object name, status, and whether the metadata was written.
Change = tuple[str, str, bool]

#: Between two looks at the streams.
_PAUSE_S = 0.05


def change_of(notice: ChangeNotice) -> Change:
    """The change of a notification."""
    return notice.object_name, notice.status.value, notice.metadata_written


class Stream:
    """An event stream, and its changes."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._answer = answer
        self._rest = b""
        #: Change → how often it was heard.
        self.heard: Counter[Change] = Counter()

    async def read(self) -> None:
        """Count changes until the server ends the stream."""
        async for data in self._answer.aiter_bytes():
            self.take(data)

    def take(self, data: bytes) -> None:
        """Count the changes in some further bytes of the stream."""
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        self.heard.update(change for block in blocks if (change := change_in(block)))


# All streams are sent the same blocks.
@lru_cache(maxsize=50_000)
def change_in(block: bytes) -> Change | None:
    """The change of a block of a stream; None for a block without one."""
    for line in block.splitlines():
        if line.startswith(b"data: "):
            row = json.loads(line.removeprefix(b"data: "))
            return row["object_name"], row["status"], row["metadata_written_at"] is not None
    return None


@asynccontextmanager
async def open_streams(client: httpx2.AsyncClient, count: int) -> AsyncIterator[list[Stream]]:
    """Event streams, which are read during the block.

    Raises:
        httpx2.HTTPStatusError: the gallery refused a stream.
    """
    async with AsyncExitStack() as opened:
        streams = [Stream(await opened.enter_async_context(_event_stream(client))) for _ in range(count)]
        readers = [asyncio.create_task(stream.read()) for stream in streams]
        try:
            yield streams
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)


@asynccontextmanager
async def _event_stream(client: httpx2.AsyncClient) -> AsyncIterator[httpx2.Response]:
    async with client.stream("GET", "/api/events") as answer:
        answer.raise_for_status()
        yield answer


async def wait_until_heard(streams: Iterable[Stream], count: int, timeout_s: float) -> None:
    """Wait until every stream has heard at least `count` changes.

    Raises:
        RunInvalidError: one had not after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while (least := min(stream.heard.total() for stream in streams)) < count:
        if time.monotonic() > deadline:
            raise RunInvalidError(f"a stream heard {least} of {count} changes")
        await asyncio.sleep(_PAUSE_S)


def require_each_once(streams: Iterable[Stream], changes: Counter[Change]) -> None:
    """Check that every stream has heard exactly the changes.

    Raises:
        RunInvalidError: a stream missed a change, or heard one more often.
    """
    for stream in streams:
        missed, more = changes - stream.heard, stream.heard - changes
        if missed or more:
            raise RunInvalidError(
                f"a stream missed {missed.total()} changes and heard {more.total()} too many, "
                f"as {next(iter(missed + more))}"
            )


async def wait_for_caption(client: httpx2.AsyncClient, caption_id: str) -> float:
    """Wait for the end of a row: the seconds from its caption's commit, or from a later request, to the answer.

    The time of the commit is that of Postgres.

    Raises:
        httpx2.HTTPStatusError: the gallery refused.
    """
    while True:
        asked = time.time()
        answer = await client.get(f"/api/captions/{caption_id}", params={"wait": 60})
        answer.raise_for_status()
        if answer.status_code == httpx2.codes.OK:
            return time.time() - max(asked, datetime.fromisoformat(answer.json()["captioned_at"]).timestamp())

"""The client for asyncio: carries out the flows step by step. `Client` describes arguments and errors."""

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from dropline.client.answers import check, error_of
from dropline.client.content import Image
from dropline.client.errors import Problem
from dropline.client.feed import MOST_EVENT_BYTES, EventFeed
from dropline.client.flows import Api, search_conditions
from dropline.client.results import Backfill, Caption, Change, Recaption, Reset, Submitted
from dropline.client.steps import Call, Flow, Pause, Read, Step
from dropline.client.transport import options

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio.

    >>> import asyncio
    >>> from dropline import AsyncClient
    >>> async def main() -> None:
    ...     async with AsyncClient("http://127.0.0.1:18406") as dropline:
    ...         for caption in await asyncio.gather(dropline.caption("photo.jpg"), dropline.caption("photo.jpg")):
    ...             print(caption)
    >>> asyncio.run(main())
    a purple star
    a purple star
    """

    def __init__(
        self, base_url: str, token: str | None = None, *, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        """As `Client`."""
        self._api = Api(base_url, token)
        self._http = httpx2.AsyncClient(transport=transport, **options(self._api.base_url))

    def __repr__(self) -> str:
        return f"AsyncClient({self._api.base_url!r})"

    async def caption(
        self,
        image: Image,
        *,
        task: str | None = None,
        text: str | None = None,
        timeout: float = 300.0,  # noqa: ASYNC109 - over several requests, and in the error
        key: str | None = None,
    ) -> Caption:
        """Submit an image, wait, and return the answer; see `Client.caption`."""
        return await self._run(self._api.caption(image, task, text, timeout, key))

    async def submit(
        self,
        image: Image,
        *,
        task: str | None = None,
        text: str | None = None,
        timeout: float = 300.0,  # noqa: ASYNC109 - see `caption`
        key: str | None = None,
    ) -> Submitted:
        """Submit an image and do not wait; see `Client.submit`."""
        return await self._run(self._api.submit(image, task, text, timeout, key))

    async def wait(
        self,
        submitted: Submitted | str,
        *,
        timeout: float = 300.0,  # noqa: ASYNC109 - see `caption`
    ) -> Caption:
        """Wait for the answer to a submission, or to the id of one; see `Client.wait`."""
        return await self._run(self._api.wait(submitted, timeout))

    async def search(
        self,
        words: str | None = None,
        *,
        status: str | None = None,
        task: str | None = None,
        prefix: str | None = None,
        model: str | None = None,
        best_first: bool = False,
    ) -> AsyncGenerator[Caption, None]:
        """Rows that meet every condition, the newest first; see `Client.search`."""
        conditions = search_conditions(
            words, best_first=best_first, status=status, task=task, prefix=prefix, model=model
        )
        cursor: str | None = None
        while True:
            page = await self._run(self._api.page(conditions, cursor, timeout=60.0))
            for caption in page.captions:
                yield caption
            if (cursor := page.next) is None:
                return

    async def backfill(
        self,
        source: str,
        *,
        task: str | None = None,
        text: str | None = None,
        archived: bool = False,
        max: int | None = None,  # noqa: A002 - see `Client.backfill`
    ) -> AsyncGenerator[Backfill, None]:
        """Rows for the objects that are in a bucket already; see `Client.backfill`."""
        options = {"task": task, "text": text, "archived": archived, "max": max}
        while True:
            state = await self._run(self._api.backfill_step(source, options))
            yield state
            if state.is_finished:
                return

    async def edit(
        self,
        caption: Caption | str,
        words: str,
        *,
        timeout: float = 60.0,  # noqa: ASYNC109 - see `caption`
    ) -> Caption:
        """Replace a caption by a person's; see `Client.edit`."""
        return await self._run(self._api.edit(caption, words, timeout))

    async def revert(
        self,
        caption: Caption | str,
        *,
        timeout: float = 60.0,  # noqa: ASYNC109 - see `caption`
    ) -> Caption:
        """Put the model's caption back; see `Client.revert`."""
        return await self._run(self._api.edit(caption, None, timeout))

    async def export(
        self,
        *,
        bucket: str | None = None,
        prefix: str | None = None,
        task: str | None = None,
        model: str | None = None,
        revision: str | None = None,
        status: str = "captioned",
    ) -> AsyncGenerator[Caption, None]:
        """All rows that meet every condition, in the order of their ids; see `Client.export`."""
        request = self._api.export(
            bucket=bucket, prefix=prefix, task=task, model=model, revision=revision, status=status
        )
        try:
            async with self._http.stream(**request.arguments()) as response:
                if response.is_error:
                    await response.aread()
                check(response)
                async for line in response.aiter_lines():
                    yield Caption.from_line(line)
        except httpx2.RequestError as error:
            raise error_of(error) from error

    async def recaption(
        self,
        *,
        max: int | None = None,  # noqa: A002 - the name of the option everywhere
        **conditions: object,
    ) -> AsyncGenerator[Recaption, None]:
        """Have rows captioned again; see `Client.recaption`."""
        state = Recaption()
        while True:
            state = await self._run(self._api.recaption_step(conditions, state, max))
            yield state
            if state.next is None:
                return

    async def events(self, last_event_id: str | None = None) -> AsyncGenerator[Change | Reset, None]:
        """Each change of a row, as it happens; see `Client.events`."""
        feed = EventFeed(self._api, last_event_id)
        while True:
            failure: httpx2.RequestError | Problem | None = None
            response: httpx2.Response | None = None
            try:
                async with self._http.stream(**feed.request.arguments()) as response:
                    if response.is_error:
                        await response.aread()
                    feed.check(response)
                    async for event in httpx2.EventSource(response, MOST_EVENT_BYTES):
                        if (item := feed.take(event)) is not None:
                            yield item
            except (httpx2.RequestError, Problem) as error:
                failure = error
            await asyncio.sleep(feed.pause_after(failure, response))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run(self, flow: Flow[T]) -> T:
        """Carry out the steps of a flow; its result."""
        try:
            step = next(flow)
            while True:
                try:
                    outcome = await self._take(step)
                except (httpx2.RequestError, OSError) as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _take(self, step: Step) -> Any:
        match step:
            case Call():
                return await self._http.request(**step.arguments())
            case Read():
                return await asyncio.to_thread(step.run)
            case Pause(seconds):
                return await asyncio.sleep(seconds)

"""Exports over HTTP: rows as lines, sent while they are read, in constant memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from db import exports
from db.caption_filter import CaptionFilter
from db.exports import Chosen
from dropline.contract import Status, TaskPrompt, TaskRequest
from dropline.log import get_logger
from gallery.access import Scope as Right
from gallery.access import requires
from gallery.limits import Overloaded
from gallery.resources import Resources
from gallery.schemas import PROBLEMS, RequestTime
from gallery.threads import in_thread
from operations.export.lines import FORMATS

log = get_logger(__name__)

_TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv"}
#: Exports at the same time: each reads the table as fast as its client takes the lines.
_MOST_EXPORTS = 4
#: For each sender, so that a sender with slow connections leaves room for the others.
_MOST_OF_A_SENDER = 2
#: A client that does not take the lines of a part in this time is disconnected, in seconds.
_STALLED_S = 60.0
_LINES = {"schema": {"type": "string"}}

Text = Annotated[str, Query(max_length=600)]


def router(resources: Resources) -> APIRouter:
    """The route of exports."""
    routes = APIRouter(prefix="/api", tags=["captions"])
    running = _Running()

    @routes.get(
        "/export",
        dependencies=[Depends(requires(Right.READ))],
        response_class=Response,
        responses=PROBLEMS
        | {200: {"description": "A row in each line.", "content": dict.fromkeys(_TYPES.values(), _LINES)}},
        summary="All rows that meet every condition, as lines",
    )
    async def export(
        request: Request,
        format: Annotated[Literal["jsonl", "csv"], Query(description="JSON lines, or CSV.")] = "jsonl",  # noqa: A002
        bucket: Text = "",
        prefix: Annotated[str, Query(max_length=1100, description="Of the object name.")] = "",
        task: Annotated[Text, Query(description="Task prompt, with or without its text.")] = "",
        model: Text = "",
        revision: Text = "",
        status: Annotated[Status, Query()] = Status.CAPTIONED,
        older_than: Annotated[RequestTime | None, Query(description="Captioned before this time.")] = None,
    ) -> Response:
        """The newest generation of each object, in the order of the rows' ids, as `docs/export.md` describes.

        An answer that ends before its last line is an error of the connection: an export has no place to go on.
        """
        row_filter = CaptionFilter(
            bucket=bucket,
            prefix=prefix,
            task=_task_prefix(task),
            model=model,
            revision=revision,
            older_than=older_than,
            statuses=(status,),
        )
        parts = _Parts(resources, Chosen(row_filter))
        # Before the first byte: an outage is a problem, not half an answer.
        await parts.begin()
        sender = request.state.principal.name
        running.take(sender)
        return _Lines(parts.lines(format), lambda: running.give_back(sender), _TYPES[format])

    return routes


class _Running:
    """The running exports, by sender."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def take(self, sender: str) -> None:
        """Count one more.

        Raises:
            Overloaded: no more are allowed, or no more of this sender.
        """
        if self._counts[sender] >= _MOST_OF_A_SENDER:
            raise Overloaded(
                f"{_MOST_OF_A_SENDER} exports of {sender} run, and no more may; `dropline export` has no limit"
            )
        if self._counts.total() >= _MOST_EXPORTS:
            raise Overloaded(f"{_MOST_EXPORTS} exports run, and no more may; `dropline export` has no limit")
        self._counts[sender] += 1

    def give_back(self, sender: str) -> None:
        """Count one less."""
        self._counts -= Counter({sender: 1})


class _Parts:
    """The parts of an export, each read in a thread of its own."""

    def __init__(self, resources: Resources, chosen: Chosen) -> None:
        self._database = resources.reader
        self._chosen = chosen
        self._last = 0

    async def begin(self) -> None:
        """Find the last row. Raises as `Database.transaction`."""
        self._last = await in_thread(lambda: exports.last_id(self._database))

    async def lines(self, name: str) -> AsyncIterator[bytes]:
        """The lines of each part."""
        head, lines = FORMATS[name]
        yield head()
        parts = exports.parts(self._database, self._chosen, 0, self._last)

        def written() -> bytes | None:
            part = next(parts, None)
            return None if part is None else lines(part.rows)

        while (found := await in_thread(written)) is not None:
            if found:
                yield found


class _Lines(StreamingResponse):
    """Lines for a client; `end` is called at the end of the answer, also after an error."""

    def __init__(self, lines: AsyncIterator[bytes], end: Callable[[], None], media_type: str) -> None:
        super().__init__(lines, media_type=media_type)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines; a client that takes none is disconnected."""

        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(_STALLED_S):
                    await send(message)
            except TimeoutError:
                log.info("slow_export_disconnected")
                scope["app"].state.disconnect(scope["client"])
                # Ended by the disconnection: an unfinished answer to a connected client would be an error.
                await asyncio.sleep(1)
                raise

        try:
            await super().__call__(scope, receive, send_in_time)
        finally:
            self._end()


def _task_prefix(task: str) -> str:
    """The beginning of `captions.task`: a prompt alone stands for any text."""
    if not task.strip():
        return ""
    prompt = TaskPrompt.named(task)
    return str(TaskRequest.parse(task)) if prompt is None else prompt.value

"""Exports over HTTP: rows as lines, sent while they are read, in constant memory."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from db import exports
from db.caption_filter import CaptionFilter
from db.exports import Chosen
from dropline.contract import Status, TaskPrompt, TaskRequest
from gallery.access import Scope, requires
from gallery.limits import Overloaded
from gallery.resources import Resources
from gallery.schemas import PROBLEMS, RequestTime
from gallery.streaming import TimedStream
from gallery.threads import in_thread
from operations.export.lines import FORMATS

_TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv"}
#: Exports at the same time: each reads the table as fast as its client takes the lines.
_MOST_EXPORTS = 4
#: For each sender, so that a sender with slow connections leaves room for the others.
_MOST_OF_A_SENDER = 2
_LINES = {"schema": {"type": "string"}}

Text = Annotated[str, Query(max_length=600)]


def router(resources: Resources) -> APIRouter:
    """The route of exports."""
    routes = APIRouter(prefix="/api", tags=["captions"])
    running = _Running()

    @routes.get(
        "/export",
        dependencies=[Depends(requires(Scope.READ))],
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
        return TimedStream(parts.lines(format), _TYPES[format], end=lambda: running.give_back(sender))

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


def _task_prefix(task: str) -> str:
    """The beginning of `captions.task`: a prompt alone stands for any text."""
    if not task.strip():
        return ""
    prompt = TaskPrompt.named(task)
    return str(TaskRequest.parse(task)) if prompt is None else prompt.value

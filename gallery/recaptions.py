"""Recaptions by the API, in short steps with a cursor; the redo of one caption; the history of a caption."""

from http import HTTPStatus
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import APIRouter, Body, Depends, Response
from fastapi.responses import JSONResponse

from db import history, reads
from db.caption_filter import CaptionFilter, task_beginning
from db.history import ReplacedCaption
from db.reads import CaptionRecord
from dropline import caption_id
from dropline.contract import ObjectVersion, TaskRequest, parse_uri
from dropline.errors import ObjectMissing
from dropline.log import get_logger
from gallery.access import Principal, Scope, requires
from gallery.cursor import decode_cursor, encode_cursor
from gallery.documents import submitted_document
from gallery.resources import Resources
from gallery.schemas import PROBLEMS, SubmittedCaption
from gallery.schemas_recaption import History, Recaption, RecaptionStep
from gallery.submission import read_task
from gallery.threads import in_thread
from operations.recaption import Recaptioner, Request, Step
from operations.submit import Rows, Submitted

log = get_logger(__name__)

#: Seconds of a step; the last window may add some.
STEP_S = 2.0
_LIMIT_S = 60.0
_Editor = Annotated[Principal, Depends(requires(Scope.EDIT))]


def router(resources: Resources) -> APIRouter:
    """The routes of recaptions and histories."""
    routes = APIRouter(prefix="/api", tags=["recaptions"], responses=PROBLEMS)
    api = _Api(resources)
    routes.add_api_route(
        "/recaptions",
        api.step,
        methods=["POST"],
        response_model=Recaption,
        summary="Caption rows again, in steps; repeat with `cursor` until `next` is null",
    )
    routes.add_api_route(
        "/captions/{id}/redo",
        api.redo,
        methods=["POST"],
        status_code=HTTPStatus.ACCEPTED,
        response_model=SubmittedCaption,
        summary="Caption one row again, unless its caption is a person's",
    )
    routes.add_api_route(
        "/captions/{id}/history",
        api.history,
        dependencies=[Depends(requires(Scope.READ))],
        response_model=History,
        summary="The captions of a row that others have replaced",
    )
    return routes


class _Api:
    def __init__(self, resources: Resources) -> None:
        self._reader = resources.reader
        self._rows = resources.rows
        # Threads of their own: steps are longer than reads.
        self._steps = CapacityLimiter(2)

    async def step(self, sender: _Editor, step: Annotated[RecaptionStep, Body()]) -> Response:
        """One step of some seconds: rows of old captions are due again, behind fresh images.

        Repeated from the beginning, after any end, it takes the rows that are left.
        """
        request = _request(step)
        after = decode_cursor(step.cursor) if step.cursor else 0
        done = await in_thread(lambda: self._step(request, after, step.max), self._steps, _LIMIT_S)
        log.info("recaption_step", sender=sender.name, taken=done.taken)
        return JSONResponse(
            {
                "taken": done.taken,
                "left": {kind.value: rows for kind, rows in done.left.items()},
                "next": None if done.read_to is None else encode_cursor(done.read_to),
            }
        )

    async def redo(self, sender: _Editor, id: str) -> Response:  # noqa: A002 - the name in the path
        """The row stays captioned, and keeps its caption until the new one is recorded."""
        version, task = caption_id.decode(id)
        row = await in_thread(lambda: self._row(version, task))
        await in_thread(lambda: recaptioner(self._rows).redo(row), self._steps, _LIMIT_S)
        log.info("redo", sender=sender.name, uri=version.uri, task=str(task))
        return JSONResponse(submitted_document(Submitted(version, task, row.status)), HTTPStatus.ACCEPTED)

    async def history(self, id: str) -> Response:  # noqa: A002 - the name in the path
        """The newest first, 100 at most."""
        version, task = caption_id.decode(id)
        replaced = await in_thread(lambda: self._history(version, task))
        return JSONResponse({"history": [replaced_document(each) for each in replaced]})

    def _step(self, request: Request, after: int, most: int | None) -> Step:
        found = recaptioner(self._rows)
        return found.step(found.work_of(request), after, most, STEP_S)

    def _row(self, version: ObjectVersion, task: TaskRequest) -> CaptionRecord:
        with self._reader.transaction() as connection:
            row = reads.row_of(connection, version, str(task))
        if row is None:
            raise ObjectMissing(f"{version.uri} has no row of {task}")
        return row

    def _history(self, version: ObjectVersion, task: TaskRequest) -> list[ReplacedCaption]:
        row = self._row(version, task)
        with self._reader.transaction() as connection:
            return history.of_row(connection, row.id)


def recaptioner(rows: Rows) -> Recaptioner:
    """A recaptioner of one request."""
    return Recaptioner(rows.database, rows.enqueue, rows.wake)


def replaced_document(replaced: ReplacedCaption) -> dict[str, object]:
    """A replaced caption, for the API's clients."""
    times = {
        name: value.isoformat()
        for name in ("captioned_at", "edited_at", "replaced_at")
        if (value := getattr(replaced, name)) is not None
    }
    return {**replaced.document(), **times}


def _request(step: RecaptionStep) -> Request:
    row_filter = CaptionFilter(
        tuple(map(parse_uri, step.objects)),
        step.bucket,
        step.prefix,
        task_beginning(step.task),
        step.model,
        step.revision,
        step.older_than,
        tuple(step.status),
    )
    return Request(
        row_filter,
        read_task(step.to_task, step.text),
        step.target_model or None,
        step.target_revision or None,
        force=step.force,
        retry_failed=step.retry_failed,
    )

"""Backfills by the API, in short steps: a request lists and inserts for some seconds, the next one continues.

No request is long, and no work goes on between two: Cloud Run gives a service little processor time then, and
a gallery may have several instances. The cursor in Postgres is the command's.
"""

from datetime import datetime
from functools import cached_property
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import APIRouter, Body, Depends, Path, Response
from fastapi.responses import JSONResponse

from db import backfills
from db.backfills import BackfillRecord
from dropline.deadline import Deadline
from dropline.errors import ObjectMissing
from dropline.log import get_logger
from dropline.storage.listing import Listing
from gallery.access import Principal, Scope, requires
from gallery.resources import Resources
from gallery.schemas import PROBLEMS
from gallery.schemas_backfill import Backfill, BackfillStep
from gallery.submission import read_task
from gallery.threads import in_thread
from operations.backfill import Backfiller
from operations.backfill_request import BackfillRequest, Source

log = get_logger(__name__)

#: Seconds of one step; a page of the listing or a batch at the end may add some.
STEP_S = 5.0
_LIMIT_S = 60.0
#: A person waits: shorter than the retries of commands, in seconds.
_STORAGE_RETRY_S = 5.0
_MOST_ID = 2**63 - 1
_Editor = Annotated[Principal, Depends(requires(Scope.EDIT))]


def router(resources: Resources) -> APIRouter:
    """The routes of backfills."""
    routes = APIRouter(prefix="/api/backfills", tags=["backfills"], responses=PROBLEMS)
    api = _Api(resources)
    routes.add_api_route(
        "",
        api.step,
        methods=["POST"],
        response_model=Backfill,
        responses={409: PROBLEMS[422] | {"description": "Another process continues the backfill."}},
        summary="Begin or continue a backfill; repeat until finished_at is set",
    )
    routes.add_api_route(
        "/{id}",
        api.state,
        dependencies=[Depends(requires(Scope.READ))],
        response_model=Backfill,
        summary="The state of a backfill",
    )
    return routes


class _Api:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        # A separate thread: steps are long, and two at a time of a backfill make no sense.
        self._steps = CapacityLimiter(2)

    @cached_property
    def _backfiller(self) -> Backfiller:
        settings, rows = self._resources.settings, self._resources.rows
        listing = Listing.connect(settings, retry_s=_STORAGE_RETRY_S)
        return Backfiller(settings, rows.database, listing, rows.enqueue, rows.wake)

    async def step(self, sender: _Editor, step: Annotated[BackfillStep, Body()]) -> Response:
        """Rows for the objects that are in a bucket already: one step of some seconds.

        The same request again continues. After the end, it begins a new backfill, which skips all objects that
        have their row.
        """
        request = _request(step)
        record = await in_thread(
            lambda: self._backfiller.run(request, until=Deadline.after(STEP_S)), self._steps, _LIMIT_S
        )
        log.info("backfill_step", sender=sender.name, source=record.source, queued=record.queued)
        return JSONResponse(backfill_document(record))

    async def state(
        self,
        id: Annotated[int, Path(ge=1, le=_MOST_ID)],  # noqa: A002 - the name in the path
    ) -> Response:
        """The counts so far."""
        record = await in_thread(lambda: self._find(id))
        if record is None:
            raise ObjectMissing(f"there is no backfill {id}; POST /api/backfills begins one", code="no_backfill")
        return JSONResponse(backfill_document(record))

    def _find(self, backfill_id: int) -> BackfillRecord | None:
        with self._resources.reader.transaction() as connection:
            return backfills.find(connection, backfill_id)


def _request(step: BackfillStep) -> BackfillRequest:
    return BackfillRequest(
        Source.parse(step.source),
        read_task(step.task, step.text),
        step.archived,
        "" if step.since is None else step.since.isoformat(),
        step.since,
        step.max,
    )


def backfill_document(record: BackfillRecord) -> dict[str, object]:
    """A backfill for the API's clients."""
    times: dict[str, datetime | None] = {
        name: getattr(record, name) for name in ("started_at", "updated_at", "finished_at")
    }
    return {
        "id": record.id,
        "source": record.source,
        "listed": record.listed,
        "existing": record.existing,
        "queued": record.queued,
        "adopted": record.adopted,
        "failed": record.failed,
        "ended": record.ended,
        "queued_bytes": record.queued_bytes,
        "left_out": record.left_out,
        **{name: None if time is None else time.isoformat() for name, time in times.items()},
    }

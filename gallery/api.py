"""The JSON API: submissions, captions, lists."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Literal

from anyio import CapacityLimiter
from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from db import reads, search
from db.caption_filter import task_beginning
from db.reads import CaptionRecord
from db.search import Search
from dropline import caption_id
from dropline.contract import ObjectVersion, Status, TaskRequest
from dropline.deadline import Deadline
from dropline.errors import ObjectFiltered
from dropline.log import get_logger
from gallery.access import Principal, Scope, requires
from gallery.cursor import decode_cursor, encode_cursor
from gallery.documents import row_document, submitted_document
from gallery.edits import etag_of
from gallery.feed import Waiter
from gallery.limits import Overloaded
from gallery.resources import Resources
from gallery.schemas import (
    PROBLEMS,
    SUBMISSION_BODY,
    Caption,
    CaptionList,
    SubmittedCaption,
    UploadRequest,
    UploadSession,
)
from gallery.submission import AddressSubmission, FileSubmission, read_key, read_submission, read_task
from gallery.threads import in_thread
from operations.submit import Submitted

log = get_logger(__name__)

#: Longest time of an upload to Cloud Storage, with its repetitions, in seconds.
_UPLOAD_S = 60.0
_MOST_IN_LIST = 200
_GS_PREFIX = re.compile(r"gs://([^/]+)/?(.*)", re.DOTALL)
_KEY = Header(description="Names the object of an upload: a repetition with the key returns the first object.")
_Reader = Depends(requires(Scope.READ))
_Submitter = Annotated[Principal, Depends(requires(Scope.SUBMIT))]
_IdempotencyKey = Annotated[str | None, _KEY]


def router(resources: Resources) -> APIRouter:
    """The routes of the JSON API."""
    routes = APIRouter(prefix="/api", tags=["captions"], responses=PROBLEMS)
    api = _Api(resources)
    routes.add_api_route(
        "/captions",
        api.submit,
        methods=["POST"],
        status_code=HTTPStatus.ACCEPTED,
        response_model=SubmittedCaption,
        openapi_extra={"requestBody": SUBMISSION_BODY},
        summary="Submit a file, an object of the bucket, or an address",
    )
    routes.add_api_route(
        "/uploads",
        api.begin_upload,
        methods=["POST"],
        status_code=HTTPStatus.CREATED,
        response_model=UploadSession,
        responses={200: {"model": UploadSession, "description": "The object is there already."}},
        summary="Begin the upload of a large file to Cloud Storage",
    )
    routes.add_api_route(
        "/captions",
        api.captions,
        dependencies=[_Reader],
        response_model=CaptionList,
        summary="Captions, the newest first",
    )
    routes.add_api_route(
        "/captions/{id}",
        api.caption,
        dependencies=[_Reader],
        response_model=Caption,
        responses={202: {"model": SubmittedCaption, "description": "The caption is not finished."}},
        summary="One caption, or a wait for it",
    )
    return routes


class _Api:
    def __init__(self, resources: Resources) -> None:
        self._reader = resources.reader
        self._submissions = resources.submissions
        self._feed = resources.hub.feed
        self._hub = resources.hub
        self._most_waits = resources.settings.gallery.max_waits
        # Threads of their own: slow uploads must not delay reads.
        self._uploads = CapacityLimiter(resources.settings.gallery.threads)
        # And others than those of uploads: a stranger's server may be slow.
        self._fetches = CapacityLimiter(resources.settings.gallery.threads)
        self._fetch_s = resources.settings.fetch.timeout_s

    async def submit(
        self, request: Request, sender: _Submitter, idempotency_key: _IdempotencyKey = None
    ) -> Response:
        """A form with a `file`, or JSON with a `uri`: `gs://…` of the bucket, or an http(s) address.

        A file and an address are uploaded to the bucket. An object of the bucket is captioned where it is; the
        answer to a task that its metadata does not name goes to Postgres alone.
        """
        key = read_key(idempotency_key, sender.name)
        async with read_submission(request) as submission:
            limits = (self._uploads, 2 * _UPLOAD_S)
            if isinstance(submission, AddressSubmission) and submission.is_remote:
                limits = (self._fetches, 2 * _UPLOAD_S + self._fetch_s)
            submitted = await in_thread(lambda: self._submit(submission, key), *limits)
        log.info("submitted", sender=sender.name, uri=submitted.version.uri, task=str(submitted.task))
        return _accepted(submitted)

    async def begin_upload(
        self, sender: _Submitter, upload: Annotated[UploadRequest, Body()], idempotency_key: _IdempotencyKey = None
    ) -> Response:
        """The client sends the bytes to `session` itself, and then submits `uri`.

        200 without a session: the object of the `Idempotency-Key` is there already.
        """
        key = read_key(idempotency_key, sender.name)
        task = read_task(upload.task, upload.text)
        session = await in_thread(
            lambda: self._submissions.open_session(
                size_bytes=upload.size_bytes,
                name=upload.name,
                content_type=upload.content_type or None,
                task=task,
                key=key,
            ),
            self._uploads,
        )
        log.info("upload_begun", sender=sender.name, uri=session.uri)
        status = HTTPStatus.OK if session.address is None else HTTPStatus.CREATED
        return JSONResponse({"session": session.address, "uri": session.uri}, status)

    async def captions(
        self,
        q: Annotated[str, Query(max_length=500, description="Words; the last one may be unfinished.")] = "",
        status: Annotated[Status | Literal[""], Query()] = "",
        task: Annotated[str, Query(max_length=600, description="Task prompt, with or without its text.")] = "",
        prefix: Annotated[
            str, Query(max_length=1300, description="Of the object name, or of its `gs://` uri.")
        ] = "",
        model: Annotated[str, Query(max_length=300)] = "",
        cursor: Annotated[str, Query(max_length=100, description="`next` of the part before.")] = "",
        limit: Annotated[int, Query(ge=1, le=_MOST_IN_LIST)] = 50,
        order: Annotated[
            Literal["newest", "best"], Query(description="`best`: needs words; one part, the best matches first.")
        ] = "newest",
    ) -> Response:
        """Rows that meet every condition, as `docs/gallery.md` describes; an empty value is no condition."""
        bucket, name_prefix = _split(prefix)
        wanted = Search(
            words=q,
            statuses=(Status(status),) if status else (),
            task=task_beginning(task),
            prefix=name_prefix,
            bucket=bucket,
            model=model,
        )
        if order == "best":
            best = await in_thread(lambda: self._best(wanted, limit))
            return JSONResponse({"captions": [row_document(row) for row in best], "next": None})
        before = decode_cursor(cursor) if cursor else None
        rows = await in_thread(lambda: self._list(wanted, before, limit + 1))
        following = encode_cursor(rows[limit - 1].id) if len(rows) > limit else None
        return JSONResponse({"captions": [row_document(row) for row in rows[:limit]], "next": following})

    async def caption(
        self,
        request: Request,
        id: str,  # noqa: A002 - the name in the path
        wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for the end.")] = 0,
    ) -> Response:
        """200 with the row when it has ended; 202 when it has not, after a wait too.

        The `ETag` is that of the caption, for edits.
        """
        version, task = caption_id.decode(id)
        if wait:
            self._hub.require_listening()
            if self._feed.waiters >= self._most_waits:
                raise Overloaded(f"{self._most_waits} requests wait, and more are not allowed")
        async with self._waiting(request, version) as waiter:
            found = await self._find(version, task, waiter)
            loop = asyncio.get_running_loop()
            end = loop.time() + wait
            while not isinstance(found, CaptionRecord) and (left_s := end - loop.time()) > 0:
                if self._feed.has_ended or waiter.has_left:
                    break
                if await waiter.has_news(left_s):
                    found = await self._find(version, task, waiter)
        if not isinstance(found, CaptionRecord):
            return _accepted(found)
        return JSONResponse(row_document(found), headers={"etag": etag_of(found.caption)})

    @asynccontextmanager
    async def _waiting(self, request: Request, version: ObjectVersion) -> AsyncIterator[Waiter]:
        """A waiter that ends early when the client goes away: the number of waits is limited."""

        async def watch(waiter: Waiter) -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            waiter.leave()

        with self._feed.waiting_for(version) as waiter:
            watcher = asyncio.create_task(watch(waiter))
            try:
                yield waiter
            finally:
                watcher.cancel()

    async def _find(self, version: ObjectVersion, task: TaskRequest, waiter: Waiter) -> CaptionRecord | Submitted:
        """The row, if the row has ended; else its status."""
        row = await in_thread(lambda: self._row(version, task))
        if row is not None:
            return row if row.is_terminal else Submitted(version, task, row.status)
        if waiter.filtered is not None:
            filtered = waiter.filtered
            raise ObjectFiltered(
                f"{version.uri} is filtered and gets no caption ({filtered.reason}: {filtered.setting})"
            )
        return await in_thread(lambda: self._submissions.upcoming(version, task), self._uploads)

    def _row(self, version: ObjectVersion, task: TaskRequest) -> CaptionRecord | None:
        with self._reader.transaction() as connection:
            return reads.row_of(connection, version, str(task))

    def _list(self, wanted: Search, before: int | None, most: int) -> list[CaptionRecord]:
        with self._reader.transaction() as connection:
            return search.newest(connection, wanted, before, most)

    def _best(self, wanted: Search, most: int) -> list[CaptionRecord]:
        with self._reader.transaction() as connection:
            return search.best(connection, wanted, most)

    def _submit(self, submission: FileSubmission | AddressSubmission, key: str | None) -> Submitted:
        if isinstance(submission, AddressSubmission):
            if submission.is_remote:
                return self._submissions.upload_from(
                    submission.uri, task=submission.task, key=key, upload_s=_UPLOAD_S
                )
            return self._submissions.request(submission.uri, submission.task)
        return self._submissions.upload(
            submission.content,
            name=submission.name,
            content_type=submission.content_type,
            task=submission.task,
            key=key,
            deadline=Deadline.after(_UPLOAD_S),
        )


def _accepted(submitted: Submitted) -> Response:
    document = submitted_document(submitted)
    return JSONResponse(document, HTTPStatus.ACCEPTED, {"location": f"/api/captions/{document['id']}"})


def _split(prefix: str) -> tuple[str, str]:
    """Bucket and prefix of the object name."""
    match = _GS_PREFIX.fullmatch(prefix)
    return (match[1], match[2]) if match else ("", prefix)

"""The JSON API of edits: a person's caption in place of the model's, and back."""

import re
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Header, Response
from fastapi.responses import JSONResponse

from db.edits import EditedRow, EditTarget
from dropline import caption_id
from dropline.caption_tag import caption_tag
from dropline.log import get_logger
from gallery.access import Principal, Scope, requires
from gallery.documents import row_document
from gallery.problems import TagMissing
from gallery.resources import Resources
from gallery.schemas import EDIT_PROBLEMS, PROBLEMS, Caption, Edit
from gallery.submission import InvalidRequest
from gallery.threads import in_thread
from operations.edit import Editor

log = get_logger(__name__)

_TAG = re.compile(r'"([^"]{1,200})"')
_Editor = Annotated[Principal, Depends(requires(Scope.EDIT))]
_IfMatch = Annotated[
    str | None,
    Header(description="`ETag` of the caption that the person has read; `*` replaces any caption. Required."),
]


def router(resources: Resources) -> APIRouter:
    """The routes of edits."""
    routes = APIRouter(prefix="/api", tags=["captions"], responses=PROBLEMS | EDIT_PROBLEMS)
    api = _Edits(editor_of(resources))
    routes.add_api_route(
        "/captions/{id}",
        api.edit,
        methods=["PATCH"],
        response_model=Caption,
        summary="Replace a caption by a person's",
    )
    routes.add_api_route(
        "/captions/{id}/revert",
        api.revert,
        methods=["POST"],
        response_model=Caption,
        summary="Put the model's caption back",
    )
    return routes


def editor_of(resources: Resources) -> Editor:
    """An editor with the connections of the gallery."""
    rows = resources.rows
    return Editor(rows.database, rows.enqueue, rows.wake)


class _Edits:
    def __init__(self, editor: Editor) -> None:
        self._editor = editor

    async def edit(
        self,
        id: str,  # noqa: A002 - the name in the path
        sender: _Editor,
        edit: Annotated[Edit, Body()],
        if_match: _IfMatch = None,
    ) -> Response:
        """The caption is the person's until a person reverts it: no redo replaces it, and the metadata follow.

        412: another person, or the model, has changed the caption meanwhile. A repetition changes nothing.
        """
        target, tag = target_of(id), _tag(if_match)
        return _answer(
            await in_thread(lambda: self._editor.edit(target, edit.caption, by=sender.name, if_tag=tag)), sender
        )

    async def revert(
        self,
        id: str,  # noqa: A002 - the name in the path
        sender: _Editor,
        if_match: _IfMatch = None,
    ) -> Response:
        """The newest caption of the model takes the place of the person's, which stays in the history.

        Where the model has never captioned the row, a worker does so now; the person's caption stays until then.
        """
        target, tag = target_of(id), _tag(if_match)
        return _answer(await in_thread(lambda: self._editor.revert(target, by=sender.name, if_tag=tag)), sender)


def target_of(key: str) -> EditTarget:
    """The row of a public id.

    Raises:
        InvalidCaptionId.
    """
    version, task = caption_id.decode(key)
    return EditTarget(version.bucket, version.name, version.generation, str(task))


def etag_of(caption: str | None) -> str:
    """The `ETag` of a caption."""
    return f'"{caption_tag(caption)}"'


def _tag(if_match: str | None) -> str | None:
    if if_match is None:
        raise TagMissing(
            "send If-Match with the ETag of GET /api/captions/{id}, so that no caption is overwritten unseen; "
            "`If-Match: *` replaces any caption"
        )
    if if_match.strip() == "*":
        return None
    match = _TAG.fullmatch(if_match.strip())
    if match is None:
        raise InvalidRequest('If-Match must be one ETag in quotes, as `"0f3c…"`, or `*`')
    return match[1]


def _answer(edited: EditedRow, sender: Principal) -> Response:
    row = edited.row
    log.info("edited", sender=sender.name, uri=row.version.uri, task=row.task, changed=edited.is_changed)
    return JSONResponse(row_document(row), HTTPStatus.OK, {"etag": etag_of(row.caption)})

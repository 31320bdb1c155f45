"""Forms of the page: a question, a new or a person's caption, failed pictures once more. None needs the script."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from db.redrivable import RowFilter
from dropline import caption_id
from dropline.contract import TaskRequest
from dropline.errors import DroplineError, EditConflict, TransientError
from gallery.access import Scope, requires
from gallery.edits import editor_of, target_of
from gallery.page import Page, decoded
from gallery.page_route import page_route
from gallery.recaptions import recaptioner
from gallery.rendering import load_pages
from gallery.resources import Resources
from operations.redrive import FAILED, Redriver

#: Rows of one form; further rows are redriven from the command line.
MAX_ROWS = 5_000
_MAX_FIELD = 3_000
#: More than a caption may have: the refusal says how many.
_MAX_CAPTION = 20_000
#: Longest time of a form, in seconds: rows that are queued again are many messages.
_LIMIT_S = 60.0


def router(resources: Resources) -> APIRouter:
    """The routes of forms."""
    pages = load_pages()
    routes = APIRouter(include_in_schema=False, route_class=page_route(pages, _LIMIT_S))
    forms = _Forms(resources, Page(resources, pages))
    for path, endpoint, scope in (
        ("/pictures/{key}/ask", forms.ask, Scope.SUBMIT),
        ("/redrive", forms.redrive, Scope.EDIT),
        ("/pictures/{key}/edit", forms.edit, Scope.EDIT),
        ("/pictures/{key}/revert", forms.revert, Scope.EDIT),
        ("/pictures/{key}/redo", forms.redo, Scope.EDIT),
    ):
        routes.add_api_route(path, endpoint, methods=["POST"], dependencies=[Depends(requires(scope))])
    return routes


class _Forms:
    """The routes; each runs in a thread."""

    def __init__(self, resources: Resources, page: Page) -> None:
        self._submissions = resources.submissions
        self._rows = resources.rows
        self._editor = editor_of(resources)
        self._page = page

    def ask(
        self,
        request: Request,
        key: str,
        task: Annotated[str, Form(max_length=100)],
        text: Annotated[str, Form(max_length=_MAX_FIELD)] = "",
    ) -> Response:
        """Have the picture captioned with another task; leads to the page of its answer."""
        version, _ = decoded(key)
        try:
            asked = self._submissions.request(version.uri, TaskRequest.parse(task + text))
        except DroplineError as error:
            return self._page.refused(request, key, str(error), _status(error))
        return RedirectResponse(f"/pictures/{caption_id.encode(asked.version, asked.task)}", 303)

    def edit(
        self,
        request: Request,
        key: str,
        caption: Annotated[str, Form(max_length=_MAX_CAPTION)] = "",
        tag: Annotated[str, Form(max_length=100)] = "",
    ) -> Response:
        """Make the person's caption that of the picture; leads back to its page."""
        decoded(key)
        # A browser sends CRLF.
        words = caption.replace("\r\n", "\n")
        try:
            self._editor.edit(target_of(key), words, by=request.state.principal.name, if_tag=tag)
        except DroplineError as error:
            return self._page.refused(request, key, str(error), _status(error), words)
        return RedirectResponse(f"/pictures/{key}?saved=1", 303)

    def revert(self, request: Request, key: str, tag: Annotated[str, Form(max_length=100)] = "") -> Response:
        """Put the model's caption back; leads back to the page."""
        decoded(key)
        try:
            self._editor.revert(target_of(key), by=request.state.principal.name, if_tag=tag)
        except DroplineError as error:
            return self._page.refused(request, key, str(error), _status(error))
        return RedirectResponse(f"/pictures/{key}?saved=1", 303)

    def redo(self, request: Request, key: str) -> Response:
        """Have the picture captioned again with its task; leads to the page of the picture."""
        row = self._page.row(key)
        try:
            recaptioner(self._rows).redo(row)
        except DroplineError as error:
            return self._page.refused(request, key, str(error), _status(error))
        return RedirectResponse(f"/pictures/{key}?queued=1", 303)

    def redrive(
        self,
        id: Annotated[str, Form(max_length=_MAX_FIELD)] = "",  # noqa: A002 - the name of the field
        code: Annotated[str, Form(max_length=100)] = "",
        back: Annotated[str, Form(max_length=20)] = "",
    ) -> Response:
        """Queue failed rows again: all of a picture, or all with an error code."""
        redriver = Redriver(FAILED, self._rows.database, self._rows.enqueue, self._rows.wake)
        redriver.redrive(_filter(id, code), MAX_ROWS)
        where = f"/pictures/{id}" if id and back != "failures" else "/failures"
        return RedirectResponse(f"{where}?queued={redriver.redriven.total()}", 303)


def _status(error: DroplineError) -> int:
    if isinstance(error, TransientError):
        return 503
    return 409 if isinstance(error, EditConflict) else 400


def _filter(key: str, code: str) -> RowFilter:
    if not key:
        return RowFilter(error_codes=(code,))
    version, _ = decoded(key)
    return RowFilter(objects=((version.bucket, version.name, version.generation),))

"""Forms of the page: another task for a picture, and failed pictures once more. No form needs the script."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from db.redrivable import RowFilter
from dropline import caption_id
from dropline.contract import TaskRequest
from dropline.errors import DroplineError, TransientError
from gallery.access import Scope, requires
from gallery.page import Page, decoded
from gallery.page_route import page_route
from gallery.rendering import load_pages
from gallery.resources import Resources
from operations.redrive import FAILED, Redriver

#: Rows of one form; further rows are redriven from the command line.
MAX_ROWS = 5_000
_MAX_FIELD = 3_000
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
    ):
        routes.add_api_route(path, endpoint, methods=["POST"], dependencies=[Depends(requires(scope))])
    return routes


class _Forms:
    """The routes; each runs in a thread."""

    def __init__(self, resources: Resources, page: Page) -> None:
        self._submissions = resources.submissions
        self._rows = resources.rows
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
            return self._page.refused(request, key, str(error), 503 if isinstance(error, TransientError) else 400)
        return RedirectResponse(f"/pictures/{caption_id.encode(asked.version, asked.task)}", 303)

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


def _filter(key: str, code: str) -> RowFilter:
    if not key:
        return RowFilter(error_codes=(code,))
    version, _ = decoded(key)
    return RowFilter(objects=((version.bucket, version.name, version.generation),))

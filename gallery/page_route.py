"""Errors of a page's route, as pages for people."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from dropline.errors import DroplineError, ObjectGone, PermanentError, TransientError
from dropline.log import get_logger
from gallery.access import TOKEN_COOKIE, CredentialsRefused, ForeignSite, MissingCredentials, ScopeMissing
from gallery.problems import RETRY_AFTER_S, problem_of_http
from gallery.rendering import Pages, load_pages
from gallery.threads import REQUEST_S, within

log = get_logger(__name__)


class NoSuchPage(PermanentError):
    """The address has no page."""

    default_code = "no_such_page"


_STATUS = {NoSuchPage: 404, ObjectGone: 404, ScopeMissing: 403, CredentialsRefused: 401, ForeignSite: 403}
_TITLES = {404: "Not found", 403: "Not allowed", 401: "Not allowed", 503: "Not available", 400: "Not possible"}


def page_route(pages: Pages, limit_s: float = REQUEST_S) -> type[APIRoute]:
    """A class of routes whose errors are pages made with these templates; each request ends within `limit_s`."""

    class PageRoute(APIRoute):
        """A route whose expected errors become pages; without a valid token, the page of the login."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """The handler of a request."""
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                try:
                    async with within(limit_s):
                        return await handle(request)
                except MissingCredentials:
                    return _to_login(request)
                except CredentialsRefused as error:
                    # A browser keeps the cookie of a withdrawn token for weeks: a person must reach the login.
                    return _to_login(request) if TOKEN_COOKIE in request.cookies else error_page(pages, error)
                except DroplineError as error:
                    return error_page(pages, error)

            return handled

    return PageRoute


def add_page_of_unknown_address(app: FastAPI) -> None:
    """Make an unknown address a page for a browser; for programs, and below `/api/`, it is a problem."""
    pages = load_pages()

    async def unknown(request: Request, error: Exception) -> Response:
        is_for_programs = request.url.path.startswith("/api/") or "text/html" not in request.headers.get(
            "accept", ""
        )
        if is_for_programs:
            return await problem_of_http(request, error)
        return error_page(pages, NoSuchPage("this address belongs to no page of the gallery"))

    app.add_exception_handler(HTTPStatus.NOT_FOUND, unknown)


def _to_login(request: Request) -> Response:
    then = quote(request.url.path) if request.method == "GET" else "/"
    answer = RedirectResponse(f"/login?next={then}", 303)
    answer.delete_cookie(TOKEN_COOKIE, httponly=True, samesite="strict")
    return answer


def error_page(pages: Pages, error: DroplineError) -> Response:
    """An error as a page with its status."""
    status = 503 if isinstance(error, TransientError) else _STATUS.get(type(error), 400)
    if status == 503:
        log.warning("page_unavailable", code=error.code, error=str(error))
    values = {"title": _TITLES[status], "detail": str(error)} | EMPTY_FRAME
    response = pages.html("problem.html", values, status)
    if status == 503:
        response.headers["retry-after"] = str(RETRY_AFTER_S)
    return response


#: The values of the frame around a page without a search.
EMPTY_FRAME: dict[str, Any] = {"query": "", "kept": [], "view": "", "notice": None, "may_submit": False}

"""The login of a browser: a token becomes a cookie, since an image or an event stream is sent no other header."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from gallery.access import TOKEN_COOKIE, Access, CredentialsRefused
from gallery.page_route import EMPTY_FRAME, page_route
from gallery.rendering import Pages, load_pages
from gallery.resources import Resources

#: How long a browser keeps the token, in seconds.
_COOKIE_AGE_S = 30 * 86_400
_MAX_TOKEN = 500


def router(resources: Resources) -> APIRouter:
    """The routes of the login."""
    pages = load_pages()
    routes = APIRouter(include_in_schema=False, route_class=page_route(pages))
    login = _Login(resources.access, pages)
    routes.add_api_route("/login", login.form)
    routes.add_api_route("/login", login.enter, methods=["POST"])
    routes.add_api_route("/logout", login.leave, methods=["POST"])
    return routes


class _Login:
    def __init__(self, access: Access, pages: Pages) -> None:
        self._access = access
        self._pages = pages

    async def form(self, next: Annotated[str, Query()] = "/") -> Response:  # noqa: A002 - a name in addresses
        """The form for a token."""
        return self._form(next, "")

    async def enter(
        self,
        request: Request,
        token: Annotated[str, Form(max_length=_MAX_TOKEN)],
        next: Annotated[str, Form()] = "/",  # noqa: A002
    ) -> Response:
        """Keep the token in a cookie that no script can read and no other site can send."""
        try:
            self._access.owner_of(token.strip())
        except CredentialsRefused as error:
            return self._form(next, str(error))
        answer = RedirectResponse(_own_path(next), 303)
        answer.set_cookie(
            TOKEN_COOKIE,
            token.strip(),
            max_age=_COOKIE_AGE_S,
            httponly=True,
            samesite="strict",
            secure=_is_https(request),
        )
        return answer

    async def leave(self) -> Response:
        """Delete the cookie."""
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(TOKEN_COOKIE, httponly=True, samesite="strict")
        return answer

    def _form(self, then: str, refused: str) -> Response:
        values = EMPTY_FRAME | {"view": "login", "next": _own_path(then), "refused": refused}
        return self._pages.html("login.html", values, 401 if refused else 200)


def _is_https(request: Request) -> bool:
    """Whether the browser uses HTTPS. A proxy may end TLS; the Origin of the form has the browser's scheme."""
    return "https" in (request.url.scheme, request.headers.get("origin", "").partition(":")[0])


def _own_path(path: str) -> str:
    """The path, if it stays on this site."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own else "/"

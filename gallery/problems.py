"""Errors as problems (RFC 9457): Dropline's codes, and words with the remedy."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from dropline.errors import (
    AccessDenied,
    BackfillTakenOver,
    DroplineError,
    EditConflict,
    FetchTooLarge,
    ImageRefused,
    InvalidCaptionId,
    NoSuchCaption,
    ObjectGone,
    ObjectMissing,
    PermanentError,
    RowEnded,
    SettingsError,
    TransientError,
)
from dropline.log import get_logger
from dropline.scaling.errors import ScalingDenied
from gallery.access import CredentialsRefused, ForeignSite, MissingCredentials, ScopeMissing
from gallery.limits import RequestTooLarge, RequestTooSlow, TooManyRequests

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
#: Seconds after which a request that met an outage may be repeated.
RETRY_AFTER_S = 5


class TagMissing(PermanentError):
    """An edit does not say which caption it replaces."""

    default_code = "tag_missing"


_DETAILS = {
    HTTPStatus.NOT_FOUND: "no route has this address; /openapi.json lists the routes of the API",
    HTTPStatus.METHOD_NOT_ALLOWED: "the address has no such method; /openapi.json lists the methods of each route",
}
# The first class that fits.
_STATUS: tuple[tuple[type[DroplineError], HTTPStatus], ...] = (
    (MissingCredentials, HTTPStatus.UNAUTHORIZED),
    (CredentialsRefused, HTTPStatus.UNAUTHORIZED),
    (ScopeMissing, HTTPStatus.FORBIDDEN),
    (ForeignSite, HTTPStatus.FORBIDDEN),
    (InvalidCaptionId, HTTPStatus.NOT_FOUND),
    (ObjectMissing, HTTPStatus.NOT_FOUND),
    (ObjectGone, HTTPStatus.NOT_FOUND),
    (BackfillTakenOver, HTTPStatus.CONFLICT),
    (NoSuchCaption, HTTPStatus.NOT_FOUND),
    (RowEnded, HTTPStatus.CONFLICT),
    (TagMissing, HTTPStatus.PRECONDITION_REQUIRED),
    (EditConflict, HTTPStatus.PRECONDITION_FAILED),
    (RequestTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (FetchTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (RequestTooSlow, HTTPStatus.REQUEST_TIMEOUT),
    (TooManyRequests, HTTPStatus.TOO_MANY_REQUESTS),
    (TransientError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ScalingDenied, HTTPStatus.INTERNAL_SERVER_ERROR),
    (AccessDenied, HTTPStatus.INTERNAL_SERVER_ERROR),
    (SettingsError, HTTPStatus.INTERNAL_SERVER_ERROR),
)


def add_problem_handlers(app: FastAPI) -> None:
    """Make every error of the application a problem."""
    app.add_exception_handler(DroplineError, _of_dropline)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, problem_of_http)


def problem_of(error: DroplineError) -> Response:
    """The problem of an error with a name."""
    status = status_of(error)
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, TransientError):
        headers["retry-after"] = str(max(1, round(getattr(error, "retry_after_s", RETRY_AFTER_S))))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request_not_served", status=status.value, code=error.code, error=str(error))
    return problem(status, error.code, str(error), headers)


def status_of(error: DroplineError) -> HTTPStatus:
    """The HTTP status of an error with a name."""
    if isinstance(error, ImageRefused) and error.code == "object_too_large":
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.UNPROCESSABLE_ENTITY)


def problem(status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as an answer."""
    document = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "code": code,
    }
    return JSONResponse(document, status, headers, MEDIA_TYPE)


def fault() -> Response:
    """The problem of an error without a name; uvicorn logs the error."""
    detail = "the gallery has a fault; its log has the details"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", detail)


async def _of_dropline(_request: Request, error: Exception) -> Response:
    assert isinstance(error, DroplineError)
    return problem_of(error)


async def _of_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", words_of(error.errors()))


async def problem_of_http(_request: Request, error: Exception) -> Response:
    """The problem of an error of the framework: an unknown address, an unknown method, an unreadable body."""
    assert isinstance(error, HTTPException)
    # FastAPI makes 400 of every error that ends the reading of a body.
    if isinstance(error.__cause__, DroplineError):
        return problem_of(error.__cause__)
    status = HTTPStatus(error.status_code)
    detail = str(error.detail)
    # Without a text of its own, an error has the phrase of its status.
    if detail == status.phrase:
        detail = _DETAILS.get(status, detail)
    return problem(status, status.name.lower(), detail, error.headers)


def words_of(errors: Any) -> str:
    """The reasons of refused values, with the place of each value."""
    parts = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in errors)
    return "; ".join(parts)[:1000]

"""Responses and errors of HTTP as results and errors of the client. Pure."""

import email.utils
import re
import time
from http import HTTPStatus
from typing import Any

import httpx2

from dropline.client.errors import Problem, ServiceError, ServiceTimeout, ServiceUnreachable, UnexpectedAnswer

#: A repetition can succeed: too many requests, an outage, or a proxy without a service behind it.
TRANSIENT = frozenset({408, 429, 502, 503, 504})
_RECEIVED = re.compile(r"bytes=0-(\d+)")


def document_of(response: httpx2.Response) -> Any:
    """The JSON of a successful response.

    Raises:
        Problem: the service refused the request.
        UnexpectedAnswer: the response is a redirect, or has no JSON.
    """
    if response.is_error:
        raise problem_of(response)
    try:
        if response.is_success:
            return response.json()
    except ValueError:
        pass
    raise UnexpectedAnswer(
        f"{_place(response.request)} answered {response.status_code} with "
        f"{response.headers.get('content-type', 'no content')}, which is no answer of Dropline's API: check the "
        "address, and whether a login page is in front of the service"
    )


def check(response: httpx2.Response) -> None:
    """Refuse an answer that is not a list of lines.

    Raises:
        Problem: the service refused the request.
        UnexpectedAnswer: the response is a redirect, or of another type.
    """
    kind = response.headers.get("content-type", "")
    if response.is_error or not response.is_success or not kind.startswith("application/x-ndjson"):
        document_of(response)
        raise UnexpectedAnswer(f"{_place(response.request)} answered with {kind or 'no content'}, not with rows")


def problem_of(response: httpx2.Response) -> Problem:
    """The problem document of a refusal (RFC 9457); of another refusal, the HTTP status in words."""
    document = _json_object(response)
    status = response.status_code
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else str(status)
    detail, title, name = (document.get(key) for key in ("detail", "title", "code"))
    words = (
        detail if isinstance(detail, str) and detail else f"{_place(response.request)} answered {status} {phrase}"
    )
    code = name if isinstance(name, str) else phrase.lower().replace(" ", "_")
    return Problem(words, code=code, status=status, title=title if isinstance(title, str) else phrase)


def error_of(error: httpx2.RequestError) -> ServiceError:
    """The client's error for an error of HTTP."""
    place, reason = _place(error.request), str(error) or type(error).__name__
    match error:
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return ServiceUnreachable(
                f"cannot connect to {place}: {reason}; check the address, and that it is served"
            )
        case httpx2.TimeoutException():
            return ServiceTimeout(f"{place} did not answer in time ({reason})")
        case httpx2.TransportError():
            return ServiceUnreachable(f"the connection to {place} was lost: {reason}")
        case _:
            return UnexpectedAnswer(f"the answer of {place} cannot be read: {reason}")


def is_transient(error: httpx2.RequestError) -> bool:
    """Whether a repetition of the request can succeed."""
    fixed = httpx2.UnsupportedProtocol | httpx2.LocalProtocolError
    return isinstance(error, httpx2.TransportError) and not isinstance(error, fixed)


def retry_after_s(response: httpx2.Response) -> float:
    """The seconds of `Retry-After`, a number or a date; 0 without one."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def received_bytes(response: httpx2.Response) -> int | None:
    """The bytes that a session of Cloud Storage has; None: all, and the object exists.

    Raises:
        Problem: Cloud Storage refused.
    """
    if response.status_code == HTTPStatus.PERMANENT_REDIRECT:
        match = _RECEIVED.fullmatch(response.headers.get("range", ""))
        return int(match[1]) + 1 if match else 0
    # The object of the idempotency key exists: an earlier upload has ended.
    if response.is_success or response.status_code == HTTPStatus.PRECONDITION_FAILED:
        return None
    raise problem_of(response)


def _place(request: httpx2.Request) -> str:
    """Scheme, host and port: a session's path is a secret."""
    url = request.url
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}"


def _json_object(response: httpx2.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}

"""From an HTTP request to an HTTP answer: every delivery gets one log line and one status.

Pub/Sub takes 2xx as an acknowledgement and delivers anything else again, with back-off. So 204 says that
nothing is left to do, a malformed message included: it would be malformed for ever. 401, 403 and 503 leave the
event with Pub/Sub, because something outside the event has to change first.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import IO

from flask import Request, Response, jsonify
from structlog.contextvars import bind_contextvars, clear_contextvars

from dropline.deadline import Deadline
from dropline.errors import DroplineError, ForeignBucket, InvalidEvent, TransientError
from dropline.log import get_logger
from dropline.scaling.errors import ScalingDenied
from dropline.selection import Skip
from trigger_fn.errors import MissingToken, TokenRefused
from trigger_fn.events import parse_event
from trigger_fn.intake import Intake, Outcome

#: All that a request may take: the 3 seconds within which an outage is answered with 503, less a margin.
REQUEST_BUDGET_S = 2.7
#: A notification has a few kilobytes: 8 KiB of metadata and a name of 1 KiB, in base64.
MAX_BODY_BYTES = 1_000_000
_CHUNK_BYTES = 65_536
#: Where `GET` says that the process lives. (Cloud Run keeps paths that end in z for itself.)
_LIVENESS_PATHS = ("/", "/healthz")

#: Accepts the value of an `Authorization` header, or raises.
Authenticate = Callable[[str, Deadline], None]

log = get_logger(__name__)


class Endpoint:
    """The function's HTTP side. Safe to call from many threads."""

    def __init__(self, intake: Intake, authenticate: Authenticate | None) -> None:
        self._intake = intake
        self._authenticate = authenticate

    def respond(self, request: Request) -> Response:
        """Answer one request: 204 done or nothing to do, 401, 403, 405, or 503 when something is away."""
        if request.method != "POST":
            return _not_a_delivery(request)
        clear_contextvars()
        try:
            outcome = self._take(request)
        except InvalidEvent as error:
            log.warning("event_invalid", error=str(error))
        except (MissingToken, TokenRefused, ForeignBucket) as error:
            log.warning("event_refused", code=error.code, error=str(error))
            return _refusal(error)
        except (TransientError, ScalingDenied) as error:
            log.error("event_deferred", code=error.code, error=str(error))
            return _refusal(error)
        else:
            log.info(outcome.log_event, **outcome.details)
        return Response(status=HTTPStatus.NO_CONTENT)

    def _take(self, request: Request) -> Outcome:
        deadline = Deadline.after(REQUEST_BUDGET_S)
        body = _bounded_body(request.stream)
        if self._authenticate is not None:
            self._authenticate(request.headers.get("Authorization", ""), deadline)
        event = parse_event({name.lower(): value for name, value in request.headers}, body)
        if isinstance(event, Skip):
            return Outcome("event_skipped", {"reason": event.reason})
        version = event.version
        bind_contextvars(
            bucket=version.bucket,
            object=version.name,
            generation=version.generation,
            message_id=event.message_id,
        )
        return self._intake.handle(event, deadline)


def _bounded_body(stream: IO[bytes]) -> bytes:
    """The whole body; too large a one is read to its end, so that the connection stays usable, and dropped."""
    chunks: list[bytes] = []
    size = 0
    while chunk := stream.read(_CHUNK_BYTES):
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            chunks.append(chunk)
    if size > MAX_BODY_BYTES:
        raise InvalidEvent(f"the body has {size} bytes, above the {MAX_BODY_BYTES} of any notification")
    return b"".join(chunks)


def _not_a_delivery(request: Request) -> Response:
    if request.method in ("GET", "HEAD") and request.path in _LIVENESS_PATHS:
        return Response("alive\n", mimetype="text/plain")
    return Response(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})


def _refusal(error: DroplineError) -> Response:
    """A code is enough for the caller; what lies behind it stands in the log."""
    response = jsonify(error=error.code)
    response.status_code = _status_of(error)
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _status_of(error: DroplineError) -> HTTPStatus:
    if isinstance(error, TransientError | ScalingDenied):
        # A pool that may not be woken is the deployment's fault, and the event is to outlive it.
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.UNAUTHORIZED if isinstance(error, MissingToken) else HTTPStatus.FORBIDDEN

"""From HTTP request to HTTP response: one log line and one status per delivery.

Pub/Sub takes 2xx as an acknowledgement and delivers again, with back-off, after any other status. So 204 means
that no work is left; a malformed message gets 204 too, since a new delivery would be equally malformed. 401, 403,
408, 415 and 503 leave the event with Pub/Sub, because the cause lies outside the event; after the last attempt the
dead-letter topic keeps the event, and an alert reports it.
"""

import time
from collections.abc import Callable
from http import HTTPStatus

from flask import Request, Response, jsonify
from structlog.contextvars import bind_contextvars, clear_contextvars

from db.errors import is_answer
from dropline.deadline import START_WAIT_S, Bulkhead, Deadline
from dropline.errors import DroplineError, ForeignBucket, InvalidEvent, UnknownDelivery
from dropline.log import get_logger
from dropline.scaling.wake_queue import CHECK_SUFFIX
from dropline.scaling.worker_pool import OPERATION_NAME
from dropline.selection import Skip
from trigger_fn.body import Body, BodyTooSlow
from trigger_fn.events import parse_event
from trigger_fn.intake import Intake, Outcome
from trigger_fn.pool_check import CheckRequest
from trigger_fn.push_auth import Credentials, MissingToken, TokenRefused

#: Longest duration of a request: an outage must be answered with 503 within 3 seconds; the rest is a margin. Only
#: the wait for Cloud Run, after row and message, has a time of its own (`trigger_fn.activation.WAKE_BUDGET_S`).
REQUEST_BUDGET_S = 2.7
#: Longest duration of a start-up probe; Terraform sets the timeout of the probe, which is longer.
START_PROBE_S = 1.5
#: Threads that read bodies: as many as gunicorn has for requests (Dockerfile).
_BODY_THREADS = 80
#: Paths of the liveness check by `GET`. (Cloud Run reserves paths that end in z.)
_LIVENESS_PATHS = ("/", "/healthz")
#: Path of the readiness check: 503 with a code where Postgres, its schema or the login cannot be used.
_READINESS_PATH = "/ready"
#: Path of the start-up probe: 503 until Postgres has answered this process, for `START_WAIT_S` at most.
_START_PATH = "/started"
_GET_PATHS = (*_LIVENESS_PATHS, _READINESS_PATH, _START_PATH)

#: Path of the call that Cloud Tasks makes when the rows of a sleeping worker pool are due.
WAKE_PATH = "/wake"

#: Path of the call that Cloud Tasks makes after the worker pool was woken.
CHECK_PATH = f"{WAKE_PATH}{CHECK_SUFFIX}"
_LARGEST_NUMBER = 1_000_000

#: Verifies that the caller may make the request, or raises.
Authenticate = Callable[[Credentials, Deadline], None]
#: Checks that events can be stored, or raises.
Check = Callable[[Deadline], None]

log = get_logger(__name__)


class Endpoint:
    """The HTTP endpoint of the function. Thread-safe."""

    def __init__(
        self,
        intake: Intake,
        authenticate: Authenticate | None,
        check: Check = lambda _deadline: None,
        check_pool: Callable[[CheckRequest], Outcome] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """An endpoint; without `authenticate`, a service in front of the function checks callers.

        Args:
            intake: of events.
            authenticate: of callers.
            check: of the database.
            check_pool: of the worker pool; None for a deployment without scale to zero.
            clock: in seconds.
        """
        self._intake = intake
        self._authenticate = authenticate
        self._check = check
        self._check_pool = check_pool
        self._body_threads = Bulkhead("body", _BODY_THREADS)
        self._clock = clock
        self._began = clock()
        self._has_started = False

    def close(self) -> None:
        """End the threads that read bodies."""
        self._body_threads.close()

    def find_problem(self) -> DroplineError | None:
        """The reason why no event can be accepted now; None: none is known. Logs the reason."""
        try:
            self._check(Deadline.after(REQUEST_BUDGET_S))
        except DroplineError as error:
            # A new instance may be without its network: the start-up probe waits for it.
            tell = log.error if is_answer(error) else log.warning
            tell("function_not_ready", code=error.code, error=str(error))
            return error
        return None

    def has_started(self) -> bool:
        """True once Postgres has answered this process, whatever it answered, and always after `START_WAIT_S`.

        A new instance may be without its network for a minute or more. An outage must not keep it from starting.
        """
        if not self._has_started:
            waited_s = self._clock() - self._began
            if waited_s < START_WAIT_S:
                self._has_started = self._answers()
            else:
                log.warning("started_without_postgres", waited_s=round(waited_s))
                self._has_started = True
        return self._has_started

    def _answers(self) -> bool:
        try:
            self._check(Deadline.after(START_PROBE_S))
        except DroplineError as error:
            return is_answer(error)
        return True

    def respond(self, request: Request) -> Response:
        """Answer a request.

        204 done or no work left, 401, 403, 405, 408 for a body that is too slow, 415, or 503 when a service is
        unavailable.
        """
        body = Body(request, self._body_threads)
        response = self._deliver(request, body) if request.method == "POST" else self._not_a_delivery(request)
        body.leave(response)
        return response

    def _deliver(self, request: Request, body: Body) -> Response:
        clear_contextvars()
        try:
            outcome = self._take(request, body)
        except InvalidEvent as error:
            log.warning("event_invalid", error=str(error))
        except (MissingToken, TokenRefused, ForeignBucket, UnknownDelivery) as error:
            log.warning("event_refused", code=error.code, error=str(error))
            return _refusal(error)
        except DroplineError as error:
            # A fault of the deployment or of a service: the event must outlive the repair.
            log.error("event_deferred", code=error.code, error=str(error))
            return _refusal(error)
        else:
            log.info(outcome.log_event, **outcome.details)
        return Response(status=HTTPStatus.NO_CONTENT)

    def _not_a_delivery(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD") or request.path not in _GET_PATHS:
            return Response(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})
        if request.path == _START_PATH:
            return _start_answer(has_started=self.has_started())
        if request.path == _READINESS_PATH and (problem := self.find_problem()):
            return _refusal(problem)
        return Response("ready\n" if request.path == _READINESS_PATH else "alive\n", mimetype="text/plain")

    def _take(self, request: Request, body: Body) -> Outcome:
        deadline = Deadline.after(REQUEST_BUDGET_S)
        # First: the body of a refused caller is not read.
        if self._authenticate is not None:
            self._authenticate(_credentials(request), deadline)
        if request.path == WAKE_PATH:
            return self._intake.wake(deadline)
        if request.path == CHECK_PATH:
            # Never an event: the caller may have no right to deliver one.
            return (
                self._check_pool(_check_request(request)) if self._check_pool else Outcome("no_pool_to_check", {})
            )
        headers = {name.lower(): value for name, value in request.headers}
        event = parse_event(headers, body.read(deadline))
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


def _start_answer(*, has_started: bool) -> Response:
    status = HTTPStatus.OK if has_started else HTTPStatus.SERVICE_UNAVAILABLE
    return Response("started\n" if has_started else "starting\n", status, mimetype="text/plain")


def _credentials(request: Request) -> Credentials:
    return Credentials(
        request.headers.get("Authorization", ""),
        wakes=request.path in (WAKE_PATH, CHECK_PATH),
        has_second_token="X-Serverless-Authorization" in request.headers,
    )


def _check_request(request: Request) -> CheckRequest:
    """The parameters of a task; those that Dropline has not written count as absent."""
    number, operation = request.args.get("number", ""), request.args.get("operation", "")
    is_number = number.isascii() and number.isdigit() and len(number) <= len(str(_LARGEST_NUMBER))
    return CheckRequest(int(number) if is_number else 0, operation if OPERATION_NAME.fullmatch(operation) else "")


def _refusal(error: DroplineError) -> Response:
    """The caller gets the code alone; the log has the details."""
    response = jsonify(error=error.code)
    response.status_code = _status_of(error)
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _status_of(error: DroplineError) -> HTTPStatus:
    match error:
        case MissingToken():
            return HTTPStatus.UNAUTHORIZED
        case TokenRefused() | ForeignBucket():
            return HTTPStatus.FORBIDDEN
        case UnknownDelivery():
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        case BodyTooSlow():
            return HTTPStatus.REQUEST_TIMEOUT
        case _:
            return HTTPStatus.SERVICE_UNAVAILABLE

"""The state of one stream of events across its connections. No I/O."""

import json
from contextlib import suppress

import httpx2

from dropline.client.answers import TRANSIENT, document_of, error_of, is_transient, problem_of, retry_after_s
from dropline.client.errors import Problem, ServiceError, UnexpectedAnswer
from dropline.client.flows import Api
from dropline.client.results import Caption, Change, Reset
from dropline.client.steps import Call

#: Most bytes of one event; a row with hundreds of polygons has some hundred thousand.
MOST_EVENT_BYTES = 16 * 2**20
#: Repetitions without an event in between: some three minutes. Before the first event fewer: a wrong address.
_REPETITIONS, _FIRST_REPETITIONS = 12, 4
_LONGEST_PAUSE_S = 30.0


class EventFeed:
    """Reads events, and decides when to connect again."""

    def __init__(self, api: Api, last_event_id: str | None) -> None:
        """Begin after an event, or now."""
        self._api = api
        self._last_event_id = last_event_id or ""
        self._failures = 0
        self._has_begun = False
        self._retry_s = 1.0

    @property
    def request(self) -> Call:
        """The next connection's request: it goes on after the last event that was taken."""
        return self._api.stream(self._last_event_id)

    def check(self, response: httpx2.Response) -> None:
        """Accept a stream.

        Raises:
            Problem: the service refused.
            UnexpectedAnswer: the response is no stream of events.
        """
        if response.headers.get("content-type", "").partition(";")[0].strip() != "text/event-stream":
            document_of(response)
            raise UnexpectedAnswer("the answer is no stream of events; check the address of the service")
        if response.is_error:
            raise problem_of(response)

    def take(self, event: httpx2.ServerSentEvent) -> Change | Reset | None:
        """The meaning of an event; None for an id alone, and for events of later releases.

        Raises:
            UnexpectedAnswer: the event has no row.
        """
        self._failures, self._has_begun = 0, True
        # An event without an id does not end the id of the connection before.
        self._last_event_id = event.id or self._last_event_id
        if event.retry is not None:
            self._retry_s = min(event.retry / 1000, _LONGEST_PAUSE_S)
        match event.event:
            case "caption":
                return Change(Caption.from_document(_json(event.data)), self._last_event_id)
            case "reset":
                return Reset(self._last_event_id)
            case _:
                return None

    def pause_after(self, error: httpx2.RequestError | Problem | None, response: httpx2.Response | None) -> float:
        """Seconds until the next connection.

        Args:
            error: None: the service ended the stream.
            response: of the refusal.

        Raises:
            ServiceError: another connection cannot help, or too many have failed in a row.
        """
        self._failures += 1
        failure = _failure(error)
        most = _REPETITIONS if self._has_begun else _FIRST_REPETITIONS
        if failure is not None and (not _may_help(error) or self._failures > most):
            raise failure
        pause: float = min(self._retry_s * 2 ** (self._failures - 1), _LONGEST_PAUSE_S)
        return pause if response is None else max(pause, retry_after_s(response))


def _failure(error: httpx2.RequestError | Problem | None) -> ServiceError | None:
    return error_of(error) if isinstance(error, httpx2.RequestError) else error


def _may_help(error: httpx2.RequestError | Problem | None) -> bool:
    return (
        is_transient(error)
        if isinstance(error, httpx2.RequestError)
        else error is not None and error.status in TRANSIENT
    )


def _json(text: str) -> object:
    with suppress(ValueError):
        return json.loads(text)
    raise UnexpectedAnswer(f"an event has no JSON: {text[:80]!r}")

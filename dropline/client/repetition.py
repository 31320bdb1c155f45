"""Requests that are repeated where a repetition can help. No I/O, no sleep."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import httpx2

from dropline.client.answers import TRANSIENT, error_of, is_transient, problem_of, retry_after_s
from dropline.client.errors import ServiceError, UnexpectedAnswer
from dropline.client.steps import Call, Flow, Pause
from dropline.deadline import Deadline

_REPETITIONS = 4
#: Seconds for the answer to the last request beyond the deadline.
_LEAST_SILENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Tried:
    """The outcome of one request."""

    response: httpx2.Response | None
    #: The error if a repetition can help.
    failure: ServiceError | None

    @property
    def retry_after_s(self) -> float:
        """The seconds of `Retry-After`; 0 without one."""
        return 0.0 if self.response is None else retry_after_s(self.response)

    def required(self) -> httpx2.Response:
        """The response; raises the failure."""
        if self.failure is not None or self.response is None:
            raise self.failure or UnexpectedAnswer("no answer")
        return self.response


def pauses() -> Iterator[float]:
    """Seconds between repetitions: growing, and jittered, so that clients do not come back together."""
    for number in range(_REPETITIONS):
        yield 0.25 * 2**number * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def answered(call: Call, deadline: Deadline) -> Flow[httpx2.Response]:
    """The response, after repetitions where these can help. Every request is safe to repeat.

    Raises:
        ServiceError: no repetition had a response that is not transient, or the deadline is too near for one more.
    """
    for pause in pauses():
        outcome = yield from tried(_within(call, deadline))
        wait_s = max(pause, outcome.retry_after_s)
        if outcome.failure is None or wait_s > deadline.remaining_s():
            return outcome.required()
        yield Pause(wait_s)
    outcome = yield from tried(_within(call, deadline))
    return outcome.required()


def _within(call: Call, deadline: Deadline) -> Call:
    return replace(call, silence_s=min(call.silence_s, deadline.remaining_s() + _LEAST_SILENCE_S))


def tried(call: Call) -> Flow[Tried]:
    """The response, and the error if a repetition can help."""
    try:
        response: httpx2.Response = yield call
    except httpx2.RequestError as error:
        if not is_transient(error):
            raise error_of(error) from error
        return Tried(None, error_of(error))
    return Tried(response, problem_of(response) if response.status_code in TRANSIENT else None)

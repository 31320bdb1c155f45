"""The retry policy, pure: from an error and the counts of a row to a decision."""

import random
from dataclasses import dataclass
from typing import Protocol

from billiard.exceptions import SoftTimeLimitExceeded

from dropline.errors import (
    AccessDenied,
    DecoderLost,
    DroplineError,
    EngineLost,
    ObjectGone,
    PermanentError,
    TransientError,
)
from dropline.settings import WorkerSettings

_TIMEOUT = "inference_timeout"


class Counts(Protocol):
    """Numbers of attempts; see `dropline.contract.Claim`."""

    @property
    def attempt(self) -> int:
        """Number of the current attempt, from 1."""

    @property
    def lost_attempts(self) -> int:
        """Earlier attempts ended by the death of a process, or counted so."""

    @property
    def slow_attempts(self) -> int:
        """Earlier attempts ended by the soft time limit."""

    @property
    def failing_s(self) -> float:
        """Seconds since the first transient error; 0 before one."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Try again, after `delay_s` seconds."""

    delay_s: float
    code: str
    message: str
    #: True if the attempt counts as lost, not as a retry.
    lost: bool = False
    #: True if the attempt ended at the soft time limit.
    slow: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The row becomes `failed`, with error code and message."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The generation no longer exists: no failure, and no retry."""


Decision = RetryLater | GiveUp | Gone


def decide(error: BaseException, counts: Counts, settings: WorkerSettings, rng: random.Random) -> Decision:
    """The decision about an error of the current attempt.

    A permanent error fails the row at once. A transient error or a missing right is retried for `retry_for_s`
    seconds. An error possibly caused by the image (a dead engine or decoder, an unexpected error) may happen
    `max_lost_attempts` times.

    A soft time limit is no death: a slow network, a busy machine or an engine that starts may cause the limit, for
    many images alike. The limit has a count of its own, `max_slow_attempts`. The default of 10 spans about an hour
    with the pauses, so a shorter fault sets no image aside. An image that is always too slow ends after that hour.
    """
    match error:
        case ObjectGone():
            return Gone()
        case PermanentError():
            return GiveUp(error.code, str(error))
        case EngineLost() | DecoderLost():
            return _lost(error.code, str(error), counts, settings, rng)
        case SoftTimeLimitExceeded():
            return _slow(counts, settings, rng)
        case TransientError() | AccessDenied():
            return _again(error, counts, settings, rng)
        case _:
            return _lost(*_unforeseen(error), counts, settings, rng)


def backoff_s(failing_s: float, settings: WorkerSettings, rng: random.Random) -> float:
    """Seconds to wait after errors for `failing_s` seconds: about as long again, so the pauses grow exponentially.

    Between half and one and a half times `failing_s`, at least half the base, and at most the cap.
    """
    bound = min(settings.retry_cap_s, max(settings.retry_base_s, failing_s))
    return min(settings.retry_cap_s, rng.uniform(0.5, 1.5) * bound)


def is_out_of_time(failing_s: float, settings: WorkerSettings) -> bool:
    """True if a fault outside the image has lasted for `retry_for_s` seconds."""
    return failing_s >= settings.retry_for_s


def _again(
    error: TransientError | AccessDenied, counts: Counts, settings: WorkerSettings, rng: random.Random
) -> RetryLater | GiveUp:
    if is_out_of_time(counts.failing_s, settings):
        return GiveUp(error.code, _gave_up(str(error), counts.attempt))
    return RetryLater(backoff_s(counts.failing_s, settings, rng), error.code, str(error))


def _lost(
    code: str, message: str, counts: Counts, settings: WorkerSettings, rng: random.Random
) -> RetryLater | GiveUp:
    if counts.lost_attempts + 1 >= settings.max_lost_attempts:
        return GiveUp(code, _gave_up(message, counts.attempt))
    return RetryLater(backoff_s(counts.failing_s, settings, rng), code, message, lost=True)


def _slow(counts: Counts, settings: WorkerSettings, rng: random.Random) -> RetryLater | GiveUp:
    message = f"no caption within {settings.soft_time_limit_s} s (DROPLINE_WORKER__SOFT_TIME_LIMIT_S)"
    if counts.slow_attempts + 1 >= settings.max_slow_attempts:
        return GiveUp(_TIMEOUT, _gave_up(message, counts.attempt))
    return RetryLater(backoff_s(counts.failing_s, settings, rng), _TIMEOUT, message, slow=True)


def _unforeseen(error: BaseException) -> tuple[str, str]:
    match error:
        case MemoryError():
            return "out_of_memory", "the worker ran out of memory while it worked on this image"
        case DroplineError():
            return error.code, str(error)
        case _:
            return "internal_error", f"unexpected {type(error).__name__}: {error}"


def _gave_up(message: str, attempts: int) -> str:
    return f"given up after {attempts} attempt{'' if attempts == 1 else 's'}: {message}"
